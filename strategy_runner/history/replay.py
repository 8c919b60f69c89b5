"""Recorded history as a source of raw records: all series of all wanted symbols, merged into one order.

The order is event time, then symbol, then kind, then the row in its file. It depends on no other symbol, so a worker that
reads its own symbols alone meets their records in the same order as on a tape that holds a hundred.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strategy_runner.config.spec import ReplaySpec
from strategy_runner.config.times import moment
from strategy_runner.errors import StateError
from strategy_runner.feed.pace import FOREVER_NS
from strategy_runner.feed.sources.interface import Raw, Sleep
from strategy_runner.history.catalog import Series, SymbolHistory, find_series
from strategy_runner.history.quality import QualityReport
from strategy_runner.history.reader import Block, SeriesReader, has_rows_before, read_series
from strategy_runner.model.stream import Stream

PART_ROWS = 8_192
MERGED_ROWS = 1_024  # at once, of the series that has most
_WAYS_ON = "put it back as it was, or stop all clients and start the run again, which begins anew"


class _Cursor:
    """One series being read: the rows at hand, and how many were taken. Times never go back."""

    def __init__(self, series: Series, spec: ReplaySpec, *, from_ns: int, skip: int) -> None:
        self.series = series
        self.from_ns = from_ns
        self.taken = skip
        self.reader: SeriesReader = read_series(series, from_ns, spec.to_ns)
        self._parts = _parts(self.reader, skip)
        self._rows: list[Raw] = []
        self._at = 0
        self._has_ended = False

    @property
    def rank(self) -> tuple[str, int, str]:
        """Its place among series that have a row of the same time."""
        stream = self.series.stream
        return stream.symbol, int(stream.kind), stream.name

    def fill(self) -> bool:
        """Whether there are rows at hand, and then of more than one moment but at the end of the series."""
        while not self._has_ended and (self._at == len(self._rows) or self._head_ns == self._rows[-1][2]):
            part = next(self._parts, None)
            self._has_ended = part is None
            self._rows, self._at = self._rows[self._at :] + (part or []), 0
        return self._at < len(self._rows)

    def horizon_ns(self) -> int:
        """A time behind the next row, below which nothing can follow that is not at hand: some hundred rows away."""
        near_ns = self._rows[min(self._at + MERGED_ROWS, len(self._rows) - 1)][2]
        if near_ns > self._head_ns:
            return near_ns
        last_ns = self._rows[-1][2]
        return last_ns if last_ns > self._head_ns else FOREVER_NS

    def take_below(self, limit_ns: int) -> list[Raw]:
        end = bisect_left(self._rows, limit_ns, self._at, key=_event_ns)
        rows = self._rows[self._at : end]
        self._at = end
        self.taken += len(rows)
        return rows

    def give_back(self, count: int) -> None:
        """The last rows taken, since `fill`."""
        self._at -= count
        self.taken -= count

    @property
    def _head_ns(self) -> int:
        return self._rows[self._at][2]


class ReplaySource:
    """A source (feed/sources/interface.py) over a history folder."""

    rewinds = True

    def __init__(self, spec: ReplaySpec) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._cursors: list[_Cursor] = []  # by rank
        self._merged: list[Raw] = []
        self._owners: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # of the merged rows: which cursor's
        self._at = 0  # the next of them
        self._symbols: dict[str, SymbolHistory] = {}
        self._last_ns = 0

    def base(self, symbol: str) -> Stream:
        return self._history(symbol).base.stream

    def known_ns(self, symbol: str) -> int | None:
        """The beginning of the window, where something lies before it: then nothing is missing between it and the first row."""
        from_ns = self._spec.from_ns
        is_beginning = from_ns and not self._last_ns
        return from_ns if is_beginning and has_rows_before(self._history(symbol).base, from_ns) else None

    def add(self, symbols: Iterable[str]) -> None:
        self._give_back()
        carried = {cursor.series.stream.symbol for cursor in self._cursors}
        for symbol in sorted(set(symbols) - carried):
            history = self._history(symbol)
            for series in (history.base, *history.others):
                self._carry(series, from_ns=self._last_ns or self._spec.from_ns, skip=0)

    def next_ns(self) -> int | None:
        return self._merged[self._at][2] if self._has_merged() else None

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        sleep(timeout_s, None)

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        taken: list[Raw] = []
        while len(taken) < limit and self._has_merged():
            most = min(len(self._merged), self._at + limit - len(taken))
            end = bisect_right(self._merged, until_ns, self._at, most, key=_event_ns)
            taken += self._merged[self._at : end]
            self._at = end
            if end < most:
                break
        if taken:
            self._last_ns = taken[-1][2] or -1  # 0 is none yet, and an open beginning
        return taken

    def state(self) -> dict[str, object]:
        """By series: where reading began, how many rows were taken, and of which file; and the present event time."""
        left = self._left().tolist()
        series = {
            c.series.stream.name: [c.from_ns, c.taken - left[i], *c.reader.identity]
            for i, c in enumerate(self._cursors)
        }
        return {"last_ns": self._last_ns, "series": series}

    def restore(self, state: dict) -> None:  # type: ignore[type-arg]  # plain data as `state` wrote it
        """Raises StateError where a recording is not the one read before: half of each would be a market that never was."""
        for cursor in self._cursors:
            cursor.reader.close()
        self._cursors, self._merged, self._owners, self._at = [], [], self._owners[:0], 0
        self._last_ns = state["last_ns"]
        for name, (from_ns, taken, *file) in state["series"].items():
            history = self._history(Stream.parse(name).symbol)
            found = {series.stream.name: series for series in (history.base, *history.others)}
            if name not in found:
                raise StateError(
                    f"{self._folder}: expected {name}, of which {taken} rows were read before, found {', '.join(found)}; "
                    f"{_WAYS_ON}"
                )
            self._carry(found[name], from_ns=from_ns, skip=taken, file=tuple(file))

    def reports(self) -> dict[str, QualityReport]:
        """What the quality gate has seen so far, by series."""
        return {cursor.series.stream.name: cursor.reader.report for cursor in self._cursors}

    def findings(self) -> list[str]:
        return [f"quality of {name}: {report.summary()}" for name, report in self.reports().items()]

    def progress(self) -> tuple[int, int]:
        """(rows done, rows in all) over all files, for a progress bar."""
        readers = [cursor.reader for cursor in self._cursors]
        return sum(reader.rows_done for reader in readers), sum(reader.rows_total for reader in readers)

    def _history(self, symbol: str) -> SymbolHistory:
        if symbol not in self._symbols:
            self._symbols[symbol] = find_series(self._folder, symbol)
        return self._symbols[symbol]

    def _carry(self, series: Series, *, from_ns: int, skip: int, file: tuple[int, ...] = ()) -> None:
        cursor = _Cursor(series, self._spec, from_ns=from_ns, skip=skip)
        if file and file != cursor.reader.identity:
            raise StateError(
                f"{series.path}: expected the recording of which {skip} rows were read before, {_described(file)}, "
                f"found another one, {_described(cursor.reader.identity)}; {_WAYS_ON}"
            )
        self._cursors.append(cursor)
        self._cursors.sort(key=_rank)

    def _has_merged(self) -> bool:
        """Whether there is a next row; merges some if none is left."""
        if self._at == len(self._merged):
            self._merge()
        return self._at < len(self._merged)

    def _merge(self) -> None:
        """Puts the rows below a common horizon into their order: by time and, since the sort is stable, by rank and row."""
        filled = [cursor.fill() for cursor in self._cursors]
        live = [cursor for cursor, is_filled in zip(self._cursors, filled, strict=True) if is_filled]
        horizon_ns = min((cursor.horizon_ns() for cursor in live), default=0)
        parts = [cursor.take_below(horizon_ns) for cursor in live]
        rows = list(chain.from_iterable(parts))
        owners = np.repeat(np.flatnonzero(filled), list(map(len, parts)))
        if len(live) > 1:
            order = np.argsort(np.fromiter(map(_event_ns, rows), dtype=np.int64, count=len(rows)), kind="stable")
            rows, owners = [rows[i] for i in order.tolist()], owners[order]
        self._merged, self._owners, self._at = rows, owners, 0

    def _left(self) -> "npt.NDArray[np.int64]":
        """How many of the merged rows are left, by cursor."""
        return np.bincount(self._owners[self._at :], minlength=len(self._cursors))

    def _give_back(self) -> None:
        for cursor, count in zip(self._cursors, self._left().tolist(), strict=True):
            cursor.give_back(count)
        self._merged, self._owners, self._at = [], self._owners[:0], 0


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


def _described(file: tuple[int, ...]) -> str:
    size, changed_ns = file
    return f"{size} bytes of {moment(changed_ns)}"


_event_ns = itemgetter(2)
_rank = attrgetter("rank")
