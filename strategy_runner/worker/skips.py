"""Skips: the records that an operator took out of one worker's way, for good.

A framed log beside the signal log. The worker does not apply a skipped record, and neither does a run over the recorded
tape, so that both give the same signals. A skip is of one generation: new code is given the record again.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.worker.subscription import Subscription

Entry = tuple[int, Subscription, int]  # seq, subscription, ordinal


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """A record, why it is skipped, and when a person said so. Stream and ordinal are the record's name, seq its place on
    the tape: both must agree, or it is another record."""

    generation: str
    seq: int
    stream: str
    ordinal: int
    reason: str
    at_ns: int


class Skips:
    """The skipped records of one generation."""

    def __init__(self, skips: Iterable[Skip]) -> None:
        self._records = frozenset((skip.seq, skip.stream, skip.ordinal) for skip in skips)

    def __bool__(self) -> bool:
        return bool(self._records)

    def left_of(self, batch: list[Entry]) -> list[Entry]:
        """The entries that are to be applied. Without a skip it is the batch itself, at no cost."""
        if not self._records:
            return batch
        return [entry for entry in batch if (entry[0], entry[1].name, entry[2]) not in self._records]


def skips_path(folder: Path) -> Path:
    return folder / "skips.log"


def note_skip(folder: Path, skip: Skip) -> None:
    """Appends a skip; when this returns it is on the disk. Raises OSError."""
    log = AppendLog(skips_path(folder))
    try:
        log.append(msgspec.msgpack.encode(skip))
        log.sync()
    finally:
        log.close()


def read_skips(folder: Path, generation: str) -> list[Skip]:
    """Those of one generation, in the order in which they were made.

    Raises CorruptRecordError, VersionMismatchError, msgspec.DecodeError.
    """
    path = skips_path(folder)
    if not path.exists():
        return []
    skips = [msgspec.msgpack.decode(payload, type=Skip) for payload in read_log(path)]
    return [skip for skip in skips if skip.generation == generation]
