"""The risk check: what an order is refused for, and what passes."""

from decimal import Decimal

import msgspec
import pytest
from risk_desk import BTC, FUTURE, Desk

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.order import OrderState
from strategy_runner.risk import events
from strategy_runner.risk.checks import check
from strategy_runner.risk.limits import limits_of

# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_quantity_that_is_no_number_is_refused_with_and_without_limits(quantity: str) -> None:
    assert Desk().check(Desk().order(quantity=quantity)) == "order_not_finite"
    assert Desk(max_order_value=5.0).check(Desk().order(quantity=quantity)) == "order_not_finite"


@pytest.mark.parametrize(
    ("order", "refusal"),
    [
        ({"quantity": "0"}, "order_not_positive"),
        ({"quantity": "-1"}, "order_not_positive"),
        ({"quantity": "1.0005"}, "off_lot"),
        ({"quantity": "1e40"}, "off_lot"),
        ({"kind": "limit", "limit": "NaN"}, "order_not_finite"),
        ({"kind": "limit", "limit": "-100"}, "order_not_positive"),
        ({"kind": "limit", "limit": "100.001"}, "off_tick"),
        ({"kind": "limit"}, "order_price_missing"),
        ({"kind": "stop_limit", "limit": "100"}, "order_price_missing"),
        ({"symbol": "DOGE-USD"}, "unknown_instrument"),
    ],
)
def test_an_order_that_could_not_be_traded_is_refused(order: dict[str, str], refusal: str) -> None:
    desk = Desk()
    assert desk.check(desk.order(**order)) == refusal  # type: ignore[arg-type]  # words for every parameter


def test_only_an_exit_of_all_that_is_held_may_lie_between_two_lots() -> None:
    desk = Desk()
    desk.fill("buy", "0.0005", "100")
    assert desk.check(desk.order("sell", "0.0005", leg="exit")) is None
    assert desk.check(desk.order("sell", "0.0004", leg="exit")) == "off_lot"
    assert desk.check(desk.order("sell", "0.0005")) == "off_lot"


@pytest.mark.parametrize("price", [None, "NaN", "0", "-1", "Infinity"])
def test_an_entry_needs_a_market_price_and_a_market_exit_does_not(price: str | None) -> None:
    desk = Desk()
    assert desk.check(desk.order(), price) == "no_market_price"
    desk.fill("buy", "1", "100")
    assert desk.check(desk.order("sell", leg="exit"), price) is None


def test_an_order_passes_where_no_limit_is_set() -> None:
    desk = Desk()
    assert desk.check(desk.order(quantity="1000")) is None


# -- size and worth ----------------------------------------------------------------------------------------------------


def test_an_order_worth_more_than_its_limit_is_refused_and_one_of_exactly_that_passes() -> None:
    desk = Desk(max_order_value=1_000.0)
    assert desk.check(desk.order(quantity="10")) is None
    assert desk.check(desk.order(quantity="10.001")) == "order_value_above_limit"


def test_a_limit_order_counts_with_the_higher_of_its_price_and_the_markets() -> None:
    desk = Desk(max_order_value=1_000.0)
    assert desk.check(desk.order(quantity="10", kind="limit", limit="101")) == "order_value_above_limit"
    assert desk.check(desk.order(quantity="10.001", kind="limit", limit="99")) == "order_value_above_limit"


def test_positions_and_working_entries_count_together() -> None:
    desk = Desk(max_position_size={"BTC-USD": 3.0})
    desk.fill("buy", "1", "100")
    assert desk.send(desk.order(quantity="1.5")) is None
    assert desk.check(desk.order(quantity="0.501")) == "position_size_above_limit"
    assert desk.check(desk.order(quantity="0.5")) is None


def test_working_sells_count_as_working_buys_do_and_the_two_do_not_add_up() -> None:
    desk = Desk(max_position_size={"BTC-USD": 3.0})
    desk.send(desk.order("sell", "2"))
    assert desk.check(desk.order("sell", "1.001")) == "position_size_above_limit"
    assert desk.send(desk.order("buy", "3")) is None
    assert desk.check(desk.order("buy", "0.001")) == "position_size_above_limit"


def test_strategies_share_the_size_of_a_symbol_and_a_strategy_its_share_over_symbols() -> None:
    desk = Desk(max_position_size={"BTC-USD": 3.0}, max_position_notional=10_000.0, shares={"high": 0.5})
    desk.take(events.Rated(at_ns=desk.now_ns, currency=FUTURE.currency, rate=Decimal(1)))
    desk.fill("buy", "2", "100", strategy="low")
    assert desk.check(desk.order(quantity="1")) is None
    assert desk.check(desk.order(quantity="1.001")) == "position_size_above_limit"
    desk.fill("sell", "2", "98", symbol="DAX")
    assert desk.check(desk.order(quantity="1")) is None
    assert desk.check(desk.order(quantity="1"), "100.01") == "position_notional_above_share"


def test_what_is_working_counts_with_its_own_price_where_that_is_higher() -> None:
    desk = Desk(max_position_notional=1_000.0)
    desk.send(desk.order(quantity="5", kind="limit", limit="120"))
    assert desk.check(desk.order(quantity="3.333")) is None
    assert desk.check(desk.order(quantity="3.334")) == "position_notional_above_limit"


def test_a_fill_of_one_strategy_is_a_price_for_the_others() -> None:
    desk = Desk()
    desk.fill("buy", "10", "100", strategy="high")
    desk.fill("buy", "1", "90", strategy="low")
    assert desk.state.equity == 99_900


def test_an_intent_that_is_told_twice_counts_once() -> None:
    desk = Desk(max_orders_per_second=2, max_position_size={"BTC-USD": 3.0})
    order = desk.order()
    for _ in range(3):
        desk.take(events.Ordered(at_ns=desk.now_ns, order=order, price=Decimal(100)))
    assert desk.check(desk.order(quantity="2")) is None


def test_a_partly_filled_order_counts_with_what_is_left_of_it() -> None:
    desk = Desk(max_position_size={"BTC-USD": 3.0})
    order = desk.order(quantity="2")
    desk.send(order)
    desk.fill("buy", "1.5", "100")
    desk.report(order, OrderState.PARTIALLY_FILLED, "1.5")
    assert desk.check(desk.order(quantity="1")) is None
    desk.report(order, OrderState.CANCELLED, "1.5")
    assert desk.check(desk.order(quantity="1.5")) is None
    assert desk.check(desk.order(quantity="1.501")) == "position_size_above_limit"


def test_long_and_short_of_two_strategies_add_up() -> None:
    desk = Desk(max_position_notional=1_000.0)
    desk.fill("buy", "6", "100", strategy="high")
    assert desk.check(desk.order("sell", "4", strategy="low")) is None
    assert desk.check(desk.order("sell", "4.001", strategy="low")) == "position_notional_above_limit"


def test_the_notional_follows_the_market() -> None:
    desk = Desk(max_position_notional=1_000.0)
    desk.fill("buy", "6", "100")
    desk.mark("150")
    assert desk.check(desk.order(quantity="1"), "150") == "position_notional_above_limit"


def test_what_nobody_holds_any_more_is_worth_what_it_costs_now() -> None:
    desk = Desk(max_position_notional=1_000.0)
    desk.fill("buy", "5", "100")
    desk.fill("sell", "5", "100")
    assert desk.check(desk.order(quantity="20"), "50") is None
    assert desk.check(desk.order(quantity="20.001"), "50") == "position_notional_above_limit"
    assert desk.send(desk.order(quantity="12"), "50") is None
    assert desk.check(desk.order(quantity="8"), "50") is None


def test_a_strategy_may_use_no_more_than_its_share() -> None:
    desk = Desk(max_position_notional=1_000.0, shares={"high": 0.25})
    assert desk.check(desk.order(quantity="2.5")) is None
    assert desk.check(desk.order(quantity="2.501")) == "position_notional_above_share"
    assert desk.check(desk.order(quantity="2.501", strategy="low")) is None


def test_the_other_side_of_a_position_above_its_limit_may_be_traded() -> None:
    desk = Desk(max_position_size={"BTC-USD": 1.0})
    desk.fill("buy", "5", "100")
    assert desk.check(desk.order("sell", "3")) is None
    assert desk.check(desk.order("sell", "11")) == "position_size_above_limit"


def test_multiplier_and_currency_count() -> None:
    desk = Desk(max_order_value=3_000.0)
    order = desk.order(symbol="DAX", quantity="1")
    assert desk.check(order, "100") == "currency_rate_unknown"
    desk.take(events.Rated(at_ns=desk.now_ns, currency=FUTURE.currency, rate=Decimal("1.2")))
    assert desk.check(order, "100") is None
    assert desk.check(order, "100.5") == "order_value_above_limit"


@pytest.mark.parametrize("held", [0, 2])
def test_an_instrument_that_was_changed_is_counted_by_what_it_is_now(held: int) -> None:
    desk = Desk(max_position_notional=10_000.0, rates={"EUR": 1.25})
    desk.take(events.Rated(at_ns=desk.now_ns, currency="EUR", rate=Decimal("1.25")))
    desk.fill("buy", "4", "100")
    desk.fill("sell", str(4 - held), "110")
    gained = (4 - held) * 10
    desk.mark("100")  # if it is held
    equity = desk.state.equity
    now = msgspec.structs.replace(BTC, multiplier=Decimal(8), currency="EUR")
    changed = limits_of(RiskConfig(max_position_notional=10_000.0), {BTC.symbol: now})
    desk.take(events.Configured(at_ns=desk.now_ns, limits=changed, day=1, starting_cash=Decimal(0)))
    assert desk.state.equity == equity == 100_000 + gained
    left = 10 - held
    assert desk.check(desk.order(quantity=str(left))) is None
    assert desk.check(desk.order(quantity=f"{left}.001")) == "position_notional_above_limit"
    desk.fill("buy", str(left), "100")
    desk.mark("101")
    assert desk.state.equity == equity + 10 * 8 * Decimal("1.25")


# -- symbols, prices, flow ---------------------------------------------------------------------------------------------


def test_a_denied_symbol_may_be_left_and_not_entered() -> None:
    for desk, refusal in (
        (Desk(deny_symbols=("BTC-USD",)), "symbol_denied"),
        (Desk(allow_symbols=("DAX",)), "symbol_not_allowed"),
    ):
        assert desk.check(desk.order()) == refusal
        desk.fill("buy", "1", "100")
        assert desk.check(desk.order("sell", leg="exit")) is None


def test_a_price_far_from_the_market_is_refused_for_entries_and_exits_but_not_for_what_protects() -> None:
    desk = Desk(price_collar=0.05)
    assert desk.check(desk.order(kind="limit", limit="105")) is None
    assert desk.check(desk.order(kind="limit", limit="105.01")) == "price_outside_collar"
    assert desk.check(desk.order(kind="limit", limit="94.99")) == "price_outside_collar"
    desk.fill("buy", "1", "100")
    assert desk.check(desk.order("sell", leg="exit", kind="limit", limit="50")) == "price_outside_collar"
    assert desk.check(desk.order("sell", leg="stop_loss", kind="stop", stop="50")) is None


def test_orders_are_counted_exactly_within_any_second() -> None:
    desk = Desk(max_orders_per_second=2)
    assert desk.send(desk.order()) is None
    desk.later(0.9)
    assert desk.send(desk.order()) is None
    assert desk.send(desk.order()) == "orders_per_second_above_limit"
    desk.later(0.1)
    assert desk.send(desk.order()) is None
    assert desk.send(desk.order()) == "orders_per_second_above_limit"


def test_half_an_order_a_second_is_one_in_two() -> None:
    desk = Desk(max_orders_per_second=0.5)
    assert desk.send(desk.order()) is None
    desk.later(1.999)
    assert desk.send(desk.order()) == "orders_per_second_above_limit"
    desk.later(0.001)
    assert desk.send(desk.order()) is None


def test_orders_are_counted_by_the_minute_too() -> None:
    desk = Desk(max_orders_per_second=100, max_orders_per_minute=3)
    assert [desk.send(desk.order()) for _ in range(4)] == [None, None, None, "orders_per_minute_above_limit"]
    desk.later(59.999)
    assert desk.check(desk.order()) == "orders_per_minute_above_limit"
    desk.later(0.001)
    assert desk.check(desk.order()) is None


def test_entries_never_use_up_what_an_exit_needs() -> None:
    desk = Desk(max_orders_per_second=1)
    desk.fill("buy", "1", "100")
    desk.send(desk.order())
    refusals = [desk.send(desk.order("sell", "0.001", leg="exit")) for _ in range(11)]
    assert refusals == [None] * 10 + ["orders_per_second_above_limit"]


def test_a_clock_that_goes_back_frees_nothing() -> None:
    desk = Desk(max_orders_per_second=1)
    desk.send(desk.order())
    desk.later(-3_600)
    assert desk.check(desk.order()) == "orders_per_second_above_limit"


def test_a_clock_that_is_set_back_keeps_nobody_from_exiting_and_frees_nothing() -> None:
    """Moments that lay ahead counted until the clock had come to them again: nobody could leave a position for as long."""
    desk = Desk(max_orders_per_second=1, duplicate_window_s=5.0)
    desk.fill("buy", "1", "100")
    for _ in range(10):
        desk.later(0.01)
        assert desk.send(desk.order("sell", "0.001", leg="exit")) is None
    assert desk.send(desk.order()) is None
    desk.later(-3_600)
    desk.signals(1)
    assert desk.check(desk.order("sell", "0.001", leg="exit")) == "orders_per_second_above_limit"
    desk.later(1)
    assert desk.check(desk.order("sell", "0.001", leg="exit")) is None
    assert desk.check(desk.order()) == "duplicate_order"
    desk.later(4)
    assert desk.check(desk.order()) is None


def test_the_same_entry_again_is_refused_until_its_window_is_over() -> None:
    desk = Desk(duplicate_window_s=2.0)
    assert desk.send(desk.order(kind="limit", limit="100")) is None
    assert desk.check(desk.order(kind="limit", limit="100.01")) is None
    assert desk.check(desk.order("sell", kind="limit", limit="100")) is None
    assert desk.check(desk.order(strategy="low", kind="limit", limit="100")) is None
    desk.later(1.999)
    assert desk.check(desk.order(kind="limit", limit="100")) == "duplicate_order"
    desk.later(0.001)
    assert desk.check(desk.order(kind="limit", limit="100")) is None


def test_no_more_entries_than_may_be_open() -> None:
    desk = Desk(max_open_orders=2)
    first = desk.order()
    desk.send(first)
    desk.send(desk.order())
    assert desk.check(desk.order()) == "open_orders_above_limit"
    desk.report(first, OrderState.FILLED, "1")
    assert desk.check(desk.order()) is None


def test_an_order_whose_outcome_is_not_known_blocks_its_symbol_for_entries() -> None:
    desk = Desk()
    lost = desk.order()
    desk.send(lost)
    desk.fill("buy", "1", "100", strategy="low")
    desk.report(lost, OrderState.UNKNOWN)
    assert desk.check(desk.order(strategy="low")) == "order_outcome_unknown"
    assert desk.check(desk.order("sell", strategy="low", leg="exit")) is None
    assert desk.check(desk.order(symbol="DAX")) == "currency_rate_unknown", "other symbols go on"
    desk.report(lost, OrderState.ACKNOWLEDGED)
    assert desk.check(desk.order(strategy="low")) is None


def test_without_equity_nothing_is_entered() -> None:
    desk = Desk(cash="100")
    desk.fill("buy", "10", "100")
    desk.mark("90")
    assert desk.state.equity == 0
    assert desk.check(desk.order()) == "no_equity"


# -- exits -------------------------------------------------------------------------------------------------------------


def test_an_exit_never_asks_for_more_than_its_own_strategy_holds() -> None:
    desk = Desk()
    desk.fill("buy", "2", "100", strategy="high")
    desk.fill("buy", "5", "100", strategy="low")
    assert desk.check(desk.order("sell", "2", leg="exit")) is None
    assert desk.check(desk.order("sell", "2.001", leg="exit")) == "exit_exceeds_position"
    assert desk.check(desk.order("buy", "1", leg="exit")) == "exit_on_wrong_side"
    assert desk.check(desk.order("sell", "1", strategy="third", leg="exit")) == "nothing_to_exit"


def test_two_exits_share_one_position() -> None:
    desk = Desk()
    desk.fill("sell", "2", "100")
    assert desk.send(desk.order("buy", "1.5", leg="exit")) is None
    assert desk.check(desk.order("buy", "0.501", leg="exit")) == "exit_exceeds_position"
    assert desk.send(desk.order("buy", "0.5", leg="flatten")) is None
    assert desk.check(desk.order("buy", "0.001", leg="flatten")) == "nothing_to_exit"


def test_a_stop_loss_that_is_working_does_not_keep_its_position_from_being_closed() -> None:
    desk = Desk()
    desk.fill("buy", "2", "100")
    assert desk.send(desk.order("sell", "2", leg="stop_loss", kind="stop", stop="90")) is None
    assert desk.check(desk.order("sell", "2", leg="exit")) is None


def test_what_protects_an_entry_is_judged_by_the_entry_it_comes_with() -> None:
    desk = Desk()
    entry = desk.order("buy", "2")
    for side, quantity, refusal in (
        ("sell", "2", None),
        ("sell", "2.001", "protection_exceeds_entry"),
        ("buy", "2", "exit_on_wrong_side"),
        ("sell", "NaN", "order_not_finite"),
    ):
        stop = desk.order(side, quantity, leg="stop_loss", kind="stop", stop="90")  # type: ignore[arg-type]
        assert check(stop, desk.state, Decimal(100), desk.now_ns, entry) == refusal
    alone = desk.order("sell", "2", leg="stop_loss", kind="stop", stop="90")
    assert desk.check(alone) == "nothing_to_exit"
