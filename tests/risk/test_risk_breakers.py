"""Breakers: when they open, what they let through, and the only ways in which they close."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace
from risk_desk import CLIENT, SECOND_NS, Desk, limits

from strategy_runner.errors import StateError
from strategy_runner.model.order import OrderReport, OrderState
from strategy_runner.risk import events
from strategy_runner.risk.breakers import BREAKERS, REASONS, entries_to_cancel, stopping
from strategy_runner.risk.day import trading_day
from strategy_runner.risk.report import gauges
from strategy_runner.risk.state import Posture, RiskState, decode_state, encode_state
from strategy_runner.risk.transition import apply


def posture(desk: Desk, strategy: str, symbol: str) -> Posture | None:
    """Of the latch that stops a worker."""
    latch = stopping(desk.state, strategy, symbol, desk.now_ns)
    return None if latch is None else latch.posture


def losing_desk() -> Desk:
    """Has lost 1,000 of its 100,000 with a long position that is still open."""
    desk = Desk(max_daily_loss=1_000.0)
    desk.fill("buy", "10", "1000")
    desk.mark("900")
    return desk


# -- daily loss --------------------------------------------------------------------------------------------------------


def test_the_daily_loss_counts_what_is_not_realised_yet() -> None:
    desk = Desk(max_daily_loss=1_000.0)
    desk.fill("buy", "10", "1000")
    desk.mark("900.01")
    assert desk.open() == set()
    desk.mark("900")
    assert desk.open() == {("daily_loss", "", ""), ("strategy_daily_loss", "high", "")}


def test_a_breaker_closes_entries_and_keeps_exits_open() -> None:
    desk = losing_desk()
    assert desk.check(desk.order(strategy="low")) == "breaker_daily_loss"
    assert desk.check(desk.order("sell", "10", leg="exit")) is None
    assert desk.check(desk.order("sell", "10", leg="stop_loss", kind="stop", stop="800")) is None


def test_profits_that_come_back_do_not_close_a_breaker_nor_do_wider_limits() -> None:
    desk = losing_desk()
    desk.mark("2000")
    wider = events.Configured(at_ns=desk.now_ns, limits=limits(max_daily_loss=1e9), day=1, starting_cash=Decimal(5))
    desk.take(wider)
    assert desk.check(desk.order(strategy="low")) == "breaker_daily_loss"


def test_the_next_day_closes_it_and_counts_from_there() -> None:
    desk = losing_desk()
    desk.day(1)
    assert desk.open()
    desk.day(2)
    assert desk.open() == set()
    assert desk.state.day_start_equity == 99_000
    desk.mark("800.01")
    assert desk.open() == set()
    desk.mark("800")
    assert ("daily_loss", "", "") in desk.open()


def test_an_operator_cannot_end_the_day_early() -> None:
    desk = losing_desk()
    desk.resume()
    assert desk.check(desk.order(strategy="low")) == "breaker_daily_loss"


def test_a_crash_does_not_begin_the_day_anew() -> None:
    """The state is read back as it was, and the configuration read again says nothing about the cash there is."""
    desk = losing_desk()
    state = decode_state(encode_state(desk.state), "ikenna", "mock")
    again = events.Configured(at_ns=desk.now_ns, limits=limits(max_daily_loss=1_000.0), day=1, starting_cash=Decimal(9))
    apply(state, again)
    assert (state.cash, state.day_start_equity, state.peak_equity) == (100_000, 100_000, 100_000)
    assert {latch.breaker for latch in state.latches} == {"daily_loss", "strategy_daily_loss"}


def test_a_strategy_that_lost_its_share_stops_alone() -> None:
    desk = Desk(max_daily_loss=1_000.0, shares={"high": 0.2})
    desk.fill("buy", "2", "1000")
    desk.fill("buy", "2", "1000", strategy="low")
    desk.mark("900")
    assert desk.open() == {("strategy_daily_loss", "high", "")}
    assert desk.check(desk.order()) == "breaker_strategy_daily_loss"
    assert desk.check(desk.order(strategy="low")) is None


def test_fees_and_funding_are_losses_too() -> None:
    desk = Desk(max_daily_loss=100.0)
    desk.fill("buy", "1", "1000", fee="60")
    paid = events.Paid(at_ns=desk.now_ns, strategy="high", symbol="BTC-USD", amount=Decimal(-40))
    assert desk.open() == set()
    desk.take(paid)
    assert ("daily_loss", "", "") in desk.open()


def test_money_put_in_or_taken_out_is_neither_profit_nor_loss() -> None:
    desk = Desk(max_daily_loss=1_000.0, max_drawdown=0.1)
    desk.take(events.CashMoved(at_ns=desk.now_ns, amount=Decimal(-50_000)))
    assert desk.open() == set()
    assert desk.state.equity == 50_000


# -- drawdown ----------------------------------------------------------------------------------------------------------


def test_drawdown_counts_from_the_highest_equity_over_days() -> None:
    desk = Desk(max_drawdown=0.1)
    desk.fill("buy", "100", "1000")
    desk.mark("1500")
    assert desk.state.peak_equity == 150_000
    desk.day(2)
    desk.mark("1350.01")
    assert desk.open() == set()
    desk.mark("1350")
    assert desk.open() == {("drawdown", "", "")}
    desk.day(3)
    assert desk.check(desk.order(strategy="low")) == "breaker_drawdown"


def test_an_operator_who_resumes_after_a_drawdown_names_a_new_peak() -> None:
    desk = Desk(max_drawdown=0.1)
    desk.fill("buy", "100", "1000")
    desk.mark("900")
    desk.resume("high")
    assert desk.open() == {("drawdown", "", "")}, "another scope"
    desk.resume()
    assert desk.open() == set()
    assert desk.state.peak_equity == 90_000
    desk.mark("810")
    assert desk.open() == {("drawdown", "", "")}


def test_a_missing_currency_rate_stops_entries_and_never_counts_as_one() -> None:
    desk = Desk(max_daily_loss=1_000.0)
    desk.fill("buy", "1", "100", symbol="DAX")
    assert desk.state.equity is None
    assert desk.check(desk.order()) == "currency_rate_unknown"
    desk.day(2)
    assert desk.state.day == 1, "a day cannot begin at an unknown equity"
    desk.mark("60", "DAX")
    desk.take(events.Rated(at_ns=desk.now_ns, currency="EUR", rate=Decimal("1.1")))
    assert desk.state.equity == 100_000 - 40 * 25 * Decimal("1.1")
    assert ("daily_loss", "", "") in desk.open()


# -- counted breakers --------------------------------------------------------------------------------------------------


def test_a_row_of_losing_trades_stops_the_strategy_until_the_next_day() -> None:
    desk = Desk(max_losing_trades=2)
    for exit_price in ("99", "101", "99"):
        desk.fill("buy", "1", "100")
        desk.fill("sell", "1", exit_price)
    assert desk.open() == set()
    desk.fill("buy", "2", "100")
    desk.fill("sell", "1", "98")
    assert desk.open() == set(), "half a trade is none"
    desk.fill("sell", "1", "101")
    assert desk.open() == {("losing_trades", "high", "")}
    desk.day(2)
    assert desk.open() == set()


def test_a_fill_that_turns_a_position_ends_a_trade_and_begins_another() -> None:
    desk = Desk(max_losing_trades=1)
    desk.fill("buy", "1", "100")
    desk.fill("sell", "3", "90", fee="1")
    book = desk.state.books["high/BTC-USD"]
    assert (book.quantity, book.average_price, book.realised, book.since_entry) == (-2, 90, -11, 0)
    assert desk.open() == {("losing_trades", "high", "")}


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_a_runaway_worker_is_halted_at_the_count_and_no_other(limit: int) -> None:
    desk = Desk(runaway_signals=limit, runaway_window_s=1.0)
    desk.signals(limit)
    assert desk.check(desk.order()) is None
    desk.signals(1)
    assert desk.check(desk.order()) == "breaker_runaway"
    assert desk.check(desk.order(symbol="DAX")) == "currency_rate_unknown", "the strategy's other worker goes on"
    assert desk.check(desk.order(strategy="low")) is None


def test_ten_thousand_signals_a_second_take_a_bounded_place() -> None:
    desk = Desk(runaway_signals=50, runaway_window_s=1.0)
    desk.signals(10_000)
    (window,) = desk.state.windows.values()
    assert len(window.times_ns) == 50


def test_a_halted_workers_stops_stay_and_it_can_be_flattened_but_its_own_exits_do_not_count_any_more() -> None:
    desk = Desk(runaway_signals=1, runaway_window_s=1.0)
    desk.fill("buy", "1", "100")
    desk.signals(2)
    assert desk.check(desk.order("sell", leg="exit")) == "breaker_runaway"
    assert desk.check(desk.order("sell", leg="flatten")) is None
    assert desk.check(desk.order("sell", leg="stop_loss", kind="stop", stop="90")) is None


def test_a_slow_worker_is_no_runaway_and_a_resumed_one_is_counted_anew() -> None:
    desk = Desk(runaway_signals=2, runaway_window_s=1.0)
    for _ in range(9):
        desk.signals(1)
        desk.later(0.5)
    assert desk.open() == set()
    desk.signals(2)
    assert desk.open() == {("runaway", "high", "BTC-USD")}
    desk.later(3_600)
    assert desk.check(desk.order()) == "breaker_runaway"
    desk.resume("high", "BTC-USD")
    desk.signals(2)
    assert desk.check(desk.order()) is None


def test_a_clock_that_is_set_back_makes_no_runaway_of_a_slow_worker() -> None:
    """Every signal of the last hour lay ahead of it: the next one halted its worker, and its exits with it."""
    desk = Desk(runaway_signals=3, runaway_window_s=1.0)
    for _ in range(5):
        desk.later(60)
        desk.signals(1)
    desk.later(-3_600)
    desk.signals(2)
    assert desk.open() == set()
    desk.signals(1)
    assert desk.open() == {("runaway", "high", "BTC-USD")}


def test_a_cooldown_lasts_no_longer_for_a_clock_that_is_set_back() -> None:
    desk = Desk(max_rejects=1, rejects_window_s=10.0, cooldown_s=60.0)
    order = desk.order()
    desk.send(order)
    desk.report(order, OrderState.REJECTED)
    desk.later(-3_600)
    desk.signals(1)
    desk.later(59.999)
    assert desk.check(desk.order()) == "breaker_rejects"
    desk.later(0.001)
    assert desk.check(desk.order()) is None


def test_rejected_orders_stop_their_symbol_until_it_has_cooled_down() -> None:
    desk = Desk(max_rejects=2, rejects_window_s=10.0, cooldown_s=60.0)
    for _ in range(2):
        order = desk.order()
        desk.send(order)
        desk.report(order, OrderState.REJECTED)
        desk.report(order, OrderState.REJECTED)
    assert desk.check(desk.order(strategy="low")) == "breaker_rejects"
    desk.later(59.999)
    desk.resume(symbol="BTC-USD")
    assert desk.check(desk.order()) == "breaker_rejects", "an operator does not cool it"
    desk.later(0.001)
    assert desk.check(desk.order()) is None
    desk.signals(1)
    assert desk.open() == set()


def test_rejects_that_go_on_make_the_cooldown_begin_anew() -> None:
    desk = Desk(max_rejects=2, rejects_window_s=100.0, cooldown_s=60.0)
    working = [desk.order(quantity=str(number)) for number in (1, 2, 3)]
    assert [desk.send(order) for order in working] == [None] * 3
    for order in working:
        desk.later(10)
        desk.report(order, OrderState.REJECTED)
    (latch,) = desk.state.latches
    assert (latch.since_ns, latch.until_ns) == (desk.now_ns - 10 * SECOND_NS, desk.now_ns + 60 * SECOND_NS)


# -- people ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        (("", ""), {("high", "BTC-USD"), ("high", "DAX"), ("low", "BTC-USD")}),
        (("high", ""), {("high", "BTC-USD"), ("high", "DAX")}),
        (("", "BTC-USD"), {("high", "BTC-USD"), ("low", "BTC-USD")}),
        (("high", "BTC-USD"), {("high", "BTC-USD")}),
    ],
)
def test_an_operator_stops_exactly_what_was_named(scope: tuple[str, str], stopped: set[tuple[str, str]]) -> None:
    desk = Desk()
    desk.stop("halted", *scope)
    workers = (("high", "BTC-USD"), ("high", "DAX"), ("low", "BTC-USD"))
    assert {worker for worker in workers if posture(desk, *worker) is Posture.HALTED} == stopped
    desk.resume(*scope)
    assert desk.open() == set()


def test_what_is_still_working_to_enter_is_named_to_be_cancelled_and_exits_are_not() -> None:
    desk = Desk()
    desk.fill("buy", "1", "100")
    entry, other, leaving = desk.order(), desk.order(strategy="low"), desk.order("sell", leg="exit")
    for order in (entry, other, leaving):
        assert desk.send(order) is None
    assert entries_to_cancel(desk.state, desk.now_ns) == {}
    desk.stop("reducing", "high")
    assert entries_to_cancel(desk.state, desk.now_ns) == {entry.client_order_id: "stopped_by_operator"}


def test_the_strictest_of_several_stops_counts() -> None:
    desk = Desk()
    desk.stop("halted", "high", "BTC-USD")
    desk.stop("reducing")
    assert posture(desk, "high", "BTC-USD") is Posture.HALTED
    assert posture(desk, "low", "BTC-USD") is Posture.REDUCING
    desk.stop("reducing", "high", "BTC-USD")
    assert posture(desk, "high", "BTC-USD") is Posture.REDUCING


def test_an_operator_does_not_settle_a_difference_with_the_oms() -> None:
    desk = Desk()
    desk.take(events.Stopped(at_ns=desk.now_ns, authority="reconciliation", posture="reducing", symbol="BTC-USD"))
    desk.resume(symbol="BTC-USD")
    assert desk.check(desk.order()) == "not_reconciled"
    desk.resume(symbol="BTC-USD", authority="reconciliation")
    assert desk.check(desk.order()) is None


# -- whose, which day, and what is shown -------------------------------------------------------------------------------


def test_paper_never_trips_live() -> None:
    raw = encode_state(losing_desk().state)
    with pytest.raises(StateError, match="expected that of ikenna in mode live, found ikenna in mock"):
        decode_state(raw, "ikenna", "live")
    with pytest.raises(StateError, match="expected that of odum in mode mock, found ikenna in mock"):
        decode_state(raw, "odum", "mock")


@pytest.mark.parametrize(
    "happens",
    [
        lambda desk: desk.fill("buy", "NaN", "100"),
        lambda desk: desk.fill("buy", "1", "NaN"),
        lambda desk: desk.fill("buy", "0", "100"),
        lambda desk: desk.fill("buy", "1", "100", fee="NaN"),
        lambda desk: desk.fill("buy", "1", "100", symbol="DOGE-USD"),
        lambda desk: desk.take(events.CashMoved(at_ns=desk.now_ns, amount=Decimal("NaN"))),
    ],
)
def test_what_cannot_be_counted_ends_it_and_changes_nothing(happens: Callable[[Desk], None]) -> None:
    desk = Desk()
    before = encode_state(desk.state)
    with pytest.raises(StateError):
        happens(desk)
    assert encode_state(desk.state) == before


def test_a_fill_at_a_price_below_zero_is_a_fill_and_its_position_counts_as_one() -> None:
    desk = Desk(max_daily_loss=1_000.0, max_position_notional=500.0)
    desk.fill("buy", "10", "-37")
    assert (desk.state.books["high/BTC-USD"].quantity, desk.state.equity) == (10, 100_000)
    assert desk.state.totals.worth == 370
    assert desk.check(desk.order(quantity="2"), "100") == "position_notional_above_limit"
    desk.fill("sell", "10", "-40", fee="1")
    assert (desk.state.equity, desk.state.totals.worth) == (99_969, 0)
    desk.fill("sell", "10", "0")
    desk.mark("100")
    assert desk.open() == {("daily_loss", "", ""), ("strategy_daily_loss", "high", "")}


@pytest.mark.parametrize(("quantity", "filled"), [("0", "0"), ("NaN", "0"), ("1", "Infinity")])
def test_a_report_with_numbers_that_are_none_leaves_those_that_are_known(quantity: str, filled: str) -> None:
    desk = Desk()
    order = desk.order(quantity="2")
    desk.send(order)
    wrong = OrderReport(
        client_order_id=order.client_order_id,
        client=CLIENT,
        state=OrderState.ACKNOWLEDGED,
        quantity=Decimal(quantity),
        filled=Decimal(filled),
    )
    desk.take(events.Reported(at_ns=desk.now_ns, report=wrong))
    known = desk.state.orders[order.client_order_id]
    assert (known.state, known.quantity, known.filled) == (OrderState.ACKNOWLEDGED, 2, 0)
    desk.take(events.Reported(at_ns=desk.now_ns, report=replace(wrong, state=OrderState.REJECTED)))
    assert not desk.state.orders


@pytest.mark.parametrize("price", ["NaN", "0", "-5", "Infinity"])
def test_a_price_that_is_none_changes_nothing(price: str) -> None:
    desk = Desk(max_daily_loss=1.0)
    desk.fill("buy", "1", "100")
    desk.mark(price)
    assert desk.state.marks == {"BTC-USD": 100}
    assert desk.open() == set()


def test_a_trading_day_begins_at_its_hour_in_its_zone() -> None:
    at_0459 = 1_767_675_540 * 1_000_000_000  # 2026-01-06 04:59 UTC is 23:59 in New York
    minute = 60 * 1_000_000_000
    assert trading_day(at_0459, "00:00", "UTC") == trading_day(at_0459 + minute, "00:00", "UTC")
    assert trading_day(at_0459, "00:00", "America/New_York") + 1 == trading_day(
        at_0459 + minute, "00:00", "America/New_York"
    )
    at_2159 = at_0459 + 17 * 60 * minute  # 16:59 in New York
    days = [trading_day(at, "17:00", "America/New_York") for at in (at_0459, at_2159, at_2159 + minute)]
    assert days == [days[0], days[0], days[0] + 1]


def test_every_breaker_says_its_formula_its_reset_and_its_reason() -> None:
    assert {breaker.refusal for breaker in BREAKERS.values()} == REASONS.keys()
    assert all(breaker.formula for breaker in BREAKERS.values())


def test_the_report_shows_value_limit_and_distance_of_each_and_what_is_open() -> None:
    desk = Desk(max_daily_loss=1_000.0, max_drawdown=0.1, runaway_signals=9, runaway_window_s=1.0)
    desk.fill("buy", "10", "1000")
    desk.mark("940")
    desk.signals(4)
    desk.stop("halted", "low")
    shown = {(one.breaker, one.strategy): one for one in gauges(desk.state, desk.now_ns)}
    assert [(one.value, one.limit, one.distance) for one in (shown["daily_loss", ""],)] == [(600, 1_000, 400)]
    assert shown["drawdown", ""].value == Decimal("0.006")
    assert (shown["runaway", "high"].value, shown["runaway", "high"].distance) == (4, 6)
    assert (shown["operator", "low"].posture, shown["operator", "low"].facts) == ("halted", "by hand")
    assert shown["daily_loss", ""].posture == "active"
    desk.mark("900")
    tripped = next(one for one in gauges(desk.state, desk.now_ns) if one.breaker == "daily_loss")
    assert (tripped.posture, tripped.distance, tripped.since_ns) == ("reducing", 0, desk.now_ns)
    assert tripped.reset == "by itself when the next trading day begins"


def test_a_replay_of_the_log_gives_the_same_state() -> None:
    desk = losing_desk()
    desk.signals(3)
    desk.send(desk.order("sell", leg="exit"))
    assert desk.replayed() == encode_state(desk.state)
    assert RiskState(client="ikenna", mode="mock") != desk.state
