"""Exposure: how much a client may come to hold once everything that is working is filled, at the worst.

Each strategy's own position counts, long and short added up: so an exit never adds to it, and shares of it can be given away.
What each worker comes to is worked out anew when something of it changes, and not each time that somebody asks.
"""

from decimal import Decimal

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderRequest
from strategy_runner.risk.book import ZERO
from strategy_runner.risk.state import (
    Exposure,
    RiskState,
    limits_in_force,
    mark,
    rate_to_client,
    worker_key,
)

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
    limits, strategy, symbol = limits_in_force(state), order.strategy, order.symbol
    if limits.max_position_notional is None and symbol not in limits.max_position_size:
        return None
    own = worker_key(strategy, symbol)
    before = state.exposures.get(own) or _exposure(state, strategy, symbol)
    after = _with(before, order)
    if after <= before.worst:
        return None
    unit = _unit_worth(state, strategy, symbol, max(before.price, price))
    if unit is None:
        return RATE_UNKNOWN
    size, of_strategy = after, after * unit
    total = of_strategy
    for key, one in state.exposures.items():
        if key == own or not one.worst:
            continue
        if one.worth is None:
            return RATE_UNKNOWN
        total += one.worth
        if one.symbol == symbol:
            size += one.worst
        if one.strategy == strategy:
            of_strategy += one.worth
    size_limit = limits.max_position_size.get(symbol)
    if size_limit is not None and size > size_limit:
        return POSITION_SIZE
    if limits.max_position_notional is None:
        return None
    if strategy in limits.shares and of_strategy > limits.share(strategy) * limits.max_position_notional:
        return SHARE
    return POSITION_NOTIONAL if total > limits.max_position_notional else None


def refresh(state: RiskState, strategy: str, symbol: str) -> None:
    """After a change of one worker's book or orders."""
    state.exposures[worker_key(strategy, symbol)] = _exposure(state, strategy, symbol)


def refresh_all(state: RiskState, symbol: str | None = None) -> None:
    """After a change of prices (of one symbol) or rates."""
    for one in list(state.exposures.values()):
        if symbol is None or one.symbol == symbol:
            refresh(state, one.strategy, one.symbol)


def _exposure(state: RiskState, strategy: str, symbol: str) -> Exposure:
    book = state.books.get(worker_key(strategy, symbol))
    quantity, gain = ZERO, ZERO
    buys, sells, price = ZERO, ZERO, ZERO
    for order in state.orders.values():
        if order.is_entry and order.symbol == symbol and order.strategy == strategy:
            buys += order.remaining if order.side == "buy" else ZERO
            sells += order.remaining if order.side == "sell" else ZERO
            price = max(price, order.price)
    if book is not None:
        last = mark(state, book)
        quantity, gain, price = book.quantity, book.realised + book.unrealised(last), max(price, last)
    worst = max(abs(quantity), abs(quantity + buys), abs(quantity - sells))
    unit = _unit_worth(state, strategy, symbol, price)
    rate = None if book is None else rate_to_client(state, book.currency)
    return Exposure(
        strategy=strategy,
        symbol=symbol,
        quantity=quantity,
        buys=buys,
        sells=sells,
        price=price,
        worst=worst,
        worth=None if unit is None else worst * unit,
        gain=ZERO if book is None else (None if rate is None else gain * rate),
    )


def _with(before: Exposure, order: OrderRequest) -> Decimal:
    """The worst case once an order is working too."""
    if order.side == "buy":
        return max(before.worst, abs(before.quantity + before.buys + order.quantity))
    return max(before.worst, abs(before.quantity - before.sells - order.quantity))


def _unit_worth(state: RiskState, strategy: str, symbol: str, price: Decimal) -> Decimal | None:
    """Of one unit at a price, in the client's currency."""
    book = state.books.get(worker_key(strategy, symbol))
    if book is not None:
        multiplier, currency = book.multiplier, book.currency
    else:
        instrument: Instrument = limits_in_force(state).instruments[symbol]
        multiplier, currency = instrument.multiplier, instrument.currency
    rate = rate_to_client(state, currency)
    return None if rate is None else price * multiplier * rate
