"""The QuantConnect sink's cursor: the next decision, and how much of each CSV file is ours to keep.

One small file, `crc32 JSON`, replaced whole. What lies in a CSV file beyond its recorded length was written by a batch
whose end nobody saw: it is cut off and written again, byte for byte the same.
"""

import zlib
from pathlib import Path

import msgspec

from strategy_runner.small_files import replace_file

_VERSION = 1


class FileMark(msgspec.Struct, frozen=True):
    """One CSV file: bytes kept and their crc32, the last time in it (microseconds since 1970), and whose it is."""

    symbol: str
    length: int
    crc: int
    last_us: int


class Progress(msgspec.Struct, frozen=True):
    """`files` is keyed by file name."""

    next_number: int
    files: dict[str, FileMark]
    version: int = _VERSION


START = Progress(0, {})


class UnreadableProgress(Exception):  # noqa: N818  caught by the sink, which starts again from decision 0
    """The cursor file is not what was written; the message says where and what."""


def load_progress(path: Path) -> Progress:
    """The recorded progress, or START if there is none. Raises UnreadableProgress, OSError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return START
    crc, _, content = raw.partition(b" ")
    if crc != _crc_text(content):
        raise UnreadableProgress(f"{path}: crc: expected {_crc_text(content).decode()}, found {crc[:8]!r}")
    try:
        progress = msgspec.json.decode(content, type=Progress)
    except msgspec.DecodeError as error:
        raise UnreadableProgress(f"{path}: {error}") from error
    if progress.version != _VERSION:
        raise UnreadableProgress(f"{path}: version: expected {_VERSION}, found {progress.version}")
    return progress


def save_progress(path: Path, progress: Progress) -> None:
    """Make `progress` the recorded one, durably. Raises OSError."""
    content = msgspec.json.encode(progress)
    replace_file(path, _crc_text(content) + b" " + content, synced="name")


def _crc_text(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)
