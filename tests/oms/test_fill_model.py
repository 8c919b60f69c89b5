"""The fill model: what trades, quotes and bars do to orders, on the pessimistic side wherever the records do not tell."""

import random
from decimal import localcontext
from typing import Any

import msgspec
import pytest
from oms.paper_build import MINUTE, NOW, SECOND, TOUCH, D, X, bar, quote, request, trade

from strategy_runner.config.paper import fill_settings
from strategy_runner.config.schema import PaperConfig
from strategy_runner.model.fill_settings import FeeSettings, FillSettings, fee_due, raw_fee
from strategy_runner.oms.fill_model import (
    Execution,
    Lapse,
    MarketEvent,
    Move,
    WorkingOrder,
    is_quiet,
    match,
    quiet_band,
    rank,
)
from strategy_runner.oms.ledger import EXACT
from strategy_runner.oms.order_machine import new_order
from strategy_runner.oms.paper_request import working

NAN = float("nan")


def order(order_id: str = "o", settings: FillSettings = TOUCH, /, **changes: Any) -> WorkingOrder:
    return working(new_order(request(order_id, **changes)), settings, waits=False)


def run(orders: list[WorkingOrder], *events: MarketEvent, settings: FillSettings = TOUCH) -> list[str]:
    """Applies events one after the other as a book does; executions as `id quantity@price liquidity`, lapses as `id reason`."""
    found: list[str] = []
    live = {one.id: one for one in orders}
    for event in events:
        for outcome in match(sorted(live.values(), key=rank), event, settings, X):
            if isinstance(outcome, Move):
                live[outcome.order.id] = outcome.order
            elif isinstance(outcome, Lapse):
                found.append(f"{outcome.id} {outcome.reason}")
                live.pop(outcome.id, None)
            else:
                assert isinstance(outcome, Execution)
                found.append(f"{outcome.id} {outcome.quantity}@{outcome.price} {outcome.liquidity}")
                left = live[outcome.id].remaining - outcome.quantity
                assert left >= 0
                live[outcome.id] = working_with(live[outcome.id], left)
                if not left:
                    del live[outcome.id]
    return found


def working_with(one: WorkingOrder, left: Any) -> WorkingOrder:
    return msgspec.structs.replace(one, remaining=left)


@pytest.mark.parametrize("seed", range(40))
def test_between_the_prices_where_orders_rest_nothing_happens_to_them(seed: int) -> None:
    luck = random.Random(seed)
    settings = FillSettings(
        queue=luck.choice(("touch", "through", "behind")),
        queue_size=luck.choice((0.0, 3.0)),
        participation=luck.choice((None, 0.3)),
        latency_ns=luck.choice((0, SECOND)),
    )

    def price(n: int = 1) -> Any:
        ticks = [round(luck.choice((luck.uniform(98, 102), luck.randint(98, 102), 100.5)), 2) for _ in range(n)]
        return ticks[0] if n == 1 else ticks

    def any_order(name: int) -> WorkingOrder:
        kind = luck.choice(("limit", "stop", "stop_limit", "limit", "stop", "market", "trail", "day"))
        changes: dict[str, Any] = {"side": luck.choice(("buy", "sell")), "type": kind}
        if kind in ("trail", "day"):
            changes |= {"type": "stop"} | (
                {"trail": D(1)} if kind == "trail" else {"time_in_force": "day", "expires_ns": NOW + 9 * SECOND}
            )
        if "stop" in changes["type"]:
            changes["stop_price"] = D(str(price()))
        if "limit" in changes["type"]:
            changes["limit_price"] = D(str(price()))
        return order(f"o{name}", settings, **changes)

    def any_event(at: int) -> MarketEvent:
        at += 200_000 * (luck.random() < 0.1)  # days later
        kind = luck.choice(("bar", "trade", "quote"))
        if kind == "bar":
            opened, closed = price(2)
            if luck.random() < 0.2:  # no sound one
                return bar(*price(4), at)
            return bar(opened, max(opened, closed, price()), min(opened, closed, price()), closed, at)
        if kind == "trade":
            return trade(price(), at, luck.choice((0.5, 20.0)))
        return quote(*sorted(price(2)), at)

    quiet = 0
    for _ in range(150):
        live = {one.id: one for one in map(any_order, range(luck.randint(1, 4)))}
        for at in range(8):
            event = any_event(at)
            orders = sorted(live.values(), key=rank)
            found, band = match(orders, event, settings, X), quiet_band(orders)
            if band is not None and is_quiet(band, event):
                quiet += 1
                assert found == [], (orders, event)
            for outcome in found:
                if isinstance(outcome, Move):
                    live[outcome.order.id] = outcome.order
                else:
                    live.pop(outcome.id, None)
    assert quiet > 20


def test_a_market_order_fills_at_the_next_print() -> None:
    assert run([order()], trade(100.5)) == ["o 1@100.5 taker"]


def test_a_market_order_pays_the_quote_it_meets() -> None:
    assert run([order()], quote(99.9, 100.1)) == ["o 1@100.1 taker"]
    assert run([order(side="sell")], quote(99.9, 100.1)) == ["o 1@99.9 taker"]


def test_an_order_waits_until_its_latency_has_passed() -> None:
    late = FillSettings(latency_ns=2 * SECOND)
    assert run([order("o", late)], trade(100, 1), trade(101, 2), settings=late) == ["o 1@101 taker"]


def test_a_quote_fills_no_more_than_its_size() -> None:
    events = (quote(99, 100, 1, ask_size=0.4), quote(99, 101, 2, ask_size=10))
    assert run([order()], *events) == ["o 0.4@100 taker", "o 0.6@101 taker"]


def test_a_quote_without_a_side_or_a_price_that_is_none_fills_nothing() -> None:
    assert run([order()], quote(99, NAN), trade(NAN), trade(float("inf"))) == []


def test_a_share_of_the_volume_is_filled_in_whole_lots() -> None:
    share = FillSettings(participation=0.25)
    assert run([order()], trade(100, 1, 1.0), trade(101, 2, 9.0), settings=share) == [
        "o 0.2@100 taker",
        "o 0.8@101 taker",
    ]


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (bar(100, 102, 99, 101, volume=4), ["o 1@100 taker"]),
        (bar(100, 102, 99, 101, volume=2), ["o 0.5@100 taker"]),
        (bar(100, 102, 99, 101, volume=NAN), ["o 1@100 taker"]),
        (bar(100, 102, 99, 101, volume=0), ["o 1@100 taker"]),
        (bar(100, 100, 100, 100, volume=0), []),
        (quote(99, 100, ask_size=NAN), ["o 1@100 taker"]),
        (quote(99, 100, ask_size=0), []),
    ],
    ids=["enough", "less", "nan", "moved without volume", "stood still", "quote without size", "quote of nothing"],
)
def test_a_size_that_nobody_recorded_is_unknown_and_limits_nothing(event: MarketEvent, found: list[str]) -> None:
    assert run([order()], event, settings=FillSettings(participation=0.25)) == found


def test_two_orders_share_one_volume() -> None:
    share = FillSettings(participation=0.1)
    orders = [order("first"), order("second")]
    assert run(orders, trade(100, 1, 15.0), settings=share) == ["first 1@100 taker", "second 0.5@100 taker"]


def test_slippage_goes_against_the_order_and_to_the_next_tick() -> None:
    ticks = FillSettings(slippage_ticks=3)
    share = FillSettings(slippage_bps=0.1, assumed_spread=0.0001)
    assert run([order()], trade(100), settings=ticks) == ["o 1@100.03 taker"]
    assert run([order(side="sell")], trade(100), settings=ticks) == ["o 1@99.97 taker"]
    assert run([order()], trade(100), settings=share) == ["o 1@100.01 taker"]


def test_slippage_never_gives_away_what_the_market_pays_for() -> None:
    ticks = FillSettings(slippage_ticks=2)
    assert run([order(side="sell")], trade(0.02), settings=ticks) == ["o 1@0.01 taker"]
    assert run([order(side="sell")], trade(0.004), settings=FillSettings()) == ["o 1@0.01 taker"], "below one tick"
    assert run([order(side="sell")], trade(0.04), settings=ticks) == ["o 1@0.02 taker"]
    assert run([order(side="sell")], trade(-37.63), settings=ticks) == ["o 1@-37.65 taker"], "the market's own price"


def test_impact_grows_with_the_share_of_the_volume() -> None:
    impact = FillSettings(impact=0.1)
    assert run([order(quantity=5)], trade(100, 1, 10.0), settings=impact) == ["o 5@102.5 taker"]


def test_impact_counts_no_more_than_the_whole_volume() -> None:
    impact = FillSettings(impact=0.1)
    assert run([order(quantity=10**15)], trade(100, 1, 0.04), settings=impact) == ["o 1000000000000000@110 taker"]


def test_slippage_never_carries_a_limit_order_beyond_its_limit() -> None:
    assert run([order(type="limit", limit_price="100.01")], trade(100), settings=FillSettings(slippage_ticks=9)) == [
        "o 1@100.01 taker"
    ]


@pytest.mark.parametrize(
    ("settings", "filled"),
    [
        (FillSettings(queue="touch"), ["o 1@100 maker"]),
        (FillSettings(queue="through"), []),
        (FillSettings(queue="behind", queue_size=10.5), ["o 0.5@100 maker"]),
        (FillSettings(queue="behind", queue_size=11), []),
    ],
)
def test_a_resting_order_waits_for_its_turn_at_the_price(settings: FillSettings, filled: list[str]) -> None:
    resting = order(type="limit", limit_price=100)
    assert run([resting], trade(101, 1), trade(100, 2, 5.0), trade(100, 3, 6.0), settings=settings) == filled


def test_a_resting_order_fills_at_its_price_once_the_market_trades_through() -> None:
    resting = order(type="limit", limit_price=100)
    assert run([resting], trade(101, 1), trade(99, 2), settings=FillSettings()) == ["o 1@100 maker"]
    assert run([resting], quote(100, 101, 1), quote(99, 100, 2)) == ["o 1@100 maker"]


def test_a_limit_order_that_can_fill_at_once_takes_the_better_price() -> None:
    assert run([order(type="limit", limit_price=100)], trade(98)) == ["o 1@98 taker"]


def test_what_cannot_be_filled_at_once_lapses_if_the_order_says_so() -> None:
    at_once = {"time_in_force": "ioc", "type": "limit", "limit_price": 100}
    assert run([order(**at_once)], trade(101), trade(99, 2)) == ["o ioc"]
    assert run([order(**at_once)], quote(99, 100, ask_size=0.3)) == ["o 0.3@100 taker", "o ioc"]


def test_a_day_order_lapses_when_its_day_is_over() -> None:
    day = order(type="limit", limit_price=90, time_in_force="day", expires_ns=NOW + 5 * SECOND)
    assert run([day], trade(100, 4), trade(80, 5)) == ["o day"]


def test_a_stop_becomes_a_market_order_at_the_price_that_reached_it() -> None:
    stop = order(side="sell", type="stop", stop_price=95)
    assert run([stop], trade(96, 1), trade(94, 2)) == ["o 1@94 taker"]
    assert run([stop], quote(95, 97, 1, bid_size=0.4), quote(96, 98, 2)) == [
        "o 0.4@95 taker",
        "o 0.6@96 taker",
    ], "once reached, a stop stays a market order"


def test_a_stop_limit_waits_at_its_limit_when_the_market_has_run_past_it() -> None:
    stop = order(type="stop_limit", stop_price=105, limit_price=106)
    assert run([stop], trade(104, 1), trade(107, 2), trade(106.5, 3), trade(105.9, 4)) == ["o 1@106 maker"]
    assert run([stop], trade(104, 1), trade(105.5, 2)) == ["o 1@105.5 taker"]


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back() -> None:
    trailing = order(side="sell", type="stop", trail=2)
    prices = (trade(100, 1), trade(103, 2), trade(101.5, 3), trade(102, 4), trade(100.9, 5))
    assert run([trailing], *prices) == ["o 1@100.9 taker"]


# -- bars --------------------------------------------------------------------------------------------------------------


def test_a_market_order_fills_at_the_open_of_the_bar_after_the_one_that_caused_it() -> None:
    caused = order(event_ns=NOW + MINUTE)
    assert run([caused], bar(100, 101, 99, 100.5, 1), bar(102, 103, 101, 102, 2)) == ["o 1@102 taker"]


def test_of_a_bar_that_had_begun_before_the_order_only_the_close_counts() -> None:
    late = FillSettings(latency_ns=10 * SECOND)
    stop = order("stop", late, type="stop", stop_price=110)
    assert run([order("market", late), stop], bar(100, 111, 99, 103), settings=late) == ["market 1@103 taker"]


def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    stop = order(side="sell", type="stop", stop_price=95)
    assert run([stop], bar(92, 96, 91, 94)) == ["o 1@92 taker"]
    assert run([stop], bar(96, 97, 94, 96)) == ["o 1@95 taker"]


def test_where_stop_and_limit_lie_in_one_bar_the_stop_comes_first() -> None:
    exits = [
        order("target", side="sell", type="limit", limit_price=105),
        order("stop", side="sell", type="stop", stop_price=95),
    ]
    assert run(exits, bar(100, 106, 94, 100)) == ["stop 1@95 taker", "target 1@105 maker"]
    assert run(exits, bar(100, 101, 99, 100, 1), bar(106, 107, 94, 100, 2)) == [
        "target 1@105 maker",
        "stop 1@95 taker",
    ], "but the open comes before everything else"


def test_a_trailing_stop_is_hit_within_a_bar_only_where_the_way_to_the_close_led_through_it() -> None:
    trailing = order(side="sell", type="stop", trail=5)
    assert run([trailing], bar(100, 110, 99, 104)) == ["o 1@105 taker"]
    assert run([trailing], bar(100, 110, 99, 106)) == []
    assert run([trailing], bar(100, 110, 99, 106, 1), bar(106, 107, 104.5, 107, 2)) == ["o 1@105 taker"]


def test_no_orders_cost_nothing_and_give_nothing() -> None:
    assert match([], trade(100), TOUCH, X) == []


def test_the_dearest_market_that_a_file_can_describe_is_counted_to_its_last_digit() -> None:
    dearest = msgspec.structs.replace(
        fill_settings(PaperConfig(slippage_bps=10_000.0, slippage_ticks=10_000, assumed_spread=1.0, impact=100.0)),
        participation=1.0,
    )
    price, fees = D(10**15), FeeSettings(taker=D(1), per_share=D(10**15), minimum=D(10**15))
    (filled,) = match([order("o", dearest)], trade(1e15, 1, 1.0), dearest, X)
    assert isinstance(filled, Execution)
    assert filled.price == price * 102 + price / 2 + 10_000 * X.tick_size
    with localcontext(EXACT):
        assert raw_fee(fees, filled.price * 10**15, D(10**15), "taker") == (filled.price + 10**15) * 10**15


# -- fees --------------------------------------------------------------------------------------------------------------


def test_fees_are_of_the_notional_and_of_each_share() -> None:
    fees = FeeSettings(maker=D("-0.0001"), taker=D("0.0005"), per_share=D("0.01"))
    assert raw_fee(fees, D(1000), D(10), "taker") == D("0.6")
    assert raw_fee(fees, D(1000), D(10), "maker") == 0


def test_the_minimum_is_paid_once_for_an_order() -> None:
    fees = FeeSettings(per_share=D("0.01"), minimum=D(1))
    raws = [D("0.4"), D("0.4"), D("0.5"), D("0.1")]
    paid, before = [], None
    for raw in raws:
        paid.append(fee_due(fees, before, raw))
        before = (before or 0) + raw
    assert paid == [D(1), D(0), D("0.3"), D("0.1")]
