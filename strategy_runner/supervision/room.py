"""Room on the disk for a run that takes the place of an earlier one: asked for before anything of that one is removed."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec
from strategy_runner.errors import DiskFullError, naming
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.process import SIMULATION
from strategy_runner.tape.files import is_full, segment_bytes

PROCESS_BYTES = 64 * 1024  # specification, status, log and the first entries of what it keeps
_BLOCK_BYTES = 512  # of st_blocks (man 2 stat)


def make_sure_of_room(home: Home, plan: Plan, going: Sequence[Path]) -> None:
    """Takes what the plan's processes begin with, and gives it back. What goes free with the folders `going` counts as well;
    where there are none, nothing can be lost and nothing is asked.

    Raises DiskFullError, and OSError for a disk that takes nothing for another reason.
    """
    going = [folder for folder in going if folder.exists()]
    if not going:
        return
    need = PROCESS_BYTES * len(plan.processes)
    if home.market(SIMULATION) in going:
        need += sum(_tape_bytes(process.spec) for process in plan.processes if isinstance(process.spec, FeedSpec))
    home.daemon.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _take(home.daemon / "room.new", need)
    except OSError as error:
        if not is_full(error):
            raise
        free, freed = shutil.disk_usage(home.var).free, sum(map(_bytes_of, going))
        if free + freed < need:
            raise DiskFullError(
                f"{home.var}: expected {need} bytes of room for the run, found {free} free and {freed} in the run before it, "
                "which is left as it was"
            ) from error


def _tape_bytes(feed: FeedSpec) -> int:
    """The first segment, and the reserve that is held back: the feed takes nothing without."""
    return 2 * segment_bytes(feed.tape.segment_records) + int(feed.tape.reserve_mb * 1e6)


def _take(path: Path, size: int) -> None:
    try:
        with naming(path), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _bytes_of(folder: Path) -> int:
    return sum(path.lstat().st_blocks * _BLOCK_BYTES for path in folder.rglob("*"))
