"""Lays out a new home from what the package brings: sample clients, environment files, templates for supervisord."""

import shutil
from importlib.resources import files
from pathlib import Path

import strategy_runner
from strategy_runner.errors import StrategyRunnerError, UsageError

PARTS = ("clients", "configs", "supervisor")


def init_home(folder: Path) -> list[Path]:
    """Copies the parts into a folder, all or none, and returns their paths. Raises UsageError if one of them is there already,
    StrategyRunnerError and OSError if they cannot be written."""
    source = _packaged_home()
    for part in PARTS:
        if (folder / part).exists():
            raise UsageError(f"{folder / part}: expected no such folder yet, found one; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for part in PARTS:
            shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        for part in PARTS:
            shutil.rmtree(folder / part, ignore_errors=True)
        if isinstance(error, shutil.Error):  # of all that it could not copy
            _, path, reason = error.args[0][0]
            raise StrategyRunnerError(f"{path}: expected to write it, found: {reason}") from error
        raise
    return [folder / part for part in PARTS]


def _packaged_home() -> Path:
    """In a wheel the parts lie inside the package; in a checkout beside it."""
    packaged = Path(str(files(strategy_runner) / "home"))
    return packaged if packaged.is_dir() else Path(str(files(strategy_runner))).parent
