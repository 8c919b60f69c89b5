"""The genesis of a worker: with which spec and from which seq it began, so that its whole life can be run again.

A framed log beside the signal log, one entry for each beginning. Snapshots come and go and tell of the present alone;
what began as what, and where, is kept as long as the signals are.
"""

import os
from pathlib import Path

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.tape.logs import AppendLog, read_log


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is the first seq read, `live_from` the first whose signals may leave, `n` the number of the first signal,
    `position` what was held then, by the fills of those before it."""

    spec: WorkerSpec
    seq: int
    live_from: int
    n: int
    position: float = 0.0


def genesis_path(folder: Path) -> Path:
    return folder / "genesis.log"


def note_genesis(folder: Path, genesis: Genesis) -> None:
    """Appends a beginning. Survives kill -9; `sync_genesis` makes it survive a power cut. Raises OSError."""
    log = AppendLog(genesis_path(folder))
    try:
        log.append(msgspec.msgpack.encode(genesis))
    finally:
        log.close()


def sync_genesis(folder: Path) -> None:
    """Returns when every beginning is on the disk: before a snapshot that outlives a power cut. Raises OSError."""
    fd = os.open(genesis_path(folder), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_geneses(folder: Path) -> list[Genesis]:
    """Every beginning of a worker's state folder, oldest first; empty if none was noted.

    Raises CorruptRecordError, VersionMismatchError, msgspec.DecodeError.
    """
    path = genesis_path(folder)
    if not path.exists():
        return []
    return [msgspec.msgpack.decode(payload, type=Genesis) for payload in read_log(path)]
