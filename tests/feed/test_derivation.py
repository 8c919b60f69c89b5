"""Derivation: one order of bars, predictions, ticks and records, whatever else anybody wants."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.feed.derive import Derivation, DerivationState, handles_by_symbol
from strategy_runner.history.quality import END_NS
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars, clock, predictions, quotes, trades

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
ALL = (
    "A/trade",
    "A/quote",
    "A/clock.1s",
    "A/clock.1m",
    "A/bar.1m",
    "A/bar.5m",
    "A/prediction.m1.1m",
    "A/prediction.m2.1m",
    "A/prediction.m1.5m",
)
Emitted = tuple[str, int, str]
Row = tuple[str, int, float]


class Emissions(list[Emitted]):
    def emit(self, handle: Any, event_ns: int, *values: float) -> None:
        assert len(values) == 5
        self.append((handle, event_ns, repr(values)))


def derivation(base: Stream, names: Iterable[str], emitted: Emissions) -> Derivation:
    return Derivation(base, {Stream.parse(name): name for name in names}, emit=emitted.emit, seed=1)


def feed(target: Derivation, rows: Iterable[Row]) -> None:
    for kind, event_ns, price in rows:
        if kind == "trade":
            target.trade(event_ns, price, 1.0, 0.0)
        elif kind == "quote":
            target.quote(event_ns, price, price + 1.0, 1.0, 1.0)
        else:
            target.bar(event_ns, price, price + 1.0, price - 1.0, price, 1.0)


def order(emitted: Emissions) -> list[tuple[str, float]]:
    return [(name.removeprefix("A/"), event_ns / SECOND) for name, event_ns, _ in emitted]


def test_what_fell_due_comes_before_the_record_bars_first_with_their_predictions_then_ticks() -> None:
    emitted = Emissions()
    target = derivation(trades("A"), ALL, emitted)
    feed(target, [("trade", 300 * SECOND, 10.0)])
    assert order(emitted) == [("trade", 300)], "time begins with the first record: no tick, nothing closed"
    feed(target, [("trade", 590 * SECOND, 10.0)])
    emitted.clear()
    feed(target, [("trade", 600 * SECOND, 11.0)])
    assert order(emitted) == [
        ("bar.1m", 600),
        ("prediction.m1.1m", 600),
        ("prediction.m2.1m", 600),
        ("bar.5m", 600),
        ("prediction.m1.5m", 600),
        ("clock.1m", 600),
        ("clock.1s", 600),
        ("trade", 600),
    ]


FIRST_TRADES = [("trade", second * SECOND, 10.0) for second in (200, 250, 310, 370, 601, 610)]
FIRST_QUOTES = [("quote", event_ns, price) for _, event_ns, price in FIRST_TRADES]
FIRST_BARS = [("bar", minute * MINUTE, 10.0) for minute in (4, 5, 6, 10, 11)]
FIRST_GIVEN = [("bar.1m", 300), ("bar.1m", 360), ("bar.1m", 420), ("bar.5m", 600)]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("base", "rows", "expected"),
    [
        pytest.param(trades("A"), FIRST_TRADES, FIRST_GIVEN, id="trades"),
        pytest.param(quotes("A"), FIRST_QUOTES, FIRST_GIVEN, id="quotes"),
        pytest.param(bars("A", "1m"), FIRST_BARS, [("bar.5m", 600)], id="bars"),
    ],
)
def test_a_bar_whose_interval_had_begun_before_the_first_record_is_not_given(
    base: Stream, rows: list[Row], expected: list[tuple[str, float]], cut: int
) -> None:
    """Half of a bar went out as a whole one. A checkpoint anywhere changes nothing."""
    emitted, names = Emissions(), ("A/bar.5m", "A/prediction.m1.5m", *(() if base.kind is Kind.BAR else ("A/bar.1m",)))
    before, after = derivation(base, names, emitted), derivation(base, names, emitted)
    feed(before, rows[:cut])
    after.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(before.state()), type=DerivationState))
    feed(after, rows[cut:])
    given = order(emitted)
    assert [each for each in given if each[0].startswith("bar")] == expected
    assert [each for each in given if each[0].startswith("prediction")] == [("prediction.m1.5m", 600)]


def test_a_bar_is_whole_whose_first_record_lies_at_the_very_beginning_of_its_interval() -> None:
    emitted = Emissions()
    feed(
        derivation(trades("A"), ("A/bar.1m", "A/bar.5m"), emitted),
        [("trade", 300 * SECOND, 10.0), ("trade", 600 * SECOND, 10.0)],
    )
    assert order(emitted) == [("bar.1m", 360), ("bar.5m", 600)]
    emitted.clear()
    feed(derivation(bars("A", "1m"), ("A/bar.5m",), emitted), [("bar", 6 * MINUTE, 10.0), ("bar", 10 * MINUTE, 10.0)])
    assert order(emitted) == [("bar.5m", 600)]


def test_ticks_that_a_pause_skipped_are_one_tick_at_the_last_of_them() -> None:
    emitted = Emissions()
    target = derivation(trades("A"), ("A/trade", "A/clock.1s", "A/bar.1m"), emitted)
    feed(target, [("trade", 10 * SECOND, 10.0), ("trade", 10 * SECOND + 5, 10.0), ("trade", 200 * SECOND + 5, 10.0)])
    assert order(emitted)[2:] == [("clock.1s", 200), ("trade", 200.000000005)]
    emitted.clear()
    feed(target, [("trade", 200 * SECOND + 6, 10.0), ("trade", 201 * SECOND, 10.0)])
    assert [name for name, _ in order(emitted)] == ["trade", "clock.1s", "trade"]


def test_bars_that_are_recorded_drive_time_and_larger_bars() -> None:
    emitted = Emissions()
    target = derivation(bars("A", "1m"), ("A/bar.1m", "A/bar.5m", "A/prediction.m1.1m", "A/clock.1m"), emitted)
    feed(target, [("bar", 1 * MINUTE, 10.0)])
    emitted.clear()
    feed(target, [("bar", 4 * MINUTE, 10.0), ("bar", 5 * MINUTE, 11.0), ("bar", 12 * MINUTE, 12.0)])
    assert order(emitted) == [
        ("clock.1m", 180),
        ("bar.1m", 240),
        ("prediction.m1.1m", 240),
        ("clock.1m", 240),
        ("bar.1m", 300),
        ("prediction.m1.1m", 300),
        ("bar.5m", 300),
        ("clock.1m", 300),
        ("clock.1m", 660),
        ("bar.1m", 720),
        ("prediction.m1.1m", 720),
        ("clock.1m", 720),
    ]
    five = next(values for name, _, values in emitted if name == "A/bar.5m")
    assert five == repr((10.0, 12.0, 9.0, 11.0, 3.0))


def test_bars_that_the_recorded_ones_cannot_make_are_refused() -> None:
    with pytest.raises(ValueError, match="A: expected a multiple of the recorded 5m bars, found 7m"):
        derivation(bars("A", "5m"), ("A/bar.7m",), Emissions())


def test_quotes_alone_make_bars_of_mid_prices_without_volume() -> None:
    emitted = Emissions()
    target = derivation(quotes("A"), ("A/bar.1m",), emitted)
    feed(target, [("quote", 0, 10.0), ("quote", 2, 12.0), ("quote", MINUTE, 11.0)])
    assert list(emitted) == [("A/bar.1m", MINUTE, repr((10.5, 12.5, 10.5, 12.5, float("nan"))))]


def test_quotes_beside_trades_are_passed_on_and_drive_nothing() -> None:
    emitted = Emissions()
    target = derivation(trades("A"), ALL, emitted)
    feed(target, [("quote", 1, 10.0), ("quote", 10 * MINUTE, 12.0)])
    assert order(emitted) == [("quote", 1e-9), ("quote", 600)]


rows_of_an_hour = st.lists(
    st.tuples(
        st.sampled_from(["trade", "trade", "quote"]),
        st.one_of(st.integers(0, 3_600).map(lambda s: s * SECOND), st.integers(0, 60 * MINUTE)),
        st.integers(1, 1_000).map(lambda n: n / 8),
    ),
    max_size=40,
).map(lambda rows: sorted(rows, key=lambda row: row[1]))


@settings(max_examples=80, deadline=None)
@given(rows=rows_of_an_hour, wanted=st.sets(st.sampled_from(ALL), min_size=1))
def test_a_stream_is_the_same_whatever_else_is_wanted(rows: list[Row], wanted: set[str]) -> None:
    """And so is the order of several: a worker that reads history alone sees what the tape would hold."""
    everything, some = Emissions(), Emissions()
    feed(derivation(trades("A"), ALL, everything), rows)
    feed(derivation(trades("A"), sorted(wanted), some), rows)
    assert list(some) == [each for each in everything if each[0] in wanted]


@settings(max_examples=80, deadline=None)
@given(rows=rows_of_an_hour, cut=st.integers(0, 40))
def test_a_derivation_that_is_restored_anywhere_goes_on_as_if_nothing_had_happened(rows: list[Row], cut: int) -> None:
    undisturbed, found = Emissions(), Emissions()
    feed(derivation(trades("A"), ALL, undisturbed), rows)
    before = derivation(trades("A"), ALL, found)
    feed(before, rows[:cut])
    state = before.state()
    kept = msgspec.msgpack.encode(state)
    at = len(found)
    feed(before, rows[cut:])
    assert found == undisturbed
    assert msgspec.msgpack.encode(state) == kept, "a state that was taken does not move on"
    after = derivation(trades("A"), ALL, found)
    after.restore(msgspec.msgpack.decode(kept, type=DerivationState))
    del found[at:]
    feed(after, rows[cut:])
    assert found == undisturbed


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_an_hour)
def test_derived_time_never_goes_back_and_a_tick_comes_once(rows: list[Row]) -> None:
    emitted = Emissions()
    feed(derivation(trades("A"), ALL, emitted), rows)
    driven = [event_ns for name, event_ns, _ in emitted if name != "A/quote"]
    assert driven == sorted(driven)
    for name in ("A/clock.1s", "A/clock.1m", "A/bar.1m", "A/bar.5m"):
        own = [event_ns for each, event_ns, _ in emitted if each == name]
        assert len(own) == len(set(own))


def test_a_stream_added_later_begins_then() -> None:
    emitted = Emissions()
    target = derivation(trades("A"), ("A/trade",), emitted)
    feed(target, [("trade", 10 * SECOND, 10.0)])
    target.want({clock("A", "1m"): "A/clock.1m", bars("A", "1m"): "A/bar.1m"})
    feed(target, [("trade", 20 * SECOND, 10.0), ("trade", 70 * SECOND, 11.0), ("trade", 130 * SECOND, 12.0)])
    assert order(emitted)[2:] == [
        ("clock.1m", 60),
        ("trade", 70),
        ("bar.1m", 120),
        ("clock.1m", 120),
        ("trade", 130),
    ], "the bar at 60 would be of the second half of its minute alone"


@pytest.mark.parametrize("timeframe", ["999999s", "999999m", "999999h", "9999d"])
def test_the_longest_bars_and_clocks_have_times_that_a_checkpoint_holds(timeframe: str) -> None:
    """One client's timeframe ended the feed of all when it was to write one."""
    target = derivation(trades("A"), (f"A/bar.{timeframe}", f"A/clock.{timeframe}"), Emissions())
    for event_ns in (-END_NS // 2, 1, END_NS - 1):
        feed(target, [("trade", event_ns, 10.0)])
        state = target.state()
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=DerivationState) == state
        assert max(state.bars[timeframe][0], state.ticks[timeframe]) < 1 << 63


def test_at_one_moment_clocks_tick_in_one_order_however_early_each_was_wanted() -> None:
    together, apart = Emissions(), Emissions()
    at_once = derivation(trades("A"), ("A/clock.1s", "A/clock.10s"), together)
    one_by_one = derivation(trades("A"), ("A/clock.1s",), apart)
    one_by_one.want({clock("A", "10s"): "A/clock.10s"})
    for target in (at_once, one_by_one):
        feed(target, [("trade", 9 * SECOND, 10.0), ("trade", 10 * SECOND, 10.0)])
    assert order(together) == [("clock.10s", 10), ("clock.1s", 10)]
    assert apart == together


def test_streams_are_shared_out_by_symbol_and_the_wall_clock_belongs_to_none() -> None:
    streams = [trades("A"), predictions("B", "m1", "1m"), clock("", "1s"), clock("A", "1s")]
    assert handles_by_symbol({stream: stream.name for stream in streams}) == {
        "A": {trades("A"): "A/trade", clock("A", "1s"): "A/clock.1s"},
        "B": {predictions("B", "m1", "1m"): "B/prediction.m1.1m"},
    }
