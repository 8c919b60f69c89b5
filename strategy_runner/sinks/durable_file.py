"""A file that is either the old one or the new one, whole, whatever dies while it is replaced."""

import contextlib
import os
from pathlib import Path

from strategy_runner.tape.small_files import sync_path


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` by temporary file, fsync, rename and fsync of the folder. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_all(descriptor, content, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        # a full disk needs the space of the half-written file back
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write at `offset`, all of it: one write, unless the system takes less at once."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written
