"""The watermark of a client's DuckDB file, read from outside while no router has it open."""

from pathlib import Path

import duckdb

from strategy_runner.errors import StateError
from strategy_runner.sinks.duckdb_file import passes
from strategy_runner.sinks.interface import SinkUnavailable


def read_watermark(path: Path) -> int:
    """How many decisions the file holds. Changes nothing. Raises SinkUnavailable if it cannot be read now, StateError if it
    is damaged or somebody else's."""
    try:
        with duckdb.connect(str(path), read_only=True, config={"threads": "1"}) as database:
            row = database.execute("SELECT coalesce(max(next_number), 0) FROM watermark").fetchone()
    except duckdb.Error as error:
        kind = SinkUnavailable if passes(error) else StateError
        raise kind(f"{path}: cannot read the watermark: {error}") from error
    assert row is not None
    return int(row[0])
