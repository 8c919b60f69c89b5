"""Recorded history as a source: one order of all series, the same however it is asked for."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.config.spec import ReplaySpec
from strategy_runner.feed.sources.interface import Raw
from strategy_runner.history.catalog import series_of
from strategy_runner.history.reader import CHUNK_ROWS
from strategy_runner.history.replay import PART_ROWS, ReplaySource
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import bars, trades

FOREVER = 1 << 62
SYMBOLS = ("A", "B", "C")


def hold(folder: Path, kind: str, symbol: str, ts: list[int]) -> None:
    """Each row's first value is its number among all of its file, so the order of equal times can be seen."""
    number = np.arange(1.0, len(ts) + 1.0)
    ones = np.ones(len(ts))
    columns = {
        "trades": [number, ones, -ones],
        "quotes": [number, number + 1.0, ones, np.full(len(ts), np.nan)],
        "bars_1m": [number, number + 1.0, number - 0.5, number, ones],
    }
    with SeriesWriter(series_of(folder, kind, symbol)) as writer:
        writer.append(np.array(ts, dtype=np.int64), columns[kind])
        writer.commit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A has trades and quotes, B trades, C bars; many rows share a time, within a series and between them."""
    folder = tmp_path_factory.mktemp("history")
    hold(folder, "trades", "A", [10 * (i // 3) for i in range(300)])
    hold(folder, "quotes", "A", [15 * i for i in range(80)])
    hold(folder, "trades", "B", [10 * (i // 2) for i in range(200)])
    hold(folder, "bars_1m", "C", [50 * i for i in range(1, 30)])
    return folder


def source(folder: Path, *symbols: str, from_ns: int = 0, to_ns: int = 0) -> ReplaySource:
    made = ReplaySource(ReplaySpec(folder=str(folder), speed=0.0, from_ns=from_ns, to_ns=to_ns))
    made.add(symbols or SYMBOLS)
    return made


def everything(made: ReplaySource) -> list[str]:
    """Rows as text: NaN is not equal to itself."""
    return [repr(row) for row in made.take(1_000_000, FOREVER)]


def test_the_order_is_event_time_symbol_kind_and_row(folder: Path) -> None:
    rows = source(folder).take(1_000_000, FOREVER)
    assert len(rows) == 300 + 80 + 200 + 29
    assert [_order(row) for row in rows] == sorted(_order(row) for row in rows)
    assert {row[:2] for row in rows} == {("A", Kind.TRADE), ("A", Kind.QUOTE), ("B", Kind.TRADE), ("C", Kind.BAR)}


def _order(row: Raw) -> tuple[int, str, int, float]:
    return row[2], row[0], row[1], row[3]


@settings(max_examples=10, deadline=None)
@given(limits=st.lists(st.integers(1, 60), min_size=1, max_size=30), step=st.integers(1, 90))
def test_batches_and_the_pace_change_nothing(folder: Path, limits: list[int], step: int) -> None:
    made, found, until_ns = source(folder), [], 0
    for limit in limits:
        until_ns += step
        rows = made.take(limit, until_ns)
        assert len(rows) <= limit and all(row[2] <= until_ns for row in rows)
        next_ns = made.next_ns()
        assert len(rows) == limit or next_ns is None or next_ns > until_ns
        found += [repr(row) for row in rows]
    assert found + everything(made) == everything(source(folder))
    assert made.next_ns() is None
    assert made.take(5, FOREVER) == []


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 609))
def test_a_source_that_is_restored_anywhere_goes_on_as_if_nothing_had_happened(folder: Path, cut: int) -> None:
    before = source(folder)
    before.take(cut, FOREVER)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(before.state()))
    after = source(folder, "A")
    after.restore(state)
    after.add(SYMBOLS)
    assert after.next_ns() == before.next_ns()
    assert everything(after) == everything(before)


@pytest.mark.parametrize("symbols", [("A",), ("B",), ("C",), ("A", "C")])
def test_a_symbol_does_not_depend_on_the_others(folder: Path, symbols: tuple[str, ...]) -> None:
    together = [repr(row) for row in source(folder).take(1_000_000, FOREVER) if row[0] in symbols]
    assert everything(source(folder, *symbols)) == together


@settings(max_examples=10, deadline=None)
@given(from_ns=st.integers(0, 1_200), length=st.integers(1, 1_600))
def test_a_window_gives_the_rows_of_its_time_and_no_others(folder: Path, from_ns: int, length: int) -> None:
    to_ns = from_ns + length
    rows = source(folder).take(1_000_000, FOREVER)
    inside = [repr(row) for row in rows if from_ns <= row[2] < to_ns]
    assert everything(source(folder, from_ns=from_ns, to_ns=to_ns)) == inside


def test_a_symbol_added_later_begins_at_the_present_event_time(folder: Path) -> None:
    made = source(folder, "A")
    first = made.take(200, FOREVER)
    made.add(("A", "B"))
    rows = made.take(1_000_000, FOREVER)
    now_ns = first[-1][2]
    assert [repr(row) for row in rows if row[0] == "B"] == [
        repr(row) for row in source(folder, "B").take(1_000_000, FOREVER) if row[2] >= now_ns
    ]
    assert [repr(row) for row in first + rows if row[0] == "A"] == everything(source(folder, "A"))
    # and a restored source begins it at the same place again
    again = source(folder, "A")
    again.take(200, FOREVER)
    again.add(("B",))
    resumed = source(folder, "A")
    resumed.restore(again.state())
    assert everything(resumed) == everything(again)


def test_series_longer_than_a_block_are_one_sequence(tmp_path: Path) -> None:
    count = CHUNK_ROWS + PART_ROWS + 7
    hold(tmp_path, "trades", "A", list(range(1, count + 1)))
    made = source(tmp_path, "A")
    found: list[Raw] = []
    while rows := made.take(10_000, FOREVER):
        found += rows
    assert [row[3] for row in found] == [float(i) for i in range(1, count + 1)]
    for cut in (PART_ROWS, PART_ROWS + 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, count):
        made = source(tmp_path, "A")
        made.take(cut, FOREVER)
        after = source(tmp_path, "A")
        after.restore(made.state())
        assert [row[3] for row in after.take(3, FOREVER)] == [row[3] for row in found[cut : cut + 3]]


def test_trades_drive_a_symbol_and_else_its_bars(folder: Path) -> None:
    made = source(folder)
    assert (made.base("A"), made.base("C")) == (trades("A"), bars("C", "1m"))


def test_the_rows_that_the_gate_dropped_are_reported_and_not_given(tmp_path: Path) -> None:
    hold(tmp_path, "trades", "A", [10, 30, 20, 40])
    made = source(tmp_path, "A")
    assert [row[2] for row in made.take(10, FOREVER)] == [10, 30, 40]
    assert made.reports()["A/trade"].counts == {"out_of_order": 1}
    assert made.progress() == (4, 4)


def test_recorded_trades_and_quotes_come_in_one_order(recorded_data: Path) -> None:
    made = source(recorded_data, "BTC-USDT-PERP")
    rows = made.take(1_000_000, FOREVER)
    assert all((before[2], before[1]) <= (after[2], after[1]) for before, after in pairwise(rows))
    by_kind = {int(kind): sum(row[1] == kind for row in rows) for kind in (Kind.TRADE, Kind.QUOTE)}
    reports = made.reports()
    assert by_kind == {
        int(Kind.TRADE): reports["BTC-USDT-PERP/trade"].kept,
        int(Kind.QUOTE): reports["BTC-USDT-PERP/quote"].kept,
    }
