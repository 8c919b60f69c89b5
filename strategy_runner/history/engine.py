"""A private DuckDB for one reader or one import: in memory, one thread, a memory limit, and never a download."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb

from strategy_runner.errors import DiskFullError, StrategyRunnerError

MEMORY_LIMIT_MB = 512


def open_engine(database: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own. With `database` the rows lie in that file and not in memory."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,  # a worker has one core's share, and one thread keeps the rows in the order of the file
        "memory_limit": f"{MEMORY_LIMIT_MB}MB",
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": "",  # a reader that needs to spill is a reader that holds too much
    }
    engine = duckdb.connect(str(database) if database else ":memory:", config=settings)
    # Prefetching loads whole row groups: twice the memory and, read in ranges, half the speed on large ones.
    engine.execute("SET disable_parquet_prefetching = true")
    return engine


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Gives what DuckDB says of the disk the file that is being written. Raises DiskFullError, StrategyRunnerError then."""
    try:
        yield
    except duckdb.IOException as error:
        reason = str(error).partition("\n")[0]
        kind = DiskFullError if "No space left" in reason else StrategyRunnerError
        raise kind(f"{path}: expected to write the rows, found: {reason}") from error


def sql_path(path: Path) -> str:
    """The path as a SQL literal that names this file only: DuckDB would read *, ? and [ as patterns."""
    return "'" + re.sub(r"[*?\[]", r"[\g<0>]", str(path)).replace("'", "''") + "'"


def sql_text(text: str) -> str:
    """The text as a SQL literal, for places that take no patterns."""
    return "'" + text.replace("'", "''") + "'"
