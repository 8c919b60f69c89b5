"""The mock source: the same seed gives the same records, however they are asked for."""

import math
import statistics
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.config.spec import MockSpec
from strategy_runner.feed.sources.interface import Raw
from strategy_runner.feed.sources.mock import BLOCK_STEPS, MockSource
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import trades

FOREVER = 1 << 62
START_NS = 1_700_000_000_000_000_000
SYMBOLS = ("BTC-USD", "ETH-USD", "PENNY")


def spec(**changes: Any) -> MockSpec:
    settled = MockSpec(
        seed=7,
        speed=0.0,
        start_ns=START_NS,
        records=0,
        trades_per_s=2.0,
        quotes_per_s=1.0,
        prices=(("BTC-USD", 30_000.0), ("PENNY", 0.0004)),
    )
    return msgspec.structs.replace(settled, **changes)


def source(*symbols: str, **changes: Any) -> MockSource:
    made = MockSource(spec(**changes), now_ns=5)
    made.add(symbols or SYMBOLS)
    return made


def taken(count: int, *symbols: str, **changes: Any) -> list[Raw]:
    return source(*symbols, **changes).take(count, FOREVER)


def test_the_same_seed_gives_the_same_records_and_another_one_others() -> None:
    assert taken(5_000) == taken(5_000)
    assert taken(5_000) != taken(5_000, seed=8)


@settings(max_examples=30, deadline=None)
@given(limits=st.lists(st.integers(1, 400), min_size=1, max_size=15), step_s=st.integers(1, 300))
def test_batches_and_the_pace_change_nothing(limits: list[int], step_s: int) -> None:
    made, found, until_ns = source(), [], START_NS
    for limit in limits:
        until_ns += step_s * 1_000_000_000
        rows = made.take(limit, until_ns)
        assert len(rows) <= limit and all(row[2] <= until_ns for row in rows)
        next_ns = made.next_ns()
        assert next_ns is not None
        assert len(rows) == limit or next_ns > until_ns
        found += rows
    assert found == taken(len(found))


@settings(max_examples=30, deadline=None)
@given(cut=st.one_of(st.integers(0, 6_000), st.sampled_from([BLOCK_STEPS - 1, BLOCK_STEPS, BLOCK_STEPS + 1])))
def test_a_source_that_is_restored_anywhere_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    before = source()
    before.take(cut, FOREVER)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(before.state()))
    after = MockSource(spec(), now_ns=99)
    after.add(("BTC-USD",))
    after.restore(state)
    assert after.next_ns() == before.next_ns()
    assert after.take(1_000, FOREVER) == before.take(1_000, FOREVER)


def test_symbols_do_not_depend_on_each_other() -> None:
    together = taken(9_000)
    for symbol in SYMBOLS:
        own = [row for row in together if row[0] == symbol]
        assert own == taken(len(own), symbol)


def test_records_are_in_the_order_of_event_time_and_then_of_symbol() -> None:
    rows = taken(9_000)
    assert [(row[2], row[0]) for row in rows] == sorted((row[2], row[0]) for row in rows)
    for symbol in SYMBOLS:
        own = [row[2] for row in rows if row[0] == symbol]
        assert all(earlier < later for earlier, later in pairwise(own))


def test_a_symbol_added_later_begins_at_the_present_event_time() -> None:
    made = source("BTC-USD")
    first = made.take(1_000, FOREVER)
    made.add(("BTC-USD", "ETH-USD"))
    rows = made.take(1_000, FOREVER)
    assert {row[0] for row in rows} == {"BTC-USD", "ETH-USD"}
    assert min(row[2] for row in rows if row[0] == "ETH-USD") >= first[-1][2]
    assert [row for row in first + rows if row[0] == "BTC-USD"] == taken(
        1_000 + sum(row[0] == "BTC-USD" for row in rows), "BTC-USD"
    )


def test_a_source_of_so_many_records_ends_with_the_last_of_them() -> None:
    made = source(records=1_000)
    assert len(made.take(600, FOREVER)) == 600
    assert made.next_ns() is not None
    assert len(made.take(600, FOREVER)) == 400
    assert made.next_ns() is None
    assert made.take(600, FOREVER) == []
    again = MockSource(spec(records=1_000), now_ns=5)
    again.restore(made.state())
    assert again.next_ns() is None


def test_trades_and_quotes_come_in_the_proportion_asked_for_at_about_their_rate() -> None:
    rows = taken(9_000, "BTC-USD")
    share = sum(row[1] == Kind.TRADE for row in rows) / len(rows)
    assert share == pytest.approx(2 / 3, abs=0.03)
    assert (rows[-1][2] - rows[0][2]) / 1e9 == pytest.approx(3_000, rel=0.01)


def test_every_record_could_be_traded_on() -> None:
    """Prices and sizes are positive and finite, the ask lies above the bid, a side is a side."""
    for symbol, kind, _, *values in taken(40_000):
        assert all(math.isfinite(value) for value in values), symbol
        if kind == Kind.TRADE:
            price, size, side = values[:3]
            assert price > 0 and size > 0 and side in (1.0, -1.0)
        else:
            bid, ask, bid_size, ask_size = values[:4]
            assert 0 < bid < ask and bid_size > 0 and ask_size > 0


def test_markets_differ_from_block_to_block() -> None:
    """Some blocks hardly move and some move a lot: a strategy meets calm, trend and turmoil."""
    prices = [row[3] for row in taken(60 * BLOCK_STEPS, "BTC-USD")]
    moves = []
    for at in range(0, len(prices), BLOCK_STEPS):
        block = prices[at : at + BLOCK_STEPS]
        moves.append(statistics.pstdev(math.log(after / before) for before, after in pairwise(block)))
    assert max(moves) > 4 * min(moves)
    assert max(abs(math.log(after / before)) for before, after in pairwise(prices)) < 0.005, (
        "a block begins at the last price"
    )
    ends = [math.log(prices[at + BLOCK_STEPS - 1] / prices[at]) for at in range(0, len(prices), BLOCK_STEPS)]
    assert max(ends) > 0.005 and min(ends) < -0.005


def test_time_begins_now_when_the_settings_leave_it_open_and_stays_so() -> None:
    made = MockSource(spec(start_ns=0), now_ns=START_NS + 5)
    made.add(SYMBOLS)
    rows = made.take(10, FOREVER)
    assert rows[0][2] >= START_NS + 5
    later = MockSource(spec(start_ns=0), now_ns=START_NS * 2)
    later.restore(made.state())
    later.add(("NEW",))
    assert later.next_ns() == made.next_ns()


def test_trades_drive_a_symbol() -> None:
    assert source().base("BTC-USD") == trades("BTC-USD")
