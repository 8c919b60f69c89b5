"""The one way a risk state changes: `apply` takes an event in. The same events in the same order make an equal state.

It changes the state in place, since ten thousand signals a second would spend their time on copies; nobody else does.
"""

import typing
from collections.abc import Callable
from decimal import Decimal

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import FINAL_STATES, OrderRequest, OrderState
from strategy_runner.risk import events
from strategy_runner.risk.book import ZERO, Book, after_fill, after_payment
from strategy_runner.risk.breakers import has_cooled
from strategy_runner.risk.exposure import refresh, refresh_all
from strategy_runner.risk.latching import close_by_day, latch, lift, trip_by_money, trip_by_streak
from strategy_runner.risk.limits import EXIT_RATE_FACTOR, Rate
from strategy_runner.risk.state import (
    PROTECTIVE_LEGS,
    Latch,
    OpenOrder,
    Posture,
    RiskState,
    limits_in_force,
    profits,
    worker_key,
)
from strategy_runner.risk.window import Window


def apply(state: RiskState, event: events.RiskEvent) -> None:
    """Raises StateError for a fill that cannot be counted: of another client, or of an instrument nobody knows."""
    if state.latches:
        state.latches = [latch for latch in state.latches if not has_cooled(latch, event.at_ns)]
    _TRANSITIONS[type(event)](state, event)
    state.number += 1


# -- money -------------------------------------------------------------------------------------------------------------


def _configured(state: RiskState, event: events.Configured) -> None:
    """Instruments are only ever added: what was traded once may still be held."""
    if state.limits is None:
        state.cash = state.peak_equity = state.day_start_equity = event.starting_cash
        state.day = event.day
        state.limits = event.limits
    else:
        instruments = {**state.limits.instruments, **event.limits.instruments}
        state.limits = msgspec.structs.replace(event.limits, instruments=instruments)
    refresh_all(state)
    trip_by_money(state, event.at_ns)
    trip_by_streak(state, event.at_ns)


def _cash_moved(state: RiskState, event: events.CashMoved) -> None:
    if not event.amount.is_finite():
        raise StateError(f"cash of {state.client}: expected an amount, found {event.amount}")
    state.cash += event.amount
    state.day_start_equity += event.amount
    state.peak_equity += event.amount
    trip_by_money(state, event.at_ns)


def _rated(state: RiskState, event: events.Rated) -> None:
    if _is_price(event.rate):
        state.rates[event.currency] = event.rate
        refresh_all(state)
        trip_by_money(state, event.at_ns)


def _marked(state: RiskState, event: events.Marked) -> None:
    if _is_price(event.price) and any(book.quantity for book in state.books.values() if book.symbol == event.symbol):
        state.marks[event.symbol] = event.price
        refresh_all(state, event.symbol)
        trip_by_money(state, event.at_ns)


def _filled(state: RiskState, event: events.Filled) -> None:
    fill = event.fill
    if fill.client != state.client:
        raise StateError(f"fill {fill.fill_id}: expected one of {state.client}, found one of {fill.client}")
    if not (_is_price(fill.price) and _is_price(fill.quantity) and fill.fee.is_finite()):
        raise StateError(f"fill {fill.fill_id}: expected a price, a quantity > 0 and a fee, found {fill}")
    book, result = after_fill(_book(state, fill.strategy, fill.symbol, f"fill {fill.fill_id}"), fill)
    state.books[worker_key(fill.strategy, fill.symbol)] = book
    state.marks[fill.symbol] = fill.price
    refresh(state, fill.strategy, fill.symbol)  # its first fill may be the first that is known of the worker
    refresh_all(state, fill.symbol)  # others hold it at another price now
    if result is not None:
        losses = state.losses_in_a_row.get(fill.strategy, 0)
        state.losses_in_a_row[fill.strategy] = losses + 1 if result < 0 else 0
        trip_by_streak(state, event.at_ns)
    trip_by_money(state, event.at_ns)


def _paid(state: RiskState, event: events.Paid) -> None:
    if not event.amount.is_finite():
        raise StateError(f"funding of {event.symbol}: expected an amount, found {event.amount}")
    book = _book(state, event.strategy, event.symbol, f"funding of {event.symbol}")
    state.books[worker_key(event.strategy, event.symbol)] = after_payment(book, event.amount)
    refresh(state, event.strategy, event.symbol)
    trip_by_money(state, event.at_ns)


def _day_rolled(state: RiskState, event: events.DayRolled) -> None:
    """A day cannot begin at an unknown equity: it begins with the first roll after the rate is known."""
    gained = profits(state)
    if event.day <= state.day or gained is None:
        return
    state.day = event.day
    state.day_start_equity = state.cash + sum(gained.values(), ZERO)
    state.profits_at_day_start = gained
    state.losses_in_a_row = {}
    close_by_day(state)
    trip_by_money(state, event.at_ns)


# -- signals and orders ------------------------------------------------------------------------------------------------


def _signalled(state: RiskState, event: events.Signalled) -> None:
    rate = limits_in_force(state).runaway
    if rate is None:
        return
    window = _window(state, f"signals {worker_key(event.strategy, event.symbol)}")
    is_runaway = window.is_full(rate, event.at_ns)
    window.add(rate, event.at_ns)
    if is_runaway:
        facts = f"more than {rate.count} signals within {rate.span_ns / 1e9:g} s"
        latch(state, "runaway", event.at_ns, facts, strategy=event.strategy, symbol=event.symbol)


def _ordered(state: RiskState, event: events.Ordered) -> None:
    order, limits = event.order, limits_in_force(state)
    if order.client_order_id in state.orders:
        return
    prices = (event.price, order.limit_price, order.stop_price)
    state.orders[order.client_order_id] = OpenOrder(
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        leg=order.leg,
        quantity=order.quantity,
        price=max((price for price in prices if price is not None and _is_price(price)), default=ZERO),
        is_entry=not order.reduce_only,
    )
    refresh(state, order.strategy, order.symbol)
    if order.leg in PROTECTIVE_LEGS:
        return  # they come with an entry, or for a position that is there
    for per, rate in limits.order_rates:
        _window(state, rate_name(order, per)).add(rate_for(order, rate), event.at_ns)
    if not order.reduce_only and limits.duplicate_window_ns is not None:
        oldest = event.at_ns - limits.duplicate_window_ns
        state.recent = {name: at for name, at in state.recent.items() if at > oldest}
        state.recent[fingerprint(order)] = event.at_ns


def _reported(state: RiskState, event: events.Reported) -> None:
    """Reports of orders that are over, or nobody's, change nothing."""
    report = event.report
    order = state.orders.get(report.client_order_id)
    if order is None:
        return
    if not (_is_price(report.quantity) and report.filled.is_finite()):
        raise StateError(f"order {report.client_order_id}: expected quantities, found {report}")
    if report.state not in FINAL_STATES:
        state.orders[report.client_order_id] = msgspec.structs.replace(
            order, quantity=report.quantity, filled=report.filled, state=report.state
        )
        refresh(state, order.strategy, order.symbol)
        return
    del state.orders[report.client_order_id]
    refresh(state, order.strategy, order.symbol)
    rate = limits_in_force(state).rejects
    if report.state is OrderState.REJECTED and rate is not None:
        window = _window(state, f"rejects {order.symbol}")
        window.add(rate, event.at_ns)
        if window.is_full(rate, event.at_ns):
            facts = f"{rate.count} rejected orders within {rate.span_ns / 1e9:g} s, the last for {report.reason or 'no reason'}"
            latch(state, "rejects", event.at_ns, facts, symbol=order.symbol)


def rate_name(order: OrderRequest, per: str) -> str:
    """Exits are counted apart, so that entries never use up what an exit needs."""
    return f"{'exits' if order.reduce_only else 'entries'} {per}"


def rate_for(order: OrderRequest, rate: Rate) -> Rate:
    return rate.times(EXIT_RATE_FACTOR) if order.reduce_only else rate


def fingerprint(order: OrderRequest) -> str:
    """What two entries of one worker have in common when one is the other's duplicate."""
    prices = f"{order.limit_price}/{order.stop_price}"
    return f"{worker_key(order.strategy, order.symbol)}/{order.side}/{order.type}/{order.quantity}/{prices}"


# -- people ------------------------------------------------------------------------------------------------------------


def _stopped(state: RiskState, event: events.Stopped) -> None:
    """The newest word of an authority over a scope is the one that counts."""
    same = (event.authority, event.strategy, event.symbol)
    state.latches = [one for one in state.latches if (one.breaker, one.strategy, one.symbol) != same]
    stopped = Latch(
        breaker=event.authority,
        posture=Posture(event.posture),
        reset=event.authority,
        since_ns=event.at_ns,
        strategy=event.strategy,
        symbol=event.symbol,
        facts=event.reason,
    )
    state.latches.append(stopped)


def _resumed(state: RiskState, event: events.Resumed) -> None:
    lift(state, event.authority, event.strategy, event.symbol)
    trip_by_money(state, event.at_ns)


# -- inside ------------------------------------------------------------------------------------------------------------


def _book(state: RiskState, strategy: str, symbol: str, what: str) -> Book:
    book = state.books.get(worker_key(strategy, symbol))
    if book is not None:
        return book
    instrument: Instrument | None = limits_in_force(state).instruments.get(symbol)
    if instrument is None:
        raise StateError(f"{what}: expected an instrument that {state.client} trades, found {symbol}")
    return Book(strategy=strategy, symbol=symbol, currency=instrument.currency, multiplier=instrument.multiplier)


def _window(state: RiskState, name: str) -> Window:
    window = state.windows.get(name)
    if window is None:
        window = state.windows[name] = Window()
    return window


def _is_price(number: Decimal) -> bool:
    return number.is_finite() and number > ZERO


_TRANSITIONS: dict[type, Callable[[RiskState, typing.Any], None]] = {
    events.Configured: _configured,
    events.CashMoved: _cash_moved,
    events.Rated: _rated,
    events.Marked: _marked,
    events.Filled: _filled,
    events.Paid: _paid,
    events.Signalled: _signalled,
    events.Ordered: _ordered,
    events.Reported: _reported,
    events.DayRolled: _day_rolled,
    events.Stopped: _stopped,
    events.Resumed: _resumed,
}
