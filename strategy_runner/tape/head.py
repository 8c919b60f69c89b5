"""The head of a tape: one page, written by the feed, mapped read-only by everybody else.

`count` is the number of published records (seqs 0 to count - 1), `durable` how many of them a power cut cannot take,
`first` the lowest seq still kept. Each is one aligned 8-byte store, so a reader never sees half of one.

What nothing else on the tape would contradict carries a check of its own: the size of a segment, and `first`. A wrong count
or mark is met by records that fail their crc, and by the writer, which compares the two when it opens the tape.
"""

import mmap
import os
import struct
import time
from binascii import crc32, crc_hqx
from pathlib import Path

from strategy_runner.errors import CorruptRecordError, NotRunningError, VersionMismatchError
from strategy_runner.small_files import replace_file

_FIXED = struct.Struct("<8sIIQ")  # magic, version, crc of segment_records, segment_records
_MAGIC = b"SRTAPE\0\0"
_VERSION = 1
_SIZE = 4096
COUNT, _DURABLE, _FIRST, EPOCH, _BEAT_NS, FINISHED, _EVENT_NS, _BOOT, _CLOCK_OFFSET, BEAT_MS, _STREAMS = range(4, 15)
_SEQ_BITS = 48  # of the word that holds `first`; above them stands their crc, so that both are one store


class Head:
    """Typed view of the page. `words` are its 8-byte words, for who looks at one of them all the time: `words[COUNT]`."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Raises NotRunningError if there is no tape yet, VersionMismatchError if it is of another format, CorruptRecordError."""
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
        magic, version, crc, self.segment_records = _FIXED.unpack_from(page)
        if magic != _MAGIC or version != _VERSION:
            raise VersionMismatchError(
                f"{path}: expected a tape of version {_VERSION}, found {magic!r} version {version}"
            )
        if crc != _crc_of_size(self.segment_records):
            raise CorruptRecordError(
                f"{path}: records in a segment: expected a number of crc {crc:#010x}, found another"
            )
        self._path = path
        self.words = memoryview(page).cast("Q")
        self._signed_words = memoryview(page).cast("q")

    @property
    def count(self) -> int:
        return self.words[COUNT]

    @count.setter
    def count(self, value: int) -> None:
        self.words[COUNT] = value

    @property
    def durable(self) -> int:
        return self.words[_DURABLE]

    @durable.setter
    def durable(self, value: int) -> None:
        self.words[_DURABLE] = value

    @property
    def first(self) -> int:
        """Raises CorruptRecordError if a bit of it is damaged."""
        word: int = self.words[_FIRST]
        seq = word & ((1 << _SEQ_BITS) - 1)
        if word != _checked(seq):
            raise CorruptRecordError(f"{self._path}: first seq kept: expected a number with its crc, found {word:#x}")
        return seq

    @first.setter
    def first(self, value: int) -> None:
        self.words[_FIRST] = _checked(value)

    @property
    def epoch(self) -> int:
        return self.words[EPOCH]

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.words[EPOCH] = value

    @property
    def beat_ns(self) -> int:
        """Wall clock of the feed's last turn."""
        return self.words[_BEAT_NS]

    @beat_ns.setter
    def beat_ns(self, value: int) -> None:
        self.words[_BEAT_NS] = value

    @property
    def beat_ms(self) -> int:
        """So often whoever follows the tape looks at it by itself: a lost doorbell is noticed within that. 0: not told yet."""
        return self.words[BEAT_MS]

    @beat_ms.setter
    def beat_ms(self, value: int) -> None:
        self.words[BEAT_MS] = value

    @property
    def streams(self) -> int:
        """How many streams have a name. 0: nobody has told."""
        return self.words[_STREAMS]

    @streams.setter
    def streams(self, value: int) -> None:
        self.words[_STREAMS] = value

    @property
    def finished(self) -> bool:
        """The source has ended and every record of it is published: no more will come."""
        return bool(self.words[FINISHED])

    @finished.setter
    def finished(self, value: bool) -> None:
        self.words[FINISHED] = int(value)

    @property
    def event_ns(self) -> int:
        """Event time of the last record: how far tape time has come. Negative before 1970."""
        return self._signed_words[_EVENT_NS]

    @event_ns.setter
    def event_ns(self, value: int) -> None:
        self._signed_words[_EVENT_NS] = value

    @property
    def boot(self) -> int:
        """The boot in which a feed last opened the tape (boot.py): in another one the tape awaits recovery."""
        return self.words[_BOOT]

    @boot.setter
    def boot(self, value: int) -> None:
        self.words[_BOOT] = value

    @property
    def clock_offset_ns(self) -> int:
        """What the feed adds to the monotonic clock: its clock goes on evenly while the wall clock is set. 0: none told yet."""
        return self.words[_CLOCK_OFFSET]

    @clock_offset_ns.setter
    def clock_offset_ns(self, value: int) -> None:
        self.words[_CLOCK_OFFSET] = value

    def clock_ns(self) -> int:
        """The feed's clock, by which records are received; the wall clock until the feed has told its own."""
        offset_ns = self.clock_offset_ns
        return time.monotonic_ns() + offset_ns if offset_ns else time.time_ns()


def create_head(path: Path, segment_records: int) -> None:
    """Writes the page of an empty tape; it appears whole or not at all."""
    page = bytearray(_SIZE)
    _FIXED.pack_into(page, 0, _MAGIC, _VERSION, _crc_of_size(segment_records), segment_records)
    struct.pack_into("<Q", page, _BEAT_NS * 8, time.time_ns())
    replace_file(path, bytes(page), synced="content")


def _crc_of_size(segment_records: int) -> int:
    return crc32(segment_records.to_bytes(8, "little"))


def _checked(seq: int) -> int:
    """A seq with its crc in the bits above it; 0 stays 0."""
    assert seq >> _SEQ_BITS == 0
    return seq | crc_hqx(seq.to_bytes(6, "little"), 0) << _SEQ_BITS
