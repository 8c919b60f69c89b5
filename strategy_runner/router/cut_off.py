"""Workers whose logs a router does not trust any more, in a file for those who ask how the fleet is."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from strategy_runner.small_files import read_whole, replace_file


def write_cut_off(folder: Path, reasons: Mapping[str, str]) -> None:
    """Replaces the list (reason by worker) in a router's folder; an empty one is no file. Raises OSError."""
    path = _path(folder)
    if not reasons:
        path.unlink(missing_ok=True)
        return
    replace_file(path, msgspec.json.format(msgspec.json.encode(reasons, order="sorted")), synced="nothing")


def read_cut_off(folder: Path) -> dict[str, str]:
    """Reason by worker; nothing if no worker is cut off, or the router has never run."""
    try:
        return msgspec.json.decode(read_whole(_path(folder)), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _path(folder: Path) -> Path:
    return folder / "cut_off.json"
