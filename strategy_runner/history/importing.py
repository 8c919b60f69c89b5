"""Imports a foreign file into a history folder: normalises columns, scale, zone and stamp, and cleans nothing.

A bad row stays in the file, as it did in the source, and is counted in the report; the gate of every reader keeps it
from being traded on. Only two are left out, and counted too: a row that cannot be read at all, and one whose time is still
to come, which a reader could not tell, since it has no clock.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from strategy_runner.errors import UsageError
from strategy_runner.feed.screen import AHEAD_NS_MAX
from strategy_runner.history.catalog import Series, is_sampled, series_of
from strategy_runner.history.columns import Mask, Times, Values
from strategy_runner.history.mapping import ImportMapping
from strategy_runner.history.quality import END_NS, UNPARSABLE, Example, Gate, QualityReport
from strategy_runner.history.rows import RowBatch, read_rows
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.names import SYMBOL_PATTERN
from strategy_runner.model.record import Kind

BATCH_ROWS = 65_536


def import_file(
    source: Path,
    destination_folder: Path,
    kind: str,
    symbol: str,
    mapping: ImportMapping,
    *,
    replace: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> QualityReport:
    """Writes destination_folder/kind/symbol.parquet and reports what a reader's gate will make of it.

    `kind` is the folder: trades, quotes or bars_<timeframe>. Examples in the report carry the source's line numbers.
    Raises UsageError if source, mapping and kind do not fit each other, no row can be read, or the destination exists
    and `replace` is false; DiskFullError. Until it succeeds the destination is untouched.
    """
    series = _destination(destination_folder, kind, symbol)
    mapping.check_for(series.stream.kind)
    if series.path.exists() and not replace:
        raise UsageError(f"{series.path}: expected no file there yet, found one; --replace puts this one in its place")
    place = f"{source.name}:{mapping.member}" if mapping.member else source.name
    end_ns = min(time.time_ns() + AHEAD_NS_MAX, END_NS)
    gate = Gate(series.stream, series.interval_ns, place, end_ns)
    unparsable = _Unparsable(place)
    with SeriesWriter(series) as writer:
        for batch in read_rows(source, mapping, batch_rows):
            rows, ts, values = _normalise(batch, mapping, series, unparsable)
            gate.check(ts, values, rows)
            has_been = ts < end_ns
            writer.append(ts[has_been], [column[has_been] for column in values])
        report = unparsable.report().merge(gate.report)
        _check_something_read(source, report, mapping)
        writer.commit()
    return report


class _Unparsable:
    """Counts the rows that could not be read and remembers the first."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._count = 0
        self._first_row = 0

    def add(self, rows: Sequence[int]) -> None:
        if rows and (not self._count or min(rows) < self._first_row):
            self._first_row = min(rows)
        self._count += len(rows)

    def report(self) -> QualityReport:
        if not self._count:
            return QualityReport()
        first = {UNPARSABLE: Example(self._place, self._first_row, None)}
        return QualityReport(seen=self._count, counts={UNPARSABLE: self._count}, first=first)


def _destination(folder: Path, kind: str, symbol: str) -> Series:
    if not re.fullmatch(SYMBOL_PATTERN, symbol):
        raise UsageError(f"symbol: expected letters, digits, dot, dash or underscore, found {symbol!r}")
    try:
        series = series_of(folder, kind, symbol)
    except ValueError as error:
        raise UsageError(f"kind: {error}") from None
    if is_sampled(series.stream):
        raise UsageError(
            f"symbol: expected a name that history reads quotes of, found {symbol!r}, which says one a minute"
        )
    return series


def _normalise(
    batch: RowBatch, mapping: ImportMapping, series: Series, unparsable: _Unparsable
) -> tuple[Times, Times, list[Values]]:
    """The batch as the tape has it: row numbers, times at the close, values in the tape's order."""
    ts, unread = mapping.stamps.to_ns(batch.columns["ts"])
    columns: dict[str, Values] = {}
    for name in batch.columns:
        if name == "side":
            columns[name] = _sides(batch.columns[name], mapping.sides)
        elif name != "ts":
            columns[name], unread_here = _numbers(batch.columns[name])
            unread = unread | unread_here
    rows = np.array(batch.rows, dtype=np.int64)
    unparsable.add([*batch.unreadable, *(int(row) for row in rows[unread])])
    read = ~unread
    columns = {name: column[read] for name, column in columns.items()}
    ts = ts[read] + (series.interval_ns if mapping.stamp_is_open else 0)
    return rows[read], ts, _values(series.stream.kind, columns, mapping, len(ts))


def _values(kind: Kind, columns: dict[str, Values], mapping: ImportMapping, length: int) -> list[Values]:
    if kind is Kind.TRADE:
        return [columns["price"] / mapping.scale, columns["size"], columns.get("side", np.zeros(length))]
    unknown = np.full(length, np.nan)
    if kind is Kind.QUOTE:
        sizes = [columns.get("bid_size", unknown), columns.get("ask_size", unknown)]
        return [columns["bid"] / mapping.scale, columns["ask"] / mapping.scale, *sizes]
    prices = [_bar_price(columns, name, mapping) for name in ("open", "high", "low", "close")]
    return [*prices, columns["volume"] if mapping.has_volume else unknown]


def _bar_price(columns: dict[str, Values], name: str, mapping: ImportMapping) -> Values:
    price = (columns[f"bid_{name}"] + columns[f"ask_{name}"]) / 2.0 if mapping.is_mid else columns[name]
    return price / mapping.scale


def _numbers(column: list[object]) -> tuple[Values, Mask]:
    """The numbers of a column, NaN where the source has none, and which entries are no numbers."""
    unread = np.zeros(len(column), dtype=np.bool_)
    numbers = np.empty(len(column), dtype=np.float64)
    for at, entry in enumerate(column):
        number = _number(entry)
        unread[at] = number is None
        numbers[at] = np.nan if number is None else number
    return numbers, unread


def _number(entry: object) -> float | None:
    """A float; NaN for an empty field or null, which is a missing number; None for anything that is not a number."""
    if isinstance(entry, float):
        return entry
    try:
        if isinstance(entry, str):
            # float() also takes 1_000, which no market data file means as a number
            return (float(entry) if entry.strip() else np.nan) if "_" not in entry else None
        if isinstance(entry, int) and not isinstance(entry, bool):
            return float(entry)
    except (ValueError, OverflowError):
        return None
    return np.nan if entry is None else None


def _sides(column: list[object], words: dict[str, float]) -> Values:
    return np.fromiter((words.get(str(entry).strip().lower(), 0.0) for entry in column), np.float64, len(column))


def _check_something_read(source: Path, report: QualityReport, mapping: ImportMapping) -> None:
    if not report.seen:
        raise UsageError(f"{source}: expected rows, found none")
    if report.counts.get(UNPARSABLE, 0) == report.seen:
        stated = ",".join(f"{name}={reference}" for name, reference in mapping.columns.items())
        first = report.first[UNPARSABLE].row
        raise UsageError(
            f"{source}: expected rows that fit {stated} and the time format, found none among {report.seen}; "
            f"look at row {first} first"
        )
