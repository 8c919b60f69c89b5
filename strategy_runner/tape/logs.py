"""Framed append-only logs: the worker's signals, the router's decisions, the tape's stream names.

A file is a 16-byte header and then frames: length u32 | crc u32 | payload. The crc is seeded with the frame's offset, so
bytes of another place never pass. A torn last frame is what a crash in mid-write leaves: the writer cuts it off when it
opens the log, a reader stops before it and looks again later. A broken frame with whole ones behind it is no torn tail
but damage, and an error for both: what was once acted upon is never cut off in silence.

A power cut may also take pages out of the middle of what was never synced, and leave whole frames behind them. Such a hole is
of zeros to the end of a page, and only who writes the log knows what of it was synced: the writer cuts at the hole if so, a
reader cannot know and refuses it as any damage.

A file that begins with no header of ours and holds no whole frame is what a power cut leaves of a log that was never synced:
nobody acted upon it. The writer sets it aside and begins anew, to a reader it is a log that is still to come.
"""

import logging
import os
import struct
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from stat import S_ISREG
from zlib import crc32

from strategy_runner.errors import CorruptRecordError, VersionMismatchError, naming
from strategy_runner.small_files import open_made

_HEADER = struct.Struct("<8sII")
_FRAME = struct.Struct("<II")
MAGIC = b"SRLOG\0\0\0"
_VERSION = 1
PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
SEARCH_BYTES = 256 * 1024
_FEW_BYTES = 16 * 1024  # of a reader that follows
_FRAME_SEARCH_BYTES = 2 * (_FRAME.size + PAYLOAD_BYTES_MAX)  # behind damage, for the next whole frame
START = _HEADER.size
FRAME_BYTES = _FRAME.size  # of a frame, before its payload
ASIDE_SUFFIX = ".unreadable"
PAGE_BYTES = 4_096
_HOLE_BYTES_MIN = 5  # the first four of a frame are its length, which one flipped bit may turn to zeros

# given the whole frames behind a hole, whether none of them was ever synced
Unsynced = Callable[[Iterator[bytes]], bool]

log = logging.getLogger(__name__)


def _crc(offset: int, payload: bytes) -> int:
    return crc32(payload, offset & 0xFFFFFFFF)


class _Opened:
    """A log's descriptor, given back by `close`, or when nobody holds the object any more, as a file's is: also of a log
    that turned out to be damaged, of one whose owner could not open the next, and of one that a full disk refused, which
    is tried again for as long as the disk is full.
    """

    _fd = -1

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class AppendLog(_Opened):
    """The one writer of a log. `append` survives kill -9 (page cache), `sync` a power cut."""

    def __init__(
        self, path: Path, *, whole_to: int = START, permissions: int = 0o640, unsynced: Unsynced | None = None
    ) -> None:
        """Opens or creates the log and cuts off a torn tail; frames below `whole_to` are known to be whole and not read again.
        A log that is created has these `permissions`. What was never a log is kept under another name. Above `whole_to` the log
        is also cut at a hole that a power cut left, if `unsynced` says so; without it every hole is damage.

        Raises VersionMismatchError, CorruptRecordError if the log ends below `whole_to` or is damaged behind it, OSError.
        """
        self.path = path
        with naming(path):
            self._begin(path, whole_to, permissions, unsynced)

    def _begin(self, path: Path, whole_to: int, permissions: int, unsynced: Unsynced | None) -> None:
        self._fd = open_made(path, os.O_RDWR, permissions)
        if whole_to == START and _was_never_begun(self._fd):
            self.close()
            _set_aside(path)
            self._fd = open_made(path, os.O_RDWR, permissions)
        size = os.fstat(self._fd).st_size
        if size < START:
            if size:  # what has been truncated, if only from nothing, ext4 writes to the disk as soon as it is closed
                os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, _HEADER.pack(MAGIC, _VERSION, 0), 0)
            if unsynced is not None:  # else the first page might be the hole
                os.fdatasync(self._fd)
        self._synced = -1  # what was there before may be of a killed writer
        _check_header(self._fd, path)
        if os.fstat(self._fd).st_size < whole_to:
            size = os.fstat(self._fd).st_size
            raise CorruptRecordError(f"{path}: expected at least {whole_to} bytes, found {size}")
        self.offset = _end_of_whole_frames(self._fd, whole_to)
        self.torn_bytes = os.fstat(self._fd).st_size - self.offset
        if self.torn_bytes:
            self._refuse_damage(unsynced)
            os.ftruncate(self._fd, self.offset)

    def append(self, payload: bytes) -> int:
        """Writes one frame and returns the offset it begins at. Raises OSError (ENOSPC) and then leaves no torn frame."""
        return self.append_many((payload,))

    def append_many(self, payloads: tuple[bytes, ...] | list[bytes]) -> int:
        """Writes frames with one system call and returns the offset of the first."""
        first = self.offset
        parts: list[bytes] = []
        pack, header, end = _FRAME.pack, _FRAME.size, first
        for payload in payloads:
            size = len(payload)
            assert 0 < size <= PAYLOAD_BYTES_MAX, size
            parts += (pack(size, crc32(payload, end & 0xFFFFFFFF)), payload)
            end += header + size
        block = b"".join(parts)
        try:
            written = os.pwrite(self._fd, block, first)
            while written < len(block):
                written += os.pwrite(self._fd, block[written:], first + written)
        except OSError as error:
            os.ftruncate(self._fd, first)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.offset = end
        return first

    def cut(self, offset: int) -> None:
        """Takes back every frame from `offset` on, where one begins: what they say never happened."""
        assert START <= offset <= self.offset
        with naming(self.path):
            os.ftruncate(self._fd, offset)
        self.offset, self._synced = offset, -1

    def sync(self) -> None:
        """Returns when everything appended is on the disk. An error is final: the process must end, not try again."""
        end = self.offset
        if end != self._synced:
            with naming(self.path):
                os.fdatasync(self._fd)
            self._synced = end

    def _refuse_damage(self, unsynced: Unsynced | None) -> None:
        try:
            _refuse_damage(self._fd, self.path, self.offset)
        except CorruptRecordError:
            is_hole = unsynced is not None and _is_hole(self._fd, self.offset)
            if unsynced is None or not is_hole or not unsynced(_whole_frames(self._fd, self.offset)):
                raise
            log.warning(
                "%s: offset %d: a power cut took pages that were not synced yet: %d bytes from there on are cut off",
                self.path,
                self.offset,
                self.torn_bytes,
            )


class Glance(Enum):
    """What can be seen of a log without reading it. REPLACED: another one than was read, or shorter than what was read of it."""

    NOTHING_NEW = "nothing new"
    MORE = "more"
    REPLACED = "replaced"


class LogReader(_Opened):
    """Reads a log from an offset on, and goes on from there each time `read` is called."""

    def __init__(self, path: Path, offset: int = START) -> None:
        self.path = path
        self.offset = offset
        self.is_at_end = False
        """Whether the last read saw all there was."""
        self._inode = 0

    def read(self, bytes_max: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
        """Yields (offset of the next frame, payload) for each whole frame there is, at most about `bytes_max` of them.

        Raises VersionMismatchError, CorruptRecordError when a frame that cannot be a torn tail fails its check.
        """
        if self._fd < 0 and not self._open():
            return
        asked = min(max(bytes_max, _FRAME.size), _FEW_BYTES)  # one call of the system, where there is little as mostly
        block = os.pread(self._fd, asked, self.offset)
        self.is_at_end = len(block) < asked
        if not self.is_at_end and asked < bytes_max:
            there = os.fstat(self._fd).st_size - self.offset  # a read makes room for all it asks for
            block = os.pread(self._fd, max(0, min(there, bytes_max)), self.offset)
        if len(block) >= _FRAME.size:
            length = _FRAME.unpack_from(block)[0]
            if length <= PAYLOAD_BYTES_MAX and len(block) < _FRAME.size + length:
                block = os.pread(self._fd, _FRAME.size + length, self.offset)
        unpack, header, size = _FRAME.unpack_from, _FRAME.size, len(block)
        at, offset = 0, self.offset
        while at + header <= size:
            length, crc = unpack(block, at)
            end = at + header + length
            payload = block[at + header : end]
            if not 0 < length <= PAYLOAD_BYTES_MAX or end > size or crc32(payload, offset & 0xFFFFFFFF) != crc:
                break
            self.offset = offset = offset + end - at
            at = end
            yield offset, payload
        if at == 0 and block:
            _refuse_damage(self._fd, self.path, self.offset)

    def read_to_end(self) -> Iterator[tuple[int, bytes]]:
        """As `read`, until there is nothing more."""
        before = -1
        while self.offset != before:
            before = self.offset
            yield from self.read()

    def glance(self) -> Glance:
        """What its name stands for now, by one call of the system: a router asks it of a thousand logs a second."""
        try:
            there = os.stat(self.path)  # noqa: PTH116  one call
        except FileNotFoundError:
            return Glance.NOTHING_NEW
        if (self._fd >= 0 and there.st_ino != self._inode) or there.st_size < self.offset:
            return Glance.REPLACED
        return Glance.MORE if there.st_size > self.offset else Glance.NOTHING_NEW

    def size(self) -> int:
        """How long the log is, whole frames and a torn one; 0 while there is none."""
        return os.fstat(self._fd).st_size if self._fd >= 0 or self._open() else 0

    def sync(self) -> None:
        """Returns when everything that its writer has written so far is on the disk. Raises OSError."""
        if self._fd >= 0 or self._open():
            with naming(self.path):
                os.fdatasync(self._fd)

    def _open(self) -> bool:
        """False while there is no log, or its writer has not written the header yet."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # which does not wait at a pipe
        except FileNotFoundError:
            return False
        try:
            opened = os.fstat(fd)
            if not S_ISREG(opened.st_mode):
                raise CorruptRecordError(f"{self.path}: expected a log, found no regular file")
            if opened.st_size < START or _was_never_begun(fd):
                return False
            _check_header(fd, self.path)
            self._fd, self._inode, fd = fd, opened.st_ino, -1
        finally:
            if fd >= 0:
                os.close(fd)
        return True


def read_frames(path: Path, offset: int = START) -> Iterator[tuple[int, bytes]]:
    """(offset behind it, payload) of every whole frame that a log has now, from an offset on. Raises as `LogReader.read`."""
    reader = LogReader(path, offset)
    try:
        yield from reader.read_to_end()
    finally:
        reader.close()


def begin_of(end: int, payload: bytes) -> int:
    """Where the frame begins that ends there."""
    return end - FRAME_BYTES - len(payload)


def read_log(path: Path) -> Iterator[bytes]:
    """Every whole frame of a log, from the beginning."""
    for _, payload in read_frames(path):
        yield payload


def refuse_garbage(path: Path) -> None:
    """For who reads what was acted upon, and so was synced: a file that is no log is damage there, and not one that is still to
    come. Raises CorruptRecordError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        if S_ISREG(os.fstat(fd).st_mode) and _was_never_begun(fd):
            raise CorruptRecordError(f"{path}: expected a log, found no header and no whole frame")
    finally:
        os.close(fd)


def frame_behind(path: Path, offset: int) -> tuple[int, bytes] | None:
    """(offset, payload) of the first whole frame that begins at or shortly behind any place in a log, None if there is none.

    It finds a frame of ordinary size within SEARCH_BYTES, so that a log can be searched by halves without an index.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.pread(fd, SEARCH_BYTES, max(offset, START))
    finally:
        os.close(fd)
    found = _first_whole(block, max(offset, START))
    if found is None:
        return None
    at = found - max(offset, START)
    length, _ = _FRAME.unpack_from(block, at)
    return found, block[at + _FRAME.size : at + _FRAME.size + length]


def _was_never_begun(fd: int) -> bool:
    """Whether the file has no header of a log, of whatever version, and no whole frame behind that place.

    Logs whose frames are acted upon have been synced before, and with them their header: damage of one is no such file.
    """
    header = os.pread(fd, START, 0)
    if len(header) < START or header.startswith(MAGIC):
        return False
    return _first_whole(os.pread(fd, _FRAME_SEARCH_BYTES, START), START) is None


def _set_aside(path: Path) -> None:
    """What stood under this name stays for a person to look at."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    path.replace(aside)
    log.warning(
        "%s: found no log and nothing of one, as a power cut leaves it: begun anew, kept as %s", path, aside.name
    )


def _check_header(fd: int, path: Path) -> None:
    magic, version, _ = _HEADER.unpack(os.pread(fd, START, 0))
    if magic != MAGIC or version != _VERSION:
        raise VersionMismatchError(f"{path}: expected a log of version {_VERSION}, found {magic!r} version {version}")


def _end_of_whole_frames(fd: int, offset: int) -> int:
    size = os.fstat(fd).st_size
    while offset + _FRAME.size <= size:
        length, crc = _FRAME.unpack(os.pread(fd, _FRAME.size, offset))
        end = offset + _FRAME.size + length
        if not 0 < length <= PAYLOAD_BYTES_MAX or end > size:
            break
        if _crc(offset, os.pread(fd, length, offset + _FRAME.size)) != crc:
            break
        offset = end
    return offset


def _refuse_damage(fd: int, path: Path, offset: int) -> None:
    """Raises CorruptRecordError if whole frames stand behind the broken bytes at `offset`.

    A killed writer leaves a frame's beginning and nothing behind it. The next frame begins at most one frame further on;
    a crc of 32 bits, seeded with the place, makes sure that a frame found there is one.
    """
    block = os.pread(fd, _FRAME_SEARCH_BYTES, offset)
    if _is_whole(block, 0, offset):  # the writer has completed it since the caller looked
        return
    found = _first_whole(block, offset)
    if found is not None:
        raise CorruptRecordError(
            f"{path}: offset {offset}: expected a whole frame, found damage with whole frames from offset {found} on"
        )


def _first_whole(block: bytes, offset: int) -> int | None:
    """Offset of the first whole frame in a block that stands at `offset` in the file."""
    # lengths are below 2**24 (but for the greatest), so the fourth byte of a frame is 0: look at those places only
    zero = block.find(0, 3)
    while zero >= 0:
        if _is_whole(block, zero - 3, offset):
            return offset + zero - 3
        zero = block.find(0, zero + 1)
    return None


def _is_hole(fd: int, offset: int) -> bool:
    """Whether a page, or all that the broken frame at `offset` has of its first one, is zeros between there and the next whole
    frame: so a file system shows what it never wrote. A flipped bit leaves no such thing."""
    block = os.pread(fd, _FRAME_SEARCH_BYTES, offset)
    found = _first_whole(block, offset)
    assert found is not None, "damage has a whole frame behind it"
    begin = offset
    while (end := begin - begin % PAGE_BYTES + PAGE_BYTES) <= found:
        if end - begin >= _HOLE_BYTES_MIN and not any(block[begin - offset : end - offset]):
            return True
        begin = end
    return False


def _whole_frames(fd: int, offset: int) -> Iterator[bytes]:
    """The payload of each whole frame behind damage at `offset`, also behind more of it."""
    block = os.pread(fd, _FRAME_SEARCH_BYTES, offset)
    while (found := _first_whole(block, offset)) is not None:
        at = found - offset
        while _is_whole(block, at, offset):
            length, _ = _FRAME.unpack_from(block, at)
            yield block[at + _FRAME.size : at + _FRAME.size + length]
            at += _FRAME.size + length
        offset += at
        block = os.pread(fd, _FRAME_SEARCH_BYTES, offset)


def _is_whole(block: bytes, at: int, offset: int) -> bool:
    """Whether a whole frame stands at `at`; `offset` is the place of the block in the file."""
    if at + _FRAME.size > len(block):
        return False
    length, crc = _FRAME.unpack_from(block, at)
    end = at + _FRAME.size + length
    if not 0 < length <= PAYLOAD_BYTES_MAX or end > len(block):
        return False
    return bool(_crc(offset + at, block[at + _FRAME.size : end]) == crc)
