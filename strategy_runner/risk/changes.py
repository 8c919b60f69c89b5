"""The check of a change: what a strategy may make of its own open order. An order may become smaller, or dearer within what an
order may be; never larger, since more of it would be an entry of its own."""

from decimal import Decimal

from strategy_runner.model.order import OrderChange
from strategy_runner.risk import breakers
from strategy_runner.risk.checks import COLLAR, NO_MARKET_PRICE, ORDER_VALUE
from strategy_runner.risk.state import RiskState, limits_in_force, rate_to_client
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
    if order.leg in PROTECTIVE_LEGS or not wished:
        return None
    limits = limits_in_force(state)
    latch = breakers.stopping(state, order.strategy, order.symbol, now_ns) if order.is_entry else None
    if latch is not None:
        return breakers.BREAKERS[latch.breaker].refusal
    if limits.price_collar is not None:
        if price is None:
            return NO_MARKET_PRICE
        if any(abs(one - price) > limits.price_collar * price for one in wished):
            return COLLAR
    if order.is_entry and limits.max_order_value is not None:
        instrument = limits.instruments[order.symbol]
        rate = rate_to_client(state, instrument.currency)
        if rate is None or max(wished) * order.remaining * instrument.multiplier * rate > limits.max_order_value:
            return ORDER_VALUE
    return None
