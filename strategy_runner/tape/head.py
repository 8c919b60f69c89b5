"""The head of a tape: one page, written by the feed, mapped read-only by everybody else.

`count` is the number of published records (seqs 0 to count - 1), `durable` how many of them a power cut cannot take,
`first` the lowest seq still kept. Each is one aligned 8-byte store, so a reader never sees half of one.
"""

import mmap
import os
import struct
import time
from pathlib import Path

from strategy_runner.errors import NotRunningError, VersionMismatchError

_FIXED = struct.Struct("<8sIIQ")  # magic, version, unused, segment_records
_MAGIC = b"SRTAPE\0\0"
_VERSION = 1
_SIZE = 4096
_COUNT, _DURABLE, _FIRST, _EPOCH, _BEAT_NS, _FINISHED, _EVENT_NS, _BOOT = range(4, 12)


class Head:
    """Typed view of the page."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Raises NotRunningError if there is no tape yet, VersionMismatchError if it is of another format."""
        try:
            fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        except FileNotFoundError:
            raise NotRunningError(f"{path.parent}: expected a tape, found none; is the feed running?") from None
        try:
            if os.fstat(fd).st_size < _SIZE:
                raise VersionMismatchError(f"{path}: expected {_SIZE} bytes, found {os.fstat(fd).st_size}")
            access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            page = mmap.mmap(fd, _SIZE, prot=access)
        finally:
            os.close(fd)
        magic, version, _, self.segment_records = _FIXED.unpack_from(page)
        if magic != _MAGIC or version != _VERSION:
            raise VersionMismatchError(
                f"{path}: expected a tape of version {_VERSION}, found {magic!r} version {version}"
            )
        self._words = memoryview(page).cast("Q")

    @property
    def count(self) -> int:
        return self._words[_COUNT]

    @count.setter
    def count(self, value: int) -> None:
        self._words[_COUNT] = value

    @property
    def durable(self) -> int:
        return self._words[_DURABLE]

    @durable.setter
    def durable(self, value: int) -> None:
        self._words[_DURABLE] = value

    @property
    def first(self) -> int:
        return self._words[_FIRST]

    @first.setter
    def first(self, value: int) -> None:
        self._words[_FIRST] = value

    @property
    def epoch(self) -> int:
        return self._words[_EPOCH]

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._words[_EPOCH] = value

    @property
    def beat_ns(self) -> int:
        """Wall clock of the feed's last turn."""
        return self._words[_BEAT_NS]

    @beat_ns.setter
    def beat_ns(self, value: int) -> None:
        self._words[_BEAT_NS] = value

    @property
    def finished(self) -> bool:
        """The source has ended and every record of it is published: no more will come."""
        return bool(self._words[_FINISHED])

    @finished.setter
    def finished(self, value: bool) -> None:
        self._words[_FINISHED] = int(value)

    @property
    def event_ns(self) -> int:
        """Event time of the last record: how far tape time has come."""
        return self._words[_EVENT_NS]

    @event_ns.setter
    def event_ns(self, value: int) -> None:
        self._words[_EVENT_NS] = value

    @property
    def boot(self) -> int:
        """The boot in which a feed last opened the tape (boot.py): in another one the tape awaits recovery."""
        return self._words[_BOOT]

    @boot.setter
    def boot(self, value: int) -> None:
        self._words[_BOOT] = value


def create_head(path: Path, segment_records: int) -> None:
    """Writes the page of an empty tape; it appears whole or not at all."""
    temporary = path.with_suffix(".new")
    page = bytearray(_SIZE)
    _FIXED.pack_into(page, 0, _MAGIC, _VERSION, 0, segment_records)
    struct.pack_into("<Q", page, _BEAT_NS * 8, time.time_ns())
    temporary.write_bytes(page)
    temporary.replace(path)
