"""The risk check: one order against a client's state and limits. Returns None, or the stable name of why it may not go.

Pure: the moment and the market's price come in as arguments, and nothing is changed; what passes becomes an `Ordered` event.
"""

from decimal import Decimal

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderRequest
from strategy_runner.risk import breakers, exits, exposure, numbers
from strategy_runner.risk.breakers import BREAKERS
from strategy_runner.risk.flow import fingerprint, rate_for, rate_name
from strategy_runner.risk.limits import Limits
from strategy_runner.risk.state import Posture, RiskState, held, limits_in_force, rate_to_client
from strategy_runner.risk.working import PROTECTIVE_LEGS

UNKNOWN_INSTRUMENT = "unknown_instrument"
NO_MARKET_PRICE = "no_market_price"
SYMBOL_DENIED = "symbol_denied"
SYMBOL_NOT_ALLOWED = "symbol_not_allowed"
UNKNOWN_OUTCOME = "order_outcome_unknown"
NO_EQUITY = "no_equity"
ORDER_VALUE = "order_value_above_limit"
COLLAR = "price_outside_collar"
DUPLICATE = "duplicate_order"
PER = {"second": "orders_per_second_above_limit", "minute": "orders_per_minute_above_limit"}
OPEN_ORDERS = "open_orders_above_limit"

REASONS: dict[str, str] = {
    UNKNOWN_INSTRUMENT: "the environment's file does not list the symbol, so neither tick, lot nor currency is known",
    **numbers.REASONS,
    NO_MARKET_PRICE: "no finite price of the symbol is known, and the order is judged by it",
    **breakers.REASONS,
    **exits.REASONS,
    PER["second"]: "an entry more than `max_orders_per_second`, or an exit more than ten times as many",
    PER["minute"]: "an entry more than `max_orders_per_minute`, or an exit more than ten times as many",
    COLLAR: "the order's price is further from the last price than `price_collar`",
    SYMBOL_DENIED: "an entry in a symbol of `deny_symbols`",
    SYMBOL_NOT_ALLOWED: "an entry in a symbol that `allow_symbols` does not list",
    UNKNOWN_OUTCOME: "an entry in a symbol of which another order's outcome is not known",
    NO_EQUITY: "an entry while the client's equity is zero or negative",
    ORDER_VALUE: "the order is worth more than `max_order_value`",
    DUPLICATE: "an entry with the side, quantity and price of another of the worker within `duplicate_window_s`",
    OPEN_ORDERS: "an entry while `max_open_orders` are working",
    **exposure.REASONS,
}


def check(
    order: OrderRequest, state: RiskState, price: Decimal | None, now_ns: int, entry: OrderRequest | None = None
) -> str | None:
    """`price` is the last of the symbol, None if there is none. `entry` is given for a stop loss or take profit that goes with
    one: it is judged by the entry alone, since it does nothing without it."""
    limits = limits_in_force(state)
    instrument = limits.instruments.get(order.symbol)
    if instrument is None:
        return UNKNOWN_INSTRUMENT
    wrong = numbers.numbers_refusal(order, instrument, held(state, order.strategy, order.symbol))
    if wrong is not None:
        return wrong
    if price is not None and not (price.is_finite() and price > 0):
        price = None
    if not order.reduce_only:
        return _stopped(order, state, now_ns) or _entry_refusal(order, state, instrument, price, now_ns)
    if entry is not None and order.leg in PROTECTIVE_LEGS:
        return exits.protection_refusal(order, entry)
    return _stopped(order, state, now_ns) or _exit_refusal(order, state, limits, price, now_ns)


def _exit_refusal(
    order: OrderRequest, state: RiskState, limits: Limits, price: Decimal | None, now_ns: int
) -> str | None:
    """A market exit needs no price to be known; one with a price may be as wrong as any. What protects is far from the market
    by its nature."""
    wrong = exits.exit_refusal(order, state)
    if wrong is not None or order.leg in PROTECTIVE_LEGS:
        return wrong
    return _collar_refusal(order, limits, price) or _rate_refusal(order, state, now_ns)


def _entry_refusal(
    order: OrderRequest, state: RiskState, instrument: Instrument, price: Decimal | None, now_ns: int
) -> str | None:
    limits = limits_in_force(state)
    wrong = symbol_refusal(order.symbol, limits)
    if wrong is not None:
        return wrong
    if price is None:
        return NO_MARKET_PRICE
    wrong = _working_refusal(order, state, limits) or equity_refusal(instrument, state)
    if wrong is not None:
        return wrong
    wrong = _collar_refusal(order, limits, price) or _flow_refusal(order, state, limits, now_ns)
    if wrong is not None:
        return wrong
    dearest = max(one for one in (price, order.limit_price, order.stop_price) if one is not None)
    wrong = value_refusal(order.quantity, dearest, instrument, state)
    return wrong or exposure.exposure_refusal(order, dearest, state)


def symbol_refusal(symbol: str, limits: Limits) -> str | None:
    if symbol in limits.deny_symbols:
        return SYMBOL_DENIED
    return SYMBOL_NOT_ALLOWED if limits.allow_symbols and symbol not in limits.allow_symbols else None


def equity_refusal(instrument: Instrument, state: RiskState) -> str | None:
    if state.equity is None or rate_to_client(state, instrument.currency) is None:
        return exposure.RATE_UNKNOWN
    return NO_EQUITY if state.equity <= 0 else None


def value_refusal(quantity: Decimal, price: Decimal, instrument: Instrument, state: RiskState) -> str | None:
    limit = limits_in_force(state).max_order_value
    if limit is None:
        return None
    rate = rate_to_client(state, instrument.currency)
    if rate is None:
        return exposure.RATE_UNKNOWN
    return ORDER_VALUE if quantity * price * instrument.multiplier * rate > limit else None


def _working_refusal(order: OrderRequest, state: RiskState, limits: Limits) -> str | None:
    """By the orders that are working."""
    if order.symbol in state.totals.unknown:
        return UNKNOWN_OUTCOME
    is_full = limits.max_open_orders is not None and state.totals.entries >= limits.max_open_orders
    return OPEN_ORDERS if is_full else None


def _stopped(order: OrderRequest, state: RiskState, now_ns: int) -> str | None:
    """What protects and what flattens passes every breaker, other exits those that only reduce."""
    if order.reduce_only and (order.leg in PROTECTIVE_LEGS or order.leg == "flatten"):
        return None
    latch = breakers.stopping(state, order.strategy, order.symbol, now_ns)
    if latch is None or (order.reduce_only and latch.posture is Posture.REDUCING):
        return None
    return BREAKERS[latch.breaker].refusal


def _collar_refusal(order: OrderRequest, limits: Limits, price: Decimal | None) -> str | None:
    if limits.price_collar is None:
        return None
    for own in (order.limit_price, order.stop_price):
        if own is None:
            continue
        if price is None:
            return NO_MARKET_PRICE
        if abs(own - price) > limits.price_collar * price:
            return COLLAR
    return None


def _flow_refusal(order: OrderRequest, state: RiskState, limits: Limits, now_ns: int) -> str | None:
    if limits.duplicate_window_ns is not None:
        before_ns = state.recent.get(fingerprint(order))
        if before_ns is not None and now_ns - before_ns < limits.duplicate_window_ns:
            return DUPLICATE
    return _rate_refusal(order, state, now_ns)


def _rate_refusal(order: OrderRequest, state: RiskState, now_ns: int) -> str | None:
    for per, rate in limits_in_force(state).order_rates:
        window = state.windows.get(rate_name(order, per))
        if window is not None and window.is_full(rate_for(order, rate), now_ns):
            return PER[per]
    return None
