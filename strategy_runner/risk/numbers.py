"""Every number of an order must be one, positive, and on the instrument's grid. Comes before any comparison: NaN is above no
limit, so a check that only asks whether a limit is exceeded lets it through."""

from decimal import Decimal

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderRequest
from strategy_runner.model.position import ZERO

NOT_FINITE = "order_not_finite"
NOT_POSITIVE = "order_not_positive"
PRICE_MISSING = "order_price_missing"
OFF_LOT = "off_lot"
OFF_TICK = "off_tick"
REASONS = {
    NOT_FINITE: "a number of the order is NaN or infinite",
    NOT_POSITIVE: "the quantity or a price of the order is zero or negative",
    PRICE_MISSING: "a limit order without a limit price, or a stop order without a stop price",
    OFF_LOT: "the quantity is no multiple of the instrument's lot size, or of too many lots to be counted",
    OFF_TICK: "a price is no multiple of the instrument's tick size, or of too many ticks to be counted",
}
_DIGITS_MAX = 25
_NEEDS_LIMIT = ("limit", "stop_limit")
_NEEDS_STOP = ("stop", "stop_limit")


def numbers_refusal(order: OrderRequest, instrument: Instrument, held: Decimal) -> str | None:
    """An exit may be of all that its strategy has `held`: the lot may have been another when that was bought."""
    prices = [price for price in (order.limit_price, order.stop_price, order.trail) if price is not None]
    for number in (order.quantity, *prices):
        if not number.is_finite():
            return NOT_FINITE
        if number <= ZERO:
            return NOT_POSITIVE
    if order.type in _NEEDS_LIMIT and order.limit_price is None:
        return PRICE_MISSING
    if order.type in _NEEDS_STOP and order.stop_price is None and order.trail is None:
        return PRICE_MISSING
    is_whole = order.reduce_only and order.quantity == abs(held)
    if not (is_whole or is_on_grid(order.quantity, instrument.lot_size)):
        return OFF_LOT
    for price in prices:
        if not is_on_grid(price, instrument.tick_size):
            return OFF_TICK
    return None


def is_on_grid(number: Decimal, step: Decimal) -> bool:
    """False also for what has too many steps to be counted. The number must be finite."""
    return has_countable_steps(number, step) and not number % step


def has_countable_steps(number: Decimal, step: Decimal) -> bool:
    """Whether the number's steps can be counted: no order of any use has 10^25 of them. The number must be finite."""
    return number.adjusted() - step.adjusted() <= _DIGITS_MAX
