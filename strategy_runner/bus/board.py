"""The board: memory that a listener shares with those that ring, so that nobody rings for who is awake.

A ring costs both sides a call of the system and a frame. While the listener is at work it will look at the board anyway before
it waits, so who has something to tell leaves a mark there and goes on.

    bytes 0 to 7       since when it is awake, monotonic ns; 0 while it waits
    bytes 64 ...       a mark for each name: its crc32 says where, and names that share one are looked at together
"""

import logging
import mmap
import os
from collections.abc import Iterable
from time import monotonic_ns  # bound here: once the determinism guard watches, `time.monotonic_ns` asks who is calling
from zlib import crc32

_BYTES = mmap.PAGESIZE  # one for word and marks: in a crowd of workers each page that a signal comes by costs
_MARKS = 64  # a line of memory for itself has the word that all read
_AWAKE_NS_MAX = 10_000_000  # killed or stopped it cannot say that it does not look any more
_MARK = b"\x01"

log = logging.getLogger(__name__)


class Board:
    """The listener's side: makes the memory, which lives as long as somebody has it mapped."""

    def __init__(self) -> None:
        self.fd: int | None = None
        """For those that ring; None where the host gives no such memory: then they ring each time."""
        try:
            self.fd = os.memfd_create("bell-board", os.MFD_CLOEXEC)
        except OSError as error:
            log.warning("no memory to share with those that ring: %s", error)
        else:
            os.ftruncate(self.fd, _BYTES)
        self._page = mmap.mmap(-1 if self.fd is None else self.fd, _BYTES)
        self._word = memoryview(self._page)[:8].cast("Q")
        self._names: dict[int, set[str]] = {}

    def know(self, names: Iterable[str]) -> None:
        """Whose marks count from now on."""
        for name in names:
            self._names.setdefault(_place_of(name), set()).add(name)

    def wake(self) -> None:
        """Nobody needs to ring."""
        self._word[0] = monotonic_ns()

    def sleep(self) -> None:
        """Who has something to tell rings from now on. A mark of a moment before may show only after a call of the system."""
        self._word[0] = 0

    @property
    def has_marks(self) -> bool:
        return self._page.find(_MARK, _MARKS) >= 0

    def take(self) -> set[str]:
        """The names whose marks were there; they are no more."""
        page, names, at = self._page, self._names, _MARKS
        found: set[str] = set()
        while (at := page.find(_MARK, at)) >= 0:
            page[at] = 0  # before their logs are looked at: what is written later leaves a new one
            found |= names.get(at, set())
        return found

    def close(self) -> None:
        self.sleep()
        self._word.release()
        self._page.close()
        if self.fd is not None:
            os.close(self.fd)


class Mark:
    """One name's place on a listener's board."""

    def __init__(self, fd: int, name: str) -> None:
        """`fd` is the board's. Raises OSError or ValueError if it is none."""
        self._page = mmap.mmap(fd, _BYTES)
        self._word = memoryview(self._page)[:8].cast("Q")
        self._at = _place_of(name)

    def leave(self) -> bool:
        """Whether the listener is awake, and so will find the mark; else it is to be rung for."""
        if not self._is_awake():
            return False
        self._page[self._at] = 1
        return self._is_awake()  # or has it gone to sleep before the mark was there?

    def _is_awake(self) -> bool:
        since_ns = self._word[0]
        return since_ns > 0 and monotonic_ns() - since_ns < _AWAKE_NS_MAX

    def close(self) -> None:
        self._word.release()
        self._page.close()


def _place_of(name: str) -> int:
    return _MARKS + crc32(name.encode()) % (_BYTES - _MARKS)
