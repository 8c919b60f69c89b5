"""Snapshots: a worker's state at one seq, so that a restart replays little.

Written by temp file, fsync and rename; two are kept, so that one damaged file costs time and nothing else. They lie in the
client's own folder, the one place where pickle is allowed.
"""

import os
from pathlib import Path

import msgspec

from strategy_runner.small_files import Synced, checked, read_whole, replace_file, with_crc

_KEPT = 2
_SUFFIX = ".snapshot"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is the next seq to read, `positions` the next ordinal of each stream, `live_from` the first seq whose signals
    may leave (before it the strategy warms up), `log_offset` where the next signal stands in the signal log, or is to stand,
    `machine` the pickled state."""

    generation: str
    seq: int
    live_from: int
    positions: dict[str, int]
    log_offset: int
    n: int
    signals: int
    refusals: int
    records: int
    machine: bytes


def write_snapshot(folder: Path, snapshot: Snapshot, *, synced: Synced = "name") -> None:
    """Raises OSError; the older snapshots then still stand."""
    replace_file(
        folder / f"{snapshot.seq:015d}{_SUFFIX}",
        with_crc(msgspec.msgpack.encode(snapshot)),
        synced=synced,
        temporary=folder / "snapshot.new",
        permissions=0o640,
    )
    for old in _names(folder)[:-_KEPT]:
        (folder / old).unlink()


def newest_snapshot(folder: Path, generation: str, durable_seq: int) -> Snapshot | None:
    """The newest whole snapshot of this generation at or below the durable mark."""
    for name in reversed(_names(folder)):
        snapshot = _read(folder / name)
        if snapshot is not None and snapshot.generation == generation and snapshot.seq <= durable_seq:
            return snapshot
    return None


def damaged_snapshots(folder: Path) -> list[str]:
    """The names of those that are not whole, oldest first."""
    return [name for name in _names(folder) if _read(folder / name) is None]


def oldest_seq(folder: Path) -> int:
    """The lowest seq that a restart may go on from; 0 without a snapshot."""
    return min(snapshot_seqs(folder), default=0)


def snapshot_seqs(folder: Path) -> list[int]:
    """Of all that there are, damaged ones too. None for a folder that is gone."""
    try:
        stems = [name.removesuffix(_SUFFIX) for name in _names(folder)]
    except FileNotFoundError:
        return []
    return [int(stem) for stem in stems if stem.isdecimal()]  # what a person put there must not end a feed


def remove_snapshots(folder: Path, *, above: int = -1) -> None:
    """Those with a seq above the given one, by default all."""
    for name in _names(folder):
        if int(name.removesuffix(_SUFFIX)) > above:
            (folder / name).unlink()


def _read(path: Path) -> Snapshot | None:
    """None if it is not whole."""
    payload = checked(read_whole(path))
    try:
        return None if payload is None else msgspec.msgpack.decode(payload, type=Snapshot)
    except msgspec.DecodeError:
        return None


def _names(folder: Path) -> list[str]:
    """Oldest first. (Not glob: its patterns would be compiled, and their pages dirtied, in each of a thousand workers.)"""
    return sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))  # noqa: PTH208  the names alone
