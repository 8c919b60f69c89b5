"""A note: what a log came to at some place in it, so that a restart reads little. It is checked by a crc, and replaced whole.

A note that is lost or damaged costs a longer read of the log and nothing else.
"""

import zlib
from pathlib import Path

from strategy_runner.small_files import read_whole, replace_file

_CRC_BYTES = 4


def write_note(path: Path, payload: bytes) -> None:
    """Replaces the note. It outlives kill -9; a power cut may take it. Raises OSError."""
    replace_file(path, zlib.crc32(payload).to_bytes(_CRC_BYTES, "little") + payload, synced="nothing")


def read_note(path: Path) -> bytes | None:
    """None for a note that is missing or damaged."""
    try:
        raw = read_whole(path)
    except FileNotFoundError:
        return None
    payload = raw[_CRC_BYTES:]
    return payload if int.from_bytes(raw[:_CRC_BYTES], "little") == zlib.crc32(payload) else None
