"""The genesis of a worker: with which spec and from which seq it began, so that its whole life can be run again.

A framed log beside the signal log, one entry for each beginning. Snapshots come and go and tell of the present alone;
what began as what, and where, is kept as long as the signals are.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import CorruptRecordError, naming
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.snapshot import damaged_snapshots

log = logging.getLogger(__name__)


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is the first seq read, `live_from` the first whose signals may leave, `n` the number of the first signal,
    `position` what was held then, by the fills of those before it."""

    spec: WorkerSpec
    seq: int
    live_from: int
    n: int
    position: float = 0.0


def first_seq(reader: TapeReader, streams: Iterable[Stream], warmup_bars: int, live_from: int) -> int:
    """The first seq that is read where signals may leave from `live_from` on: with the bars to warm up before it."""
    seq = live_from
    for stream in streams:
        stream_id = reader.find(stream)
        if stream_id is not None and warmup_bars and stream.kind in (Kind.BAR, Kind.PREDICTION):
            end = reader.first_ordinal_at(stream_id, live_from)
            first = max(reader.first_ordinal_at(stream_id, reader.head.first), end - warmup_bars)
            if first < end:
                seq = min(seq, reader.seqs(stream_id, first, first + 1)[0])
    return max(seq, reader.head.first)


def genesis_path(folder: Path) -> Path:
    return folder / "genesis.log"


def note_genesis(folder: Path, genesis: Genesis) -> None:
    """Appends a beginning. Survives kill -9; `sync_genesis` makes it survive a power cut. Raises OSError."""
    with closing(AppendLog(genesis_path(folder))) as geneses:
        geneses.append(msgspec.msgpack.encode(genesis))


def sync_genesis(folder: Path) -> None:
    """Returns when every beginning is on the disk: before a snapshot that outlives a power cut. Raises OSError."""
    fd = os.open(genesis_path(folder), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        with naming(genesis_path(folder)):
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


def genesis_on_tape(folder: Path, generation: str, head: Head) -> Genesis | None:
    """Where a generation began, if it has and no snapshot of it counts any more: from there everything is derived again.

    Raises CorruptRecordError where the tape does not reach back so far and a snapshot is damaged: to begin anew elsewhere
    would forget what the worker holds.
    """
    geneses = read_geneses(folder)
    if not geneses or geneses[-1].spec.generation != generation:
        return None
    begun = geneses[-1]
    if head.first <= begun.seq and begun.live_from <= head.durable:
        log.warning("no snapshot counts: everything since seq %d, where it began, is derived again", begun.seq)
        return begun
    damaged = damaged_snapshots(folder)
    if damaged:
        raise CorruptRecordError(
            f"{folder / damaged[-1]}: expected a whole snapshot, or a tape from seq {begun.seq} on, where the worker "
            f"began, found a damaged one and a tape of seqs {head.first} to {head.count}; restore it from a copy, or remove "
            f"it to begin anew"
        )
    return None
