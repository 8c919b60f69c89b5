"""The host's wall clock under faults: each process reads it through a file that the harness changes, as people do."""

import mmap
import struct
import time
from pathlib import Path

from strategy_runner.feed.clock import FeedClock
from strategy_runner.worker import follower, outbox

FILE = "clock"
_OFFSET = struct.Struct("<q")
_now_ns = time.time_ns


def set_clock(folder: Path, offset_ns: int) -> None:
    """What the clock is ahead of the true time, from now on, for every process."""
    with (folder / FILE).open("r+b") as file:
        file.write(_OFFSET.pack(offset_ns))


def make_clock(folder: Path) -> None:
    (folder / FILE).write_bytes(_OFFSET.pack(0))


def install(folder: Path) -> None:
    """In a process of its own, before it does anything."""
    with (folder / FILE).open("rb") as file:
        offset = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)

    def wall_ns() -> int:
        return _now_ns() + int(_OFFSET.unpack_from(offset)[0])

    time.time_ns = follower.time_ns = outbox.time_ns = wall_ns
    time.time = lambda: wall_ns() / 1e9
    assert FeedClock.__init__.__kwdefaults__
    FeedClock.__init__.__kwdefaults__["wall_ns"] = wall_ns
