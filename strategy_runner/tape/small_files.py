"""Small files, read whole and opened with few system calls: a thousand workers start at once."""

import os
from pathlib import Path

_READ_BYTES = 1 << 16


def read_whole(path: Path) -> bytes:
    """With half of the system calls of `Path.read_bytes`. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def sync_path(path: Path) -> None:
    """Returns when a file's contents, or a folder's names, are on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_made(path: Path, flags: int, permissions: int) -> int:
    """The descriptor of a file that is made if there is none, and its folder with it. Raises OSError."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, permissions)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, permissions)
