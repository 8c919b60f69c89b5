"""A note: what a log came to at some place in it, so that a restart reads little. It is checked by a crc, and replaced whole.

A note that is lost or damaged costs a longer read of the log and nothing else.
"""

from pathlib import Path

from strategy_runner.small_files import checked, read_whole, replace_file, with_crc


def write_note(path: Path, payload: bytes) -> None:
    """Replaces the note. It outlives kill -9; a power cut may take it. Raises OSError."""
    replace_file(path, with_crc(payload), synced="nothing")


def read_note(path: Path) -> bytes | None:
    """None for a note that is missing or damaged."""
    try:
        return checked(read_whole(path))
    except FileNotFoundError:
        return None
