"""Reads one recorded series in blocks, in file order and through the quality gate; never a whole file in memory.

DuckDB hands numpy arrays out only as a whole result, so the file is asked for in ranges of row numbers. One of DuckDB's
own row groups a range costs about 12 MB and reads 3-6 million rows a second; a range in the middle of a huge row group
costs the skipping of what stands before it. Reading ahead takes a thread, and a second range in memory; its first range is
small, since everybody waits for it.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec
import numpy as np

from strategy_runner.errors import ConfigurationError, StateError, UsageError
from strategy_runner.history.catalog import Series
from strategy_runner.history.columns import MISSING_NS, VALUE_COLUMNS, Times, Values
from strategy_runner.history.engine import MEMORY_LIMIT_MB, open_engine, sql_path
from strategy_runner.history.quality import Gate, QualityReport, value_faults
from strategy_runner.model.stream import Stream

CHUNK_ROWS = 16_384  # what signals of one block leave behind stays in a processor's cache until it is written
_RANGE_ROWS = 122_880  # a row group as DuckDB writes it
_NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_TEXT = ("VARCHAR", "ENUM")


class Block(msgspec.Struct, frozen=True):
    """Rows of one stream that passed the gate: never empty, `ts` never goes back.

    `ts` is int64 ns UTC; `values` are float64 columns in the tape's order (model/record.py, Kind), all of one length.
    """

    stream: Stream
    ts: Times
    values: tuple[Values, ...]

    def __len__(self) -> int:
        return len(self.ts)


class _Chunk(msgspec.Struct, frozen=True):
    """Rows as they lie in the file. `rows` are their numbers."""

    rows: Times
    ts: Times
    values: tuple[Values, ...]

    def part(self, start: int, end: int) -> "_Chunk":
        return _Chunk(self.rows[start:end], self.ts[start:end], tuple(column[start:end] for column in self.values))


def read_series(
    series: Series, from_ns: int = 0, to_ns: int = 0, chunk_rows: int = CHUNK_ROWS, *, ahead: bool = False
) -> "SeriesReader":
    """Blocks of the rows with from_ns <= ts < to_ns, 0 for an open end: the same rows that reading all would give there.

    Raises UsageError for an empty window, ConfigurationError if the file is not a series of this kind or is damaged, StateError
    as soon as another file has taken its place: half of each would be a market that never was.
    """
    if from_ns and to_ns and to_ns <= from_ns:
        raise UsageError(f"{series.path}: window: expected an end after the start, found {from_ns} .. {to_ns}")
    if chunk_rows < 1:
        raise UsageError(f"{series.path}: chunk_rows: expected at least 1, found {chunk_rows}")
    return SeriesReader(series, from_ns, to_ns, chunk_rows, ahead=ahead)


def has_rows_before(series: Series, at_ns: int) -> bool:
    """Whether the file has sound rows before a moment. Raises as `read_series` does."""
    with read_series(series, to_ns=at_ns) as reader:
        return next(reader, None) is not None


class SeriesReader(Iterator[Block]):
    """An iterator of blocks that also knows how far it is and what the gate has seen so far."""

    def __init__(self, series: Series, from_ns: int, to_ns: int, chunk_rows: int, *, ahead: bool = False) -> None:
        self._series = series
        self._from_ns = from_ns
        self._to_ns = to_ns
        self._chunk_rows = chunk_rows
        self._ahead = ahead
        self._gate = Gate(series.stream, series.interval_ns, f"{series.path.parent.name}/{series.path.name}")
        self.rows_done = 0
        self.rows_total = 0
        self._engine = open_engine()
        try:
            self._select = self._prepare()
        except BaseException:
            self._engine.close()
            raise
        self._blocks = self._read()

    @property
    def report(self) -> QualityReport:
        """What the gate saw of the rows read so far."""
        return self._gate.report

    @property
    def identity(self) -> tuple[int, ...]:
        """Size and time of change of the file, by which a later process tells it from one that took its place; a copy that keeps
        both is the same."""
        return self._file[1:]

    def close(self) -> None:
        """Gives the memory back before the end was reached; reading to the end does it too."""
        self._blocks.close()
        self._engine.close()

    def __iter__(self) -> "SeriesReader":
        return self

    def __next__(self) -> Block:
        return next(self._blocks)

    def __enter__(self) -> "SeriesReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self) -> Generator[Block, None, None]:
        for chunk in self._chunks():
            end = self._end_of_window(chunk)
            block = self._through_the_gate(chunk if end is None else chunk.part(0, end))
            self.rows_done = int(chunk.rows[-1]) + 1
            if block is not None:
                yield block
            if end is not None:
                break
        self.rows_done = self.rows_total
        self._engine.close()

    def _chunks(self) -> Iterator[_Chunk]:
        ranges = _ranges(self.rows_total, first=CHUNK_ROWS if self._ahead else _RANGE_ROWS)
        for fetched in self._fetched_ahead(ranges) if len(ranges) > 1 and self._ahead else map(self._fetch, ranges):
            for offset in range(0, len(fetched.rows), self._chunk_rows):
                yield fetched.part(offset, offset + self._chunk_rows)
            del fetched  # before the next range comes in

    def _fetched_ahead(self, ranges: list[range]) -> Iterator[_Chunk]:
        """The next range is read while this one is worked on: DuckDB does not hold the interpreter while it reads."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as ahead:
            coming = ahead.submit(self._fetch, ranges[0])
            for rows in ranges[1:]:
                fetched, coming = coming.result(), ahead.submit(self._fetch, rows)
                yield fetched
                del fetched
            yield coming.result()

    def _end_of_window(self, chunk: _Chunk) -> int | None:
        """Index of the first row the gate would keep behind the window: whatever follows in the window is out of order."""
        if not self._to_ns or int(chunk.ts.max()) < self._to_ns:
            return None
        behind = np.flatnonzero(chunk.ts >= self._to_ns)
        codes = value_faults(self._series.stream.kind, chunk.ts[behind], [column[behind] for column in chunk.values])
        sound = behind[codes == 0]
        return int(sound[0]) if len(sound) else None

    def _through_the_gate(self, chunk: _Chunk) -> Block | None:
        if self._to_ns and len(chunk.ts) and int(chunk.ts.max()) >= self._to_ns:
            inside = chunk.ts < self._to_ns
            chunk = _Chunk(chunk.rows[inside], chunk.ts[inside], tuple(column[inside] for column in chunk.values))
        keep = self._gate.check(chunk.ts, chunk.values, chunk.rows)
        if not keep.any():
            return None
        if keep.all():
            return Block(self._series.stream, chunk.ts, chunk.values)
        return Block(self._series.stream, chunk.ts[keep], tuple(column[keep] for column in chunk.values))

    def _prepare(self) -> str:
        """Checks the file's columns and gives the query of one range, whose row numbers are still to be appended."""
        path, source = self._series.path, f"read_parquet({sql_path(self._series.path)}, file_row_number = true)"
        self._file = _file_at(path)
        try:
            described = self._engine.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
            ((counted,),) = self._engine.execute(f"SELECT count(*) FROM {source}").fetchall()
        except duckdb.Error as error:
            raise ConfigurationError(
                f"{path}: expected a readable Parquet file, found: {_first_line(error)}"
            ) from error
        self.rows_total = int(counted)
        names = VALUE_COLUMNS[self._series.stream.kind]
        _check_types(str(path), names, {str(row[0]): str(row[1]) for row in described})
        columns = ", ".join(_as_float(name) for name in names)
        window = f"ts >= {self._from_ns} AND " if self._from_ns else ""
        return f"SELECT file_row_number, coalesce(ts, '{MISSING_NS}'::BIGINT) AS ts, {columns} FROM {source} WHERE {window}"

    def _fetch(self, rows: range) -> _Chunk:
        query = f"{self._select} file_row_number >= {rows.start} AND file_row_number < {rows.stop}"
        path = self._series.path
        try:
            # by execute() the same rows keep the interpreter from the other thread for longer: 50 ms a million
            arrays = self._engine.sql(query).fetchnumpy()
        except duckdb.OutOfMemoryException as error:
            raise ConfigurationError(
                f"{path}: row groups: expected each to fit into {MEMORY_LIMIT_MB} MB, found a larger one; "
                "write the file with smaller ones (ROW_GROUP_SIZE 122880)"
            ) from error
        except duckdb.Error as error:
            raise ConfigurationError(
                f"{path}: rows from {rows.start}: expected readable rows, found: {_first_line(error)}"
            ) from error
        if _file_at(path) != self._file:
            raise StateError(f"{path}: expected the file that reading began with, found another one, or other content")
        names = VALUE_COLUMNS[self._series.stream.kind]
        return _Chunk(arrays["file_row_number"], arrays["ts"], tuple(arrays[name] for name in names))


def _ranges(rows: int, first: int) -> list[range]:
    """Row groups, but for a beginning of `first` rows and for the end."""
    ends = sorted({min(rows, end) for end in (0, first, *range(_RANGE_ROWS, rows + _RANGE_ROWS, _RANGE_ROWS))})
    return [range(start, end) for start, end in pairwise(ends)]


def _file_at(path: Path) -> tuple[int, ...]:
    """By what a file is told from one that takes its place; nothing if there is none, of which DuckDB tells."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _as_float(name: str) -> str:
    if name == "side":
        return "CASE side WHEN 'buy' THEN 1.0::DOUBLE WHEN 'sell' THEN -1.0::DOUBLE ELSE 0.0::DOUBLE END AS side"
    return f"coalesce({name}::DOUBLE, 'NaN'::DOUBLE) AS {name}"


def _check_types(path: str, names: Sequence[str], found: dict[str, str]) -> None:
    expected = {"ts": ("BIGINT",), **{name: _TEXT if name == "side" else _NUMERIC for name in names}}
    have = ", ".join(f"{name} {kind}" for name, kind in found.items() if name != "file_row_number")
    problems = [
        f"{path}: {name}: expected a column of {_described(name)}, found {found.get(name, 'none')}; the file has {have}"
        for name, types in expected.items()
        if not found.get(name, "").startswith(types)
    ]
    if problems:
        raise ConfigurationError(*problems)


def _described(name: str) -> str:
    return {"ts": "int64 nanoseconds (BIGINT)", "side": "text (buy, sell or empty)"}.get(name, "numbers")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
