"""Events that move money: what each makes of cash, books, prices and the day, and which breakers that opens."""

from decimal import Decimal

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.risk import events
from strategy_runner.risk.book import ZERO, Book, after_fill, after_payment
from strategy_runner.risk.exposure import refresh, refresh_all
from strategy_runner.risk.latching import close_by_day, trip_by_money, trip_by_streak
from strategy_runner.risk.limits import ONE
from strategy_runner.risk.state import RiskState, equity_of, limits_in_force, profits, rate_to_client
from strategy_runner.risk.working import worker_key


def configured(state: RiskState, event: events.Configured) -> None:
    """Instruments are only ever added: what was traded once may still be held."""
    if state.limits is None:
        state.cash = state.peak_equity = state.day_start_equity = event.starting_cash
        state.day = event.day
        state.limits = event.limits
    else:
        instruments = {**state.limits.instruments, **event.limits.instruments}
        state.limits = msgspec.structs.replace(event.limits, instruments=instruments)
        _recount(state)
    refresh_all(state)
    trip_by_money(state, event.at_ns)
    trip_by_streak(state, event.at_ns)


def cash_moved(state: RiskState, event: events.CashMoved) -> None:
    if not event.amount.is_finite():
        raise StateError(f"cash of {state.client}: expected an amount, found {event.amount}")
    state.cash += event.amount
    state.day_start_equity += event.amount
    state.peak_equity += event.amount
    trip_by_money(state, event.at_ns)


def rated(state: RiskState, event: events.Rated) -> None:
    if is_positive(event.rate):
        state.rates[event.currency] = event.rate
        _recount(state)
        refresh_all(state)
        trip_by_money(state, event.at_ns)


def marked(state: RiskState, event: events.Marked) -> None:
    holders = state.totals.places.get(event.symbol, ())
    if is_positive(event.price) and any(state.exposures[worker].quantity for worker in holders):
        state.marks[event.symbol] = event.price
        refresh_all(state, event.symbol)
        trip_by_money(state, event.at_ns)


def filled(state: RiskState, event: events.Filled) -> None:
    """At any price, also zero or below: the position has changed. Whose fill it is the desk has asked before it counted it."""
    fill = event.fill
    if not (fill.price.is_finite() and is_positive(fill.quantity) and fill.fee.is_finite()):
        raise StateError(f"fill {fill.fill_id}: expected a price, a quantity > 0 and a fee, found {fill}")
    book, result = after_fill(_book(state, fill.strategy, fill.symbol, f"fill {fill.fill_id}"), fill)
    state.books[worker_key(fill.strategy, fill.symbol)] = book
    if state.marks.get(fill.symbol) != fill.price:
        state.marks[fill.symbol] = fill.price
        refresh_all(state, fill.symbol)  # others hold it at another price now
    refresh(state, fill.strategy, fill.symbol)
    if result is not None:
        losses = state.losses_in_a_row.get(fill.strategy, 0)
        state.losses_in_a_row[fill.strategy] = losses + 1 if result < 0 else 0
        trip_by_streak(state, event.at_ns)
    trip_by_money(state, event.at_ns)


def paid(state: RiskState, event: events.Paid) -> None:
    if not event.amount.is_finite():
        raise StateError(f"funding of {event.symbol}: expected an amount, found {event.amount}")
    book = _book(state, event.strategy, event.symbol, f"funding of {event.symbol}")
    state.books[worker_key(event.strategy, event.symbol)] = after_payment(book, event.amount)
    refresh(state, event.strategy, event.symbol)
    trip_by_money(state, event.at_ns)


def day_rolled(state: RiskState, event: events.DayRolled) -> None:
    """A day cannot begin at an unknown equity: it begins with the first roll after the rate is known."""
    gained, equity = profits(state), equity_of(state)
    if event.day <= state.day or gained is None or equity is None:
        return
    state.day = event.day
    state.day_start_equity = equity
    state.profits_at_day_start = gained
    state.losses_in_a_row = {}
    close_by_day(state)
    trip_by_money(state, event.at_ns)


def _book(state: RiskState, strategy: str, symbol: str, what: str) -> Book:
    book = state.books.get(worker_key(strategy, symbol))
    if book is not None:
        return book
    instrument: Instrument | None = limits_in_force(state).instruments.get(symbol)
    if instrument is None:
        raise StateError(f"{what}: expected an instrument that {state.client} trades, found {symbol}")
    return Book(strategy=strategy, symbol=symbol, currency=instrument.currency, multiplier=instrument.multiplier)


def _recount(state: RiskState) -> None:
    """What an instrument is now holds for what comes, of a position too; what was gained is worth what it was. An instrument
    whose currency has no rate yet stays what it was."""
    for key, book in state.books.items():
        instrument = limits_in_force(state).instruments[book.symbol]
        if (instrument.currency, instrument.multiplier) == (book.currency, book.multiplier):
            continue
        before, now = rate_to_client(state, book.currency), rate_to_client(state, instrument.currency)
        if instrument.currency == book.currency:
            worth = ONE
        elif before is not None and now is not None:
            worth = before / now
        else:
            continue
        state.books[key] = msgspec.structs.replace(
            book,
            currency=instrument.currency,
            multiplier=instrument.multiplier,
            realised=book.realised * worth,
            since_entry=book.since_entry * worth,
        )


def is_positive(number: Decimal) -> bool:
    """A number, and more than nothing: what every rate and quantity must be, and every price of the market."""
    return number.is_finite() and number > ZERO
