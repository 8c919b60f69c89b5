"""Writes one series of a history folder: rows gathered on disk, then one Parquet file that appears whole or not at all."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from strategy_runner.history.catalog import Series
from strategy_runner.history.columns import VALUE_COLUMNS, Times, Values
from strategy_runner.history.engine import disk_errors, open_engine, sql_text
from strategy_runner.small_files import sync_path

_SIDE_WORDS = "CASE side WHEN 1.0 THEN 'buy' WHEN -1.0 THEN 'sell' ELSE '' END AS side"


class SeriesWriter:
    """A context: `append` chunks in order, then `commit`. Leaving without it leaves no trace."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._names = VALUE_COLUMNS[series.stream.kind]

    def __enter__(self) -> "SeriesWriter":
        folder = self._series.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        columns = ", ".join(f"{name} DOUBLE" for name in self._names)
        with contextlib.ExitStack() as opened, disk_errors(self._series.path):
            # Beside the destination, for a rename cannot cross file systems; the dot keeps it out of the catalogue.
            self._work = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix=".import-", dir=folder)))
            self._engine = opened.enter_context(open_engine(self._work / "rows.duckdb"))
            self._engine.execute(f"CREATE TABLE rows (ts BIGINT, {columns})")
            self._open = opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def append(self, ts: Times, values: Sequence[Values]) -> None:
        """Adds rows behind the ones before. Raises DiskFullError."""
        chunk = {"ts": ts, **dict(zip(self._names, values, strict=True))}
        with disk_errors(self._series.path):
            self._engine.register("chunk", chunk)
            self._engine.execute("INSERT INTO rows SELECT * FROM chunk")
            self._engine.unregister("chunk")

    def commit(self) -> None:
        """Puts the file in its place, on disk before it has its name. Raises DiskFullError."""
        columns = ", ".join(_SIDE_WORDS if name == "side" else name for name in self._names)
        finished = self._work / self._series.path.name
        with disk_errors(self._series.path):
            self._engine.execute(
                f"COPY (SELECT ts, {columns} FROM rows) TO {sql_text(str(finished))} "
                "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
            )
        sync_path(finished)
        finished.replace(self._series.path)
        sync_path(self._series.path.parent)
