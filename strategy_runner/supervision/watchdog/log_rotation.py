"""Keeps a program's log within bounds: over its limit it is copied to one older file and emptied.

The program has the file open for appending and goes on writing at its new beginning; nobody has to be told.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from strategy_runner.errors import naming

_MB = 1 << 20
# a log that would reach its limit within a minute is a flood
FLOOD_S = 60.0
FLOOD_CALM_S = 60.0


class LogWatch:
    """One log. `is_flooding` from the first measured second that writes too much until it was calm for FLOOD_CALM_S."""

    def __init__(self, path: Path, limit_mb: float) -> None:
        self._path = path
        self._limit = int(limit_mb * _MB)
        self._size = -1
        self._at = 0.0
        self._loud = -FLOOD_CALM_S
        self.is_flooding = False
        self.mb_per_s = 0.0

    def look(self, now: float) -> int | None:
        """Rotates if it is time to; returns the number of bytes that went to the older file, or None. Raises OSError."""
        try:
            size = os.stat(self._path).st_size  # noqa: PTH116  a thousand of them a round
        except FileNotFoundError:
            return None
        if self._size >= 0 and size > self._size and now > self._at:
            rate = (size - self._size) / (now - self._at)
            if rate > self._limit / FLOOD_S:
                self._loud, self.mb_per_s = now, rate / _MB
        self.is_flooding = now - self._loud < FLOOD_CALM_S
        self._size, self._at = size, now
        if size <= self._limit:
            return None
        kept = rotate(self._path)
        self._size = 0
        return kept


def rotate(path: Path) -> int:
    """Copies the log to PATH.1, which appears whole, and empties it. Returns the bytes copied; blocks while it copies.

    What the program writes between the last byte copied and the cut is lost: microseconds' worth.
    """
    older, temporary = path.with_name(path.name + ".1"), path.with_name(path.name + ".new")
    try:
        with naming(older), path.open("rb") as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, _MB)
            copied = target.tell()
        os.truncate(path, 0)
    except OSError:
        # a full disk: the log itself is what fills it, so it is cut all the same
        os.truncate(path, 0)
        with suppress(OSError):
            temporary.unlink()
        raise
    temporary.replace(older)
    return copied
