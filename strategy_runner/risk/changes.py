"""The check of a change: what a strategy may make of its own open order. An order may become smaller, or dearer within what an
order may be; never larger, since more of it would be an entry of its own."""

from decimal import Decimal

from strategy_runner.model.order import OrderChange, OrderState
from strategy_runner.model.position import ZERO
from strategy_runner.risk import breakers
from strategy_runner.risk.checks import (
    COLLAR,
    NO_MARKET_PRICE,
    UNKNOWN_OUTCOME,
    equity_refusal,
    symbol_refusal,
    value_refusal,
)
from strategy_runner.risk.exposure import changed_exposure_refusal
from strategy_runner.risk.numbers import NOT_POSITIVE, OFF_TICK, is_on_grid
from strategy_runner.risk.state import RiskState, limits_in_force
from strategy_runner.risk.working import PROTECTIVE_LEGS, OpenOrder

NO_OPEN_ORDER = "no_open_order"
GROWS = "change_grows_order"
REASONS = {
    NO_OPEN_ORDER: "a modification or cancellation of orders that are over, or never were",
    GROWS: "a modification to more than the order's quantity, or to nothing; more of it is an order of its own",
}


def change_refusal(
    change: OrderChange, order: OpenOrder, state: RiskState, price: Decimal | None, now_ns: int
) -> str | None:
    """`price` is the last of the symbol. Levels that protect are only moved, wherever the strategy wants them."""
    if change.quantity is not None and not 0 < change.quantity <= order.quantity:
        return GROWS
    wished = [one for one in (change.limit_price, change.stop_price) if one is not None]
    limits = limits_in_force(state)
    for one in wished:  # rounded to the grid already, which may have left nothing
        if one <= ZERO:
            return NOT_POSITIVE
        if not is_on_grid(one, limits.instruments[order.symbol].tick_size):
            return OFF_TICK
    if order.leg in PROTECTIVE_LEGS or not wished:
        return None
    latch = breakers.stopping(state, order.strategy, order.symbol, now_ns) if order.is_entry else None
    if latch is not None:
        return breakers.BREAKERS[latch.breaker].refusal
    if limits.price_collar is not None:
        if price is None:
            return NO_MARKET_PRICE
        if any(abs(one - price) > limits.price_collar * price for one in wished):
            return COLLAR
    return _entry_refusal(change, order, state, price) if order.is_entry and not _lessens(change, order) else None


def _entry_refusal(change: OrderChange, order: OpenOrder, state: RiskState, price: Decimal | None) -> str | None:
    """As for a new order of what is left, at its new prices: it may be filled at once, as one."""
    limits = limits_in_force(state)
    instrument = limits.instruments[order.symbol]
    wrong = symbol_refusal(order.symbol, limits)
    if wrong is not None:
        return wrong
    if price is None:
        return NO_MARKET_PRICE
    if state.totals.unknown.get(order.symbol, 0) > (order.state is OrderState.UNKNOWN):
        return UNKNOWN_OUTCOME
    limit = order.limit_price if change.limit_price is None else change.limit_price
    stop = order.stop_price if change.stop_price is None else change.stop_price
    dearest = max(one for one in (price, limit, stop) if one is not None)
    quantity = order.quantity if change.quantity is None else change.quantity
    left = max(quantity - order.filled, ZERO)
    return (
        equity_refusal(instrument, state)
        or value_refusal(left, dearest, instrument, state)
        or changed_exposure_refusal(order, left, dearest, state)
    )


def _lessens(change: OrderChange, order: OpenOrder) -> bool:
    """Whether it comes no nearer to being filled, nor is worth more: a buy's limit or a sell's stop that is only lower."""
    buys = order.side == "buy"
    return _is_no_worse(change.limit_price, order.limit_price, buys) and _is_no_worse(
        change.stop_price, order.stop_price, not buys
    )


def _is_no_worse(wished: Decimal | None, known: Decimal | None, may_fall: bool) -> bool:
    if wished is None or wished == known:
        return True
    return may_fall and known is not None and wished < known
