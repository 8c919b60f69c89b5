"""A table as one Parquet file, which appears whole or not at all."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from strategy_runner.history.engine import disk_errors, open_engine, sql_text

CHUNK_ROWS = 20_000


def write_table(path: Path, columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> int:
    """`columns` gives the SQL type of each; returns the number of rows. Raises OSError, StrategyRunnerError."""
    written, left = 0, iter(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".table-", dir=path.parent) as work:
        with disk_errors(path), open_engine(Path(work) / "rows.duckdb") as engine:
            engine.execute(f"CREATE TABLE rows ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
            while chunk := list(islice(left, CHUNK_ROWS)):
                by_column = zip(columns, zip(*chunk, strict=True), strict=True)
                engine.register("chunk", {name: np.array(values) for name, values in by_column})
                engine.execute("INSERT INTO rows SELECT * FROM chunk")
                engine.unregister("chunk")
                written += len(chunk)
            finished = Path(work) / path.name
            engine.execute(f"COPY rows TO {sql_text(str(finished))} (FORMAT parquet, COMPRESSION zstd)")
        finished.replace(path)
    return written
