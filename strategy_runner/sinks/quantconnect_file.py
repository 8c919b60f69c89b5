"""One CSV file as LEAN reads it: a header and whole lines, grown by one write per batch and cut back to its mark."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from strategy_runner.errors import naming
from strategy_runner.sinks.quantconnect_progress import FileMark
from strategy_runner.sinks.quantconnect_row import HEADER, CsvRow
from strategy_runner.small_files import replace_file, write_all

_CHUNK_BYTES = 1 << 20


def extend_file(path: Path, mark: FileMark | None, rows: Sequence[CsvRow]) -> FileMark:
    """Append `rows`, durably, in strictly increasing time; without a mark the file is begun anew. Raises OSError."""
    assert rows
    last_us = mark.last_us if mark else -1
    lines = []
    for row in rows:
        last_us = max(row.earliest_us, last_us + 1)
        lines.append(row.line(last_us))
    content = "".join(lines).encode()
    if mark is None:
        content = HEADER + content
        replace_file(path, content, synced="name")
        return FileMark(rows[0].symbol, len(content), zlib.crc32(content), last_us)
    _append(path, mark.length, content)
    return FileMark(mark.symbol, mark.length + len(content), zlib.crc32(content, mark.crc), last_us)


def cut_file(path: Path, length: int) -> None:
    """Take away what was written beyond `length`. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.fstat(descriptor).st_size > length:
            with naming(path):
                os.ftruncate(descriptor, length)
                os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage_of(path: Path, mark: FileMark) -> str:
    """Why the file does not begin with the bytes that were recorded, or "". Raises OSError."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"{path}: expected {mark.length} bytes, found no file"
    if size < mark.length:
        return f"{path}: expected {mark.length} bytes, found {size}"
    crc = _crc_of(path, mark.length)
    return "" if crc == mark.crc else f"{path}: crc of {mark.length} bytes: expected {mark.crc:08x}, found {crc:08x}"


def _append(path: Path, offset: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size != offset:
            raise OSError(f"{path}: expected {offset} bytes, found {size}: somebody else writes this file")
        with naming(path):
            write_all(descriptor, content, offset)
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _crc_of(path: Path, length: int) -> int:
    crc = 0
    with path.open("rb") as file:
        while length > 0 and (chunk := file.read(min(_CHUNK_BYTES, length))):
            crc = zlib.crc32(chunk, crc)
            length -= len(chunk)
    return crc
