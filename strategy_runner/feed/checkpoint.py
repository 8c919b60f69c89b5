"""Checkpoints of the feed: where its source and its derivations stood at one seq.

After a kill the feed goes on from the newest checkpoint, makes the records above it again, compares them with the tape and
appends from where the tape ends.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.feed.derive import DerivationState
from strategy_runner.small_files import checked, paths_in, replace_file, with_crc

_KEPT = 2
_SUFFIX = ".checkpoint"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """`epoch` is the tape's when it was written, `clock_ns` that of the wall clock's last tick, `last_ns` the last row of a
    live source by symbol and kind, `private` what the last private record of each client says."""

    seq: int
    epoch: int = 0
    streams: tuple[str, ...]
    source: Any
    derivations: dict[str, DerivationState]
    clock_ns: int
    last_ns: list[tuple[str, int, int]] = []
    private: dict[str, tuple[float, float, float, float]] = {}


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, durable: int, needed: bool = False) -> None:
    """Removes those that are needed no more: all but the newest two, and all below the newest that is not above the durable mark,
    since a power cut may let the tape end anywhere above it, and each tells of the streams that there were from its seq on.

    One that is `needed` bears its name on the disk, too, when this returns: a power cut that takes any other's name takes
    what it replaced back with it. Raises OSError; the older checkpoints then still stand.
    """
    replace_file(
        folder / f"{checkpoint.seq:015d}{_SUFFIX}",
        with_crc(msgspec.msgpack.encode(checkpoint)),
        synced="name" if needed else "content",
        temporary=folder / "checkpoint.new",
    )
    paths = paths_in(folder, suffix=_SUFFIX)
    for old, following in pairwise(paths[: 1 - _KEPT]):
        if int(following.stem) <= durable:
            old.unlink()


def remove_lost(folder: Path, cuts: Iterable[tuple[int, int]]) -> None:
    """Removes the checkpoints that tell of records which a power cut took: others may have their seqs by now. `cuts` are the
    tape's (epoch, seq). A removal that the next power cut undoes is made again here."""
    lost = list(cuts)
    for path in paths_in(folder, suffix=_SUFFIX):
        checkpoint = _read(path)
        if checkpoint is not None and any(checkpoint.epoch < epoch and checkpoint.seq > seq for epoch, seq in lost):
            path.unlink()


def newest_checkpoint(folder: Path, count: int) -> Checkpoint | None:
    """The newest whole checkpoint at or below `count`."""
    for path in reversed(paths_in(folder, suffix=_SUFFIX)):
        checkpoint = _read(path)
        if checkpoint is not None and checkpoint.seq <= count:
            return checkpoint
    return None


def oldest_checkpoint_seq(folder: Path) -> int:
    """The lowest seq that a restart may go on from; 0 without a checkpoint."""
    paths = paths_in(folder, suffix=_SUFFIX)
    return int(paths[0].stem) if paths else 0


def _read(path: Path) -> Checkpoint | None:
    """None if it is not whole."""
    payload = checked(path.read_bytes())
    try:
        return None if payload is None else msgspec.msgpack.decode(payload, type=Checkpoint)
    except msgspec.DecodeError:
        return None
