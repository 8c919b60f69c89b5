"""Exposure: how much a client may come to hold once everything that is working is filled, at the worst.

Each strategy's own position counts, long and short added up: so an exit never adds to it, and shares of it can be given away.
What each worker comes to is worked out anew when something of it changes, and not each time that somebody asks.
"""

from decimal import Decimal

from strategy_runner.model.order import OrderRequest
from strategy_runner.risk.book import ZERO
from strategy_runner.risk.state import RiskState, limits_in_force, mark, rate_to_client
from strategy_runner.risk.working import Exposure, OpenOrder, worker_key

POSITION_SIZE = "position_size_above_limit"
POSITION_NOTIONAL = "position_notional_above_limit"
SHARE = "position_notional_above_share"
RATE_UNKNOWN = "currency_rate_unknown"
REASONS = {
    POSITION_SIZE: "the client's positions in the symbol, with what is working, would exceed its `max_position_size`",
    POSITION_NOTIONAL: "the worth of the client's positions, with what is working, would exceed `max_position_notional`",
    SHARE: "the worth of the strategy's positions, with what is working, would exceed its share of `max_position_notional`",
    RATE_UNKNOWN: "the rate of a currency is not known, and so neither is equity nor the worth of positions",
}


def exposure_refusal(order: OrderRequest, price: Decimal, state: RiskState) -> str | None:
    """For an entry at a price. What only reduces the worst case passes, however far it is above a limit."""
    before = _before(state, order.strategy, order.symbol)
    after = _with(before, order)
    return None if after <= before.worst else _refusal(state, before, after, price)


def changed_exposure_refusal(order: OpenOrder, left: Decimal, price: Decimal, state: RiskState) -> str | None:
    """For an entry that is changed: so much is `left` to be filled, at a price. What adds no worth passes, as above."""
    before = _before(state, order.strategy, order.symbol)
    return _refusal(state, before, _with_less(before, order, left), price)


def _refusal(state: RiskState, before: Exposure, after: Decimal, price: Decimal) -> str | None:
    """For a worker whose worst case becomes `after`, at this price or the one that it is counted with, if that is higher."""
    limits, totals, strategy, symbol = limits_in_force(state), state.totals, before.strategy, before.symbol
    if limits.max_position_notional is None and symbol not in limits.max_position_size:
        return None
    multiplier, rate = _terms(state, strategy, symbol)
    if rate is None:
        return RATE_UNKNOWN
    more = after * max(before.price, price) * multiplier * rate - (before.worth or ZERO)
    if more <= 0:
        return None
    if totals.unpriced:  # another's: this worker's own rate is known
        return RATE_UNKNOWN
    size = totals.sizes.get(symbol, ZERO) - before.worst + after
    of_strategy = totals.worths.get(strategy, ZERO) + more
    total = totals.worth + more
    size_limit = limits.max_position_size.get(symbol)
    if size_limit is not None and size > size_limit and after > before.worst:
        return POSITION_SIZE
    if limits.max_position_notional is None:
        return None
    if strategy in limits.shares and of_strategy > limits.share(strategy) * limits.max_position_notional:
        return SHARE
    return POSITION_NOTIONAL if total > limits.max_position_notional else None


def refresh(state: RiskState, strategy: str, symbol: str) -> None:
    """After a change of one worker's book or orders."""
    state.put_exposure(worker_key(strategy, symbol), _exposure(state, strategy, symbol))


def refresh_all(state: RiskState, symbol: str | None = None) -> None:
    """After a change of prices (of one symbol) or rates. What is working stays as it was added up."""
    for key in list(state.exposures) if symbol is None else state.totals.places.get(symbol, ()):
        one = state.exposures[key]
        priced = _priced(state, one.strategy, one.symbol, one.buys, one.sells, one.working_price)
        state.put_exposure(key, priced)


def _exposure(state: RiskState, strategy: str, symbol: str) -> Exposure:
    working = state.totals.of(worker_key(strategy, symbol))
    return _priced(state, strategy, symbol, working.buys, working.sells, working.price)


def _priced(
    state: RiskState, strategy: str, symbol: str, buys: Decimal, sells: Decimal, working_price: Decimal
) -> Exposure:
    book = state.books.get(worker_key(strategy, symbol))
    if book is None:
        quantity, price, gain = ZERO, working_price, ZERO
    else:
        last = mark(state, book)
        quantity, gain = book.quantity, book.realised + book.unrealised(last)
        # what is held at a price below 0 is worth more than nothing to a limit; of what nobody holds the last price may be old
        price = max(working_price, abs(last)) if quantity else working_price
    worst = max(abs(quantity), abs(quantity + buys), abs(quantity - sells))
    multiplier, rate = _terms(state, strategy, symbol)
    return Exposure(
        strategy=strategy,
        symbol=symbol,
        quantity=quantity,
        buys=buys,
        sells=sells,
        working_price=working_price,
        price=price,
        worst=worst,
        worth=None if rate is None else worst * price * multiplier * rate,
        gain=ZERO if book is None else None if rate is None else gain * rate,
    )


def _before(state: RiskState, strategy: str, symbol: str) -> Exposure:
    return state.exposures.get(worker_key(strategy, symbol)) or _exposure(state, strategy, symbol)


def _with(before: Exposure, order: OrderRequest) -> Decimal:
    """The worst case once an order is working too."""
    if order.side == "buy":
        return max(before.worst, abs(before.quantity + before.buys + order.quantity))
    return max(before.worst, abs(before.quantity - before.sells - order.quantity))


def _with_less(before: Exposure, order: OpenOrder, left: Decimal) -> Decimal:
    """The worst case once no more than this is left of an entry that is working."""
    less = order.remaining - left
    buys, sells = (before.buys - less, before.sells) if order.side == "buy" else (before.buys, before.sells - less)
    return max(abs(before.quantity), abs(before.quantity + buys), abs(before.quantity - sells))


def _terms(state: RiskState, strategy: str, symbol: str) -> tuple[Decimal, Decimal | None]:
    """The multiplier, and what the currency is worth in the client's."""
    book = state.books.get(worker_key(strategy, symbol))
    if book is not None:
        return book.multiplier, rate_to_client(state, book.currency)
    instrument = limits_in_force(state).instruments[symbol]
    return instrument.multiplier, rate_to_client(state, instrument.currency)
