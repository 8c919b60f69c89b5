"""Recorded history as a source of raw records: all series of all wanted symbols, merged into one order.

The order is event time, then symbol, then kind, then the row in its file. It depends on no other symbol, so a worker that
reads its own symbols alone meets their records in the same order as on a tape that holds a hundred.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path

from strategy_runner.config.spec import ReplaySpec
from strategy_runner.feed.sources.interface import Raw, Sleep
from strategy_runner.history.catalog import Series, SymbolHistory, find_series
from strategy_runner.history.quality import QualityReport
from strategy_runner.history.reader import Block, SeriesReader, read_series
from strategy_runner.model.stream import Stream

PART_ROWS = 8_192

# event_ns, symbol, kind, name of the series: sorts in the order of the merge
_Head = tuple[int, str, int, str]


class _Cursor:
    """One series being read: the rows at hand, and how many were taken."""

    def __init__(self, series: Series, spec: ReplaySpec, *, from_ns: int, skip: int) -> None:
        self.series = series
        self.from_ns = from_ns
        self.taken = skip
        self.reader: SeriesReader = read_series(series, from_ns, spec.to_ns)
        self._parts = _parts(self.reader, skip)
        self._rows: list[Raw] = []
        self._at = 0

    def head(self) -> Raw | None:
        """The next row, or None at the end."""
        if self._at == len(self._rows):
            self._rows, self._at = next(self._parts, []), 0
        return self._rows[self._at] if self._rows else None

    def pop(self) -> Raw:
        row = self._rows[self._at]
        self._at += 1
        self.taken += 1
        return row

    def run(self, limit: int, until_ns: int) -> list[Raw]:
        """The rows at hand up to `until_ns`, at most `limit`; times never go back, so the cut is found by bisection."""
        end = bisect_right(self._rows, until_ns, self._at, min(len(self._rows), self._at + limit), key=_event_ns)
        rows = self._rows[self._at : end]
        self._at = end
        self.taken += len(rows)
        return rows


class ReplaySource:
    """A source (feed/sources/interface.py) over a history folder."""

    rewinds = True

    def __init__(self, spec: ReplaySpec) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._cursors: dict[str, _Cursor] = {}
        self._heads: list[_Head] = []
        self._symbols: dict[str, SymbolHistory] = {}
        self._last_ns = 0

    def base(self, symbol: str) -> Stream:
        return self._history(symbol).base.stream

    def add(self, symbols: Iterable[str]) -> None:
        carried = {cursor.series.stream.symbol for cursor in self._cursors.values()}
        for symbol in sorted(set(symbols) - carried):
            history = self._history(symbol)
            for series in (history.base, *history.others):
                self._carry(series, from_ns=max(self._spec.from_ns, self._last_ns), skip=0)

    def next_ns(self) -> int | None:
        return self._heads[0][0] if self._heads else None

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        sleep(timeout_s, None)

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        heads = self._heads
        taken: list[Raw] = []
        while heads and len(taken) < limit and heads[0][0] <= until_ns:
            name = heads[0][3]
            cursor = self._cursors[name]
            if len(heads) == 1:
                taken += cursor.run(limit - len(taken), until_ns)
            else:
                taken.append(cursor.pop())
            heapq.heappop(heads)
            self._push(cursor.head(), name)
        if taken:
            self._last_ns = taken[-1][2]
        return taken

    def state(self) -> dict[str, object]:
        """By series: where reading began and how many rows were taken; and the present event time."""
        return {"last_ns": self._last_ns, "series": {name: [c.from_ns, c.taken] for name, c in self._cursors.items()}}

    def restore(self, state: dict) -> None:  # type: ignore[type-arg]  # plain data as `state` wrote it
        for cursor in self._cursors.values():
            cursor.reader.close()
        self._cursors, self._heads = {}, []
        self._last_ns = state["last_ns"]
        for name, (from_ns, taken) in state["series"].items():
            history = self._history(Stream.parse(name).symbol)
            series = next(s for s in (history.base, *history.others) if s.stream.name == name)
            self._carry(series, from_ns=from_ns, skip=taken)

    def reports(self) -> dict[str, QualityReport]:
        """What the quality gate has seen so far, by series."""
        return {name: cursor.reader.report for name, cursor in self._cursors.items()}

    def findings(self) -> list[str]:
        return [f"quality of {name}: {report.summary()}" for name, report in self.reports().items()]

    def progress(self) -> tuple[int, int]:
        """(rows done, rows in all) over all files, for a progress bar."""
        readers = [cursor.reader for cursor in self._cursors.values()]
        return sum(reader.rows_done for reader in readers), sum(reader.rows_total for reader in readers)

    def _history(self, symbol: str) -> SymbolHistory:
        if symbol not in self._symbols:
            self._symbols[symbol] = find_series(self._folder, symbol)
        return self._symbols[symbol]

    def _carry(self, series: Series, *, from_ns: int, skip: int) -> None:
        name = series.stream.name
        cursor = self._cursors[name] = _Cursor(series, self._spec, from_ns=from_ns, skip=skip)
        self._push(cursor.head(), name)

    def _push(self, head: Raw | None, name: str) -> None:
        if head is not None:
            heapq.heappush(self._heads, (head[2], head[0], head[1], name))


def _parts(reader: SeriesReader, skip: int) -> Iterator[list[Raw]]:
    """The rows of all blocks after the first `skip`, in lists small enough for a small process."""
    for block in reader:
        if skip >= len(block):
            skip -= len(block)
            continue
        for start in range(skip, len(block), PART_ROWS):
            yield _part(block, start, start + PART_ROWS)
        skip = 0


def _part(block: Block, start: int, end: int) -> list[Raw]:
    columns: list[Iterable[float]] = [column[start:end].tolist() for column in block.values]
    columns += [repeat(float("nan"))] * (5 - len(columns))
    symbol, kind = repeat(block.stream.symbol), repeat(int(block.stream.kind))
    return list(zip(symbol, kind, block.ts[start:end].tolist(), *columns, strict=False))


def _event_ns(row: Raw) -> int:
    return row[2]
