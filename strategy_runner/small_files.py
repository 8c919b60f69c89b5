"""Small files, read whole, replaced whole and opened with few system calls: a thousand workers start at once."""

import contextlib
import os
import zlib
from pathlib import Path
from typing import Literal

_READ_BYTES = 1 << 16
_CRC_BYTES = 4

# what a file that is replaced has on the disk when it takes its name: each outlives kill -9
Synced = Literal[
    "nothing",  # a power cut may leave it empty: for what is made again, or checked by a crc
    "content",  # after a power cut it is the old one or the new one
    "name",  # and the new one, once the call has returned
]


def read_whole(path: Path) -> bytes:
    """With half of the system calls of `Path.read_bytes`, and nothing where a pipe stands in the file's place. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts = []
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    except OSError as error:  # a folder: it can be opened, and says no name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def paths_in(folder: Path, prefix: str = "", suffix: str = "") -> list[Path]:
    """What lies in a folder under such names, in order; nothing where there is no folder. Raises OSError for one that cannot be
    read, which `Path.glob` takes for an empty one from Python 3.13 on."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  `iterdir` makes a path of each first
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names if name.startswith(prefix) and name.endswith(suffix)]


def paths_below(folder: Path, pattern: str, unreadable: list[OSError] | None = None) -> list[Path]:
    """What lies below a folder under a pattern such as `*/*.json`, in order, as `Path.glob` finds it. Raises OSError for a folder
    on the way that cannot be read; with `unreadable` it is added there and the others are looked through."""
    found = [folder]
    for part in pattern.split("/"):
        prefix, star, suffix = part.partition("*")
        before, found = found, []
        for one in before:
            try:
                found += paths_in(one, prefix, suffix) if star else [one / part] * _lies(one / part)
            except OSError as error:
                if unreadable is None:
                    raise
                unreadable.append(error)
    return found


def _lies(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def replace_file(
    path: Path, content: bytes, *, synced: Synced, temporary: Path | None = None, permissions: int = 0o644
) -> None:
    """Put `content` at `path`, which is the old file or the new one, whole, whatever dies meanwhile. Raises OSError, with the
    name of the file.

    `temporary` is for a path that is another one each time: what a kill leaves behind is then written over by the next.
    """
    temporary = temporary or path.with_name(f".{path.name}.new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, permissions)
        try:
            write_all(fd, content, 0)
            if synced != "nothing":
                os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError as error:
        # a full disk needs the space of the half-written file back
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    if synced == "name":
        sync_path(path.parent)


def with_crc(payload: bytes) -> bytes:
    """The payload behind its crc."""
    return zlib.crc32(payload).to_bytes(_CRC_BYTES, "little") + payload


def checked(raw: bytes) -> bytes | None:
    """The payload that `with_crc` was given; None if its crc is another one. Of an empty file it is empty, and the crc holds."""
    payload = raw[_CRC_BYTES:]
    return payload if int.from_bytes(raw[:_CRC_BYTES], "little") == zlib.crc32(payload) else None


def write_all(fd: int, content: bytes, offset: int) -> None:
    """Write at `offset`, all of it: one write, unless the system takes less at once. Raises OSError."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest = rest[written:]
        offset += written


def sync_path(path: Path) -> None:
    """Returns when a file's contents, or a folder's names, are on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def open_made(path: Path, flags: int, permissions: int) -> int:
    """The descriptor of a file that is made if there is none, and its folder with it. Raises OSError."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, permissions)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, permissions)
