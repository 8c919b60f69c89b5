"""The router's word to operators: how far it has acted on their log. Written at each change, so a command can wait for it."""

from pathlib import Path

import msgspec

from strategy_runner.small_files import read_whole, replace_file


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Of process `pid`: every decision from now on respects the actions up to `taken`, and the orders of those up to `acted` are
    on their way, whatever dies."""

    pid: int
    taken: int = 0
    acted: int = 0


def write_acknowledgement(folder: Path, word: Acknowledgement) -> None:
    """In the router's folder. Raises OSError."""
    replace_file(_path(folder), msgspec.json.encode(word), synced="nothing")


def read_acknowledgement(folder: Path) -> Acknowledgement | None:
    """None before the first, or for one that nobody can read."""
    try:
        return msgspec.json.decode(read_whole(_path(folder)), type=Acknowledgement)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _path(folder: Path) -> Path:
    return folder / "operator.ack"
