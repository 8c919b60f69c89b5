"""The check of a change: a dearer or nearer price is judged as an order of its own, and one that lessens risk passes."""

from decimal import Decimal
from typing import Any

import pytest
from risk_desk import Desk, limits

from strategy_runner.model.order import OrderRequest, OrderState, Side
from strategy_runner.risk import events
from strategy_runner.risk.state import encode_state


def resting(desk: Desk, side: Side = "buy", quantity: str = "10", **prices: str) -> OrderRequest:
    """An entry that waits for its price."""
    order = desk.order(side, quantity, kind="stop" if "stop" in prices else "limit", **prices)  # type: ignore[arg-type]  # prices alone
    assert desk.send(order) is None
    return order


def test_an_entry_may_not_be_moved_to_where_a_new_one_would_be_refused() -> None:
    desk = Desk(max_position_notional=1_050.0)
    order = resting(desk, limit="99")
    before = encode_state(desk.state)
    assert desk.modify(order, "150", limit_price="150") == "position_notional_above_limit"
    assert desk.modify(order, limit_price="105.01") == "position_notional_above_limit"
    assert encode_state(desk.state) == before
    assert desk.modify(order, limit_price="105") is None


def test_a_share_of_the_notional_holds_for_a_change_too() -> None:
    desk = Desk(max_position_notional=4_000.0, shares={"high": 0.25})
    order = resting(desk, limit="99")
    assert desk.modify(order, limit_price="101") == "position_notional_above_share"


def test_an_entry_counts_at_the_dearest_price_that_was_asked_for_until_it_is_over() -> None:
    desk = Desk(max_position_notional=1_050.0)
    order = resting(desk, limit="99")
    assert desk.modify(order, limit_price="104") is None
    assert desk.modify(order, limit_price="98") is None
    assert desk.state.totals.worth == 1_040
    assert desk.check(desk.order(quantity="0.2")) == "position_notional_above_limit"
    desk.report(order, OrderState.CANCELLED)
    assert desk.check(desk.order(quantity="0.2")) is None
    assert desk.replayed() == encode_state(desk.state)


def test_less_of_an_entry_may_be_dearer() -> None:
    desk = Desk(max_position_notional=1_050.0, max_order_value=1_050.0)
    order = resting(desk, limit="99")
    assert desk.modify(order, limit_price="110") == "order_value_above_limit"
    assert desk.modify(order, limit_price="110", quantity="9") is None


def denied(desk: Desk) -> None:
    now = limits(deny_symbols=("BTC-USD",))
    desk.take(events.Configured(at_ns=desk.now_ns, limits=now, day=1, starting_cash=Decimal(0)))


def not_allowed(desk: Desk) -> None:
    now = limits(allow_symbols=("DAX",))
    desk.take(events.Configured(at_ns=desk.now_ns, limits=now, day=1, starting_cash=Decimal(0)))


def unknown(desk: Desk) -> None:
    other = desk.order()
    desk.send(other)
    desk.report(other, OrderState.UNKNOWN)


def lost(desk: Desk) -> None:
    desk.take(events.CashMoved(at_ns=desk.now_ns, amount=Decimal(-100_000)))


def above_its_limits(desk: Desk) -> None:
    now = limits(max_position_notional=50.0, max_position_size={"BTC-USD": 0.5}, max_order_value=50.0)
    desk.take(events.Configured(at_ns=desk.now_ns, limits=now, day=1, starting_cash=Decimal(0)))


@pytest.mark.parametrize(
    ("happens", "refusal"),
    [
        (denied, "symbol_denied"),
        (not_allowed, "symbol_not_allowed"),
        (unknown, "order_outcome_unknown"),
        (lost, "no_equity"),
        (above_its_limits, "order_value_above_limit"),
    ],
)
@pytest.mark.parametrize(
    ("side", "kind", "known", "nearer", "further"),
    [
        ("buy", "limit", "99", "99.5", "98.5"),
        ("sell", "stop", "99", "99.5", "98.5"),
        ("sell", "limit", "101", "100.5", None),
        ("buy", "stop", "101", "100.5", None),
    ],
)
def test_where_nothing_may_be_entered_an_entry_is_only_lessened(
    happens: Any, refusal: str, side: Side, kind: str, known: str, nearer: str, further: str | None
) -> None:
    desk = Desk()
    order = resting(desk, side, **{kind: known})
    happens(desk)
    assert desk.modify(order, **{f"{kind}_price": nearer}) == refusal
    assert desk.modify(order, quantity="9") is None
    assert desk.modify(order, **{f"{kind}_price": known}) is None
    assert further is None or desk.modify(order, **{f"{kind}_price": further}) is None


def test_a_price_that_the_oms_has_lowered_may_not_be_raised_again_unjudged() -> None:
    desk = Desk()
    order = resting(desk, limit="99")
    assert desk.modify(order, limit_price="95") is None
    denied(desk)
    assert desk.modify(order, limit_price="96") == "symbol_denied"
    assert desk.modify(order, limit_price="94") is None


def test_a_nearer_price_needs_one_of_the_market_and_a_further_one_does_not() -> None:
    desk = Desk()
    order = resting(desk, limit="99")
    assert desk.modify(order, None, limit_price="99.5") == "no_market_price"
    assert desk.modify(order, None, limit_price="98.5") is None


def test_an_order_whose_own_outcome_is_not_known_does_not_block_itself() -> None:
    desk = Desk()
    order = resting(desk, limit="99")
    desk.report(order, OrderState.UNKNOWN)
    assert desk.modify(order, limit_price="99.5") is None


@pytest.mark.parametrize("price", ["0", "-1"])
def test_a_price_that_is_not_above_zero_is_none_for_what_protects_either(price: str) -> None:
    desk = Desk()
    order = resting(desk, limit="99")
    stop = desk.order("sell", "10", leg="stop_loss", kind="stop", stop="95")
    desk.take(events.Ordered(at_ns=desk.now_ns, order=stop, price=Decimal(100)))
    assert desk.modify(order, limit_price=price) == "order_not_positive"
    assert desk.modify(stop, stop_price=price) == "order_not_positive"


def test_an_exit_is_moved_whatever_the_limits_of_positions_are() -> None:
    desk = Desk()
    desk.fill("buy", "10", "100")
    leave = desk.order("sell", "10", leg="exit", kind="limit", limit="110")
    assert desk.send(leave) is None
    above_its_limits(desk)
    assert desk.modify(leave, limit_price="120") is None
    assert desk.modify(leave, limit_price="99") is None
    assert desk.state.totals.worth == 1_000
