"""The reserve: space that is taken beforehand, so that a full disk is met while the turn under way can still be completed.

The writer gives it up when a new segment or index chunk finds no space. What it held is then enough for that file, and for
the small files of workers and routers; the feed takes nothing more until it could be made again.
"""

import os
from pathlib import Path

from strategy_runner.errors import DiskFullError, naming
from strategy_runner.tape import files


class Reserve:
    """A preallocated file of `size` bytes; of 0 bytes it is always held and never of help."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path = files.reserve_path(folder)
        self.size = size
        self.is_held = not size

    def make(self) -> bool:
        """Takes the space, or says that there is too little of it."""
        if self.is_held:
            return True
        try:
            fd, held = files.map_preallocated(self.path, self.size)
        except DiskFullError:
            self.path.unlink(missing_ok=True)  # a smaller one of before: its space is wanted now
            return False
        held.close()
        with naming(self.path):
            os.ftruncate(fd, self.size)  # the settings may ask for less than before
        os.close(fd)
        self.is_held = True
        return True

    def release(self) -> bool:
        """Gives the space up; False if there was none to give."""
        if not self.size or not self.is_held:
            return False
        self.path.unlink(missing_ok=True)
        self.is_held = False
        return True
