"""Checkpoints of the feed: where its source and its derivations stood at one seq.

After a kill the feed goes on from the newest checkpoint, makes the records above it again, compares them with the tape and
appends from where the tape ends.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.feed.derive import DerivationState

_KEPT = 2


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    streams: tuple[str, ...]
    source: Any
    derivations: dict[str, DerivationState]
    clock_ns: int


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    payload = msgspec.msgpack.encode(checkpoint)
    temporary = folder / "checkpoint.new"
    with temporary.open("wb") as file:
        file.write(zlib.crc32(payload).to_bytes(4, "little") + payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / f"{checkpoint.seq:015d}.checkpoint")
    for old in sorted(folder.glob("*.checkpoint"))[:-_KEPT]:
        old.unlink()


def newest_checkpoint(folder: Path, count: int) -> Checkpoint | None:
    """The newest whole checkpoint at or below `count`."""
    for path in sorted(folder.glob("*.checkpoint"), reverse=True):
        raw = path.read_bytes()
        if int.from_bytes(raw[:4], "little") == zlib.crc32(raw[4:]):
            checkpoint = msgspec.msgpack.decode(raw[4:], type=Checkpoint)
            if checkpoint.seq <= count:
                return checkpoint
    return None
