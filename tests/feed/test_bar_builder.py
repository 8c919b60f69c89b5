"""Bars: against recorded ones, and what must hold of any."""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.feed.bars import BarBuilder, ClosedBar
from strategy_runner.history.catalog import series_of
from strategy_runner.history.reader import read_series

MINUTE = 60_000_000_000
Print = tuple[int, float, float]


def rows(folder: Path, kind: str, symbol: str) -> list[tuple[float, ...]]:
    """(ts, values ...) of a recorded series, through the gate."""
    found: list[tuple[float, ...]] = []
    for block in read_series(series_of(folder, kind, symbol)):
        found += zip(block.ts.tolist(), *(column.tolist() for column in block.values), strict=True)
    return found


def from_prints(timeframe: str, prints: Iterable[Print], end_ns: int = 1 << 62) -> list[ClosedBar]:
    builder, found = BarBuilder(timeframe), []
    for event_ns, price, size in prints:
        found += [builder.due(event_ns)]
        builder.add(event_ns, price, size)
    found += [builder.due(end_ns)]
    return [bar for bar in found if bar is not None]


def from_bars(timeframe: str, smaller: Iterable[tuple[float, ...]]) -> list[ClosedBar]:
    builder, found = BarBuilder(timeframe), []
    for event_ns, *values in smaller:
        found += [builder.due(int(event_ns) - 1)]
        builder.add_bar(int(event_ns), *values)
        found += [builder.due(int(event_ns))]
    found += [builder.due(1 << 62)]
    return [bar for bar in found if bar is not None]


def test_bars_built_from_recorded_trades_are_the_recorded_bars(recorded_data: Path) -> None:
    """Gold: every price of every bar, and the volume of 99.9 % of them, as the recording's own description says."""
    path = series_of(recorded_data, "trades", "GCZ13").path
    with duckdb.connect() as engine:
        prints = engine.execute(f"SELECT ts, price, size FROM '{path}'").fetchall()
    built = from_prints("1m", prints)
    recorded = [ClosedBar(int(ts), *values) for ts, *values in rows(recorded_data, "bars_1m", "GCZ13")]
    assert len(recorded) == 2691
    assert [bar[:5] for bar in built] == [bar[:5] for bar in recorded]
    same = sum(mine.volume == theirs.volume for mine, theirs in zip(built, recorded, strict=True))
    assert same >= 0.999 * len(recorded)


def test_the_prints_the_gate_drops_change_no_bar_but_their_own(recorded_data: Path) -> None:
    """167 prints have no size: they move no volume, and in five minutes they were an extreme or a last price."""
    path = series_of(recorded_data, "trades", "GCZ13").path
    with duckdb.connect() as engine:
        prints = engine.execute(f"SELECT ts, price, size FROM '{path}'").fetchall()
    dropped = {(ts // MINUTE + 1) * MINUTE for ts, _, size in prints if size == 0}
    gated = from_prints("1m", [(int(ts), price, size) for ts, price, size, _ in rows(recorded_data, "trades", "GCZ13")])
    differing = {mine.event_ns for mine, other in zip(gated, from_prints("1m", prints), strict=True) if mine != other}
    assert len(differing) == 5
    assert differing <= dropped


@pytest.mark.parametrize("timeframe", ["5m", "1h", "1d"])
def test_larger_bars_are_the_same_from_trades_and_from_smaller_bars(recorded_data: Path, timeframe: str) -> None:
    prints = [(int(ts), price, size) for ts, price, size, _ in rows(recorded_data, "trades", "GCZ13")]
    minutes = from_prints("1m", prints)
    assert from_bars(timeframe, minutes) == from_prints(timeframe, prints)


def test_larger_bars_of_recorded_bars_agree_with_numpy(recorded_data: Path) -> None:
    minutes = np.array(rows(recorded_data, "bars_1m", "EURUSD"))
    closes_ns = minutes[:, 0].astype(np.int64)
    groups = -(-closes_ns // (5 * MINUTE)) * 5 * MINUTE
    found = from_bars("5m", [(int(ts), *values) for ts, values in zip(closes_ns, minutes[:, 1:].tolist(), strict=True)])
    assert [bar.event_ns for bar in found] == np.unique(groups).tolist()
    for bar in found:
        own = minutes[groups == bar.event_ns]
        assert bar[1:5] == (own[0, 1], own[:, 2].max(), own[:, 3].min(), own[-1, 4])
        assert bar.volume == pytest.approx(own[:, 5].sum())


prints_of_an_hour = st.lists(
    st.tuples(
        st.integers(0, 60 * MINUTE),
        st.floats(0.01, 1e6, allow_nan=False),
        st.integers(1, 1_000).map(float),
    ),
    min_size=1,
    max_size=60,
).map(lambda prints: sorted(prints, key=lambda each: each[0]))


@settings(max_examples=80, deadline=None)
@given(prints=prints_of_an_hour, timeframe=st.sampled_from(["1s", "1m", "7m", "1h"]))
def test_a_bar_is_the_first_highest_lowest_and_last_price_and_the_volume_of_its_interval(
    prints: list[Print], timeframe: str
) -> None:
    found = from_prints(timeframe, prints)
    interval_ns = BarBuilder(timeframe).interval_ns
    assert [bar.event_ns for bar in found] == sorted({(ts // interval_ns + 1) * interval_ns for ts, _, _ in prints})
    for bar in found:
        own = [each for each in prints if bar.event_ns - interval_ns <= each[0] < bar.event_ns]
        prices = [price for _, price, _ in own]
        assert bar[1:5] == (prices[0], max(prices), min(prices), prices[-1])
        assert bar.volume == sum(size for _, _, size in own)
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
    assert sum(bar.volume for bar in found) == sum(size for _, _, size in prints)


@settings(max_examples=60, deadline=None)
@given(prints=prints_of_an_hour)
def test_bars_of_bars_are_the_bars_of_the_prints(prints: list[Print]) -> None:
    assert from_bars("15m", from_prints("1m", prints)) == from_prints("15m", prints)


@settings(max_examples=60, deadline=None)
@given(prints=prints_of_an_hour, cut=st.integers(0, 60))
def test_a_builder_that_is_restored_anywhere_goes_on_as_if_nothing_had_happened(prints: list[Print], cut: int) -> None:
    before, found = BarBuilder("5m"), []
    for event_ns, price, size in prints[:cut]:
        found += [before.due(event_ns)]
        before.add(event_ns, price, size)
    after = BarBuilder("5m")
    after.restore(before.state())
    for event_ns, price, size in prints[cut:]:
        found += [after.due(event_ns)]
        after.add(event_ns, price, size)
    found += [after.due(1 << 62)]
    assert [bar for bar in found if bar is not None] == from_prints("5m", prints)


def test_a_bar_ends_where_the_next_begins() -> None:
    """A print at the very end of an interval is the first of the next; a pause has no bars."""
    prints = [(0, 1.0, 1.0), (MINUTE - 1, 2.0, 1.0), (MINUTE, 3.0, 1.0), (9 * MINUTE, 4.0, 1.0)]
    assert from_prints("1m", prints) == [
        ClosedBar(MINUTE, 1.0, 2.0, 1.0, 2.0, 2.0),
        ClosedBar(2 * MINUTE, 3.0, 3.0, 3.0, 3.0, 1.0),
        ClosedBar(10 * MINUTE, 4.0, 4.0, 4.0, 4.0, 1.0),
    ]
    builder = BarBuilder("1m")
    builder.add(5, 1.0, 1.0)
    assert builder.due(MINUTE - 1) is None
    assert builder.due(MINUTE) is not None
    assert builder.due(1 << 62) is None
