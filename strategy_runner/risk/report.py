"""What `risk CLIENT` shows: each breaker in its scope, its value, how far it is from opening, and how it closes; and each limit
with how much of it is used."""

from decimal import Decimal

import msgspec

from strategy_runner.risk.breakers import BREAKERS, RESETS, has_cooled, measures
from strategy_runner.risk.flow import ENTRIES
from strategy_runner.risk.state import Latch, RiskState, limits_in_force


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker in one scope, "" being all. `value`, `limit` and `distance` are None where people and not numbers open it;
    `since_ns` is 0 while it is closed."""

    breaker: str
    strategy: str
    symbol: str
    posture: str
    formula: str
    value: Decimal | None
    limit: Decimal | None
    distance: Decimal | None
    since_ns: int
    facts: str
    reset: str


def gauges(state: RiskState, now_ns: int) -> list[Gauge]:
    """All that is measured, and all that is open, by breaker and scope."""
    open_now = {_scope(one): one for one in state.latches if not has_cooled(one, now_ns)}
    found: dict[tuple[str, str, str], Gauge] = {}
    for one in measures(state, now_ns):
        scope = (one.breaker, one.strategy, one.symbol)
        found[scope] = _gauge(scope, open_now.get(scope), one.value, one.limit, one.distance)
    for scope, latch in open_now.items():
        found.setdefault(scope, _gauge(scope, latch, None, None, None))
    order = list(BREAKERS)
    return [found[scope] for scope in sorted(found, key=lambda scope: (order.index(scope[0]), scope[1:]))]


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of orders and positions, and how much of it is used; `used` is None where each order is measured by itself, or
    while the rate of a currency is missing."""

    limit: str
    strategy: str = ""
    symbol: str = ""
    used: Decimal | None = None
    allowed: Decimal


def uses(state: RiskState, now_ns: int) -> list[Use]:
    """All limits that are configured, what is working counted as held."""
    limits, totals = limits_in_force(state), state.totals
    found: list[Use] = []
    worth = None if totals.unpriced else totals.worth
    if limits.max_position_notional is not None:
        found.append(Use(limit="max_position_notional", used=worth, allowed=limits.max_position_notional))
        for strategy, share in limits.shares.items():
            own = None if worth is None else totals.worths.get(strategy, Decimal(0))
            allowed = share * limits.max_position_notional
            found.append(Use(limit="max_position_notional", strategy=strategy, used=own, allowed=allowed))
    for symbol, size in limits.max_position_size.items():
        used = totals.sizes.get(symbol, Decimal(0))
        found.append(Use(limit="max_position_size", symbol=symbol, used=used, allowed=size))
    if limits.max_order_value is not None:
        found.append(Use(limit="max_order_value", allowed=limits.max_order_value))
    if limits.price_collar is not None:
        found.append(Use(limit="price_collar", allowed=limits.price_collar))
    if limits.max_open_orders is not None:
        found.append(
            Use(limit="max_open_orders", used=Decimal(totals.entries), allowed=Decimal(limits.max_open_orders))
        )
    for per, rate in limits.order_rates:
        window = state.windows.get(f"{ENTRIES} {per}")
        count = Decimal(window.used(rate.span_ns, now_ns) if window else 0)
        found.append(Use(limit=f"max_orders_per_{per}", used=count, allowed=Decimal(rate.count)))
    return found


def _scope(latch: Latch) -> tuple[str, str, str]:
    return latch.breaker, latch.strategy, latch.symbol


def _gauge(
    scope: tuple[str, str, str],
    latch: Latch | None,
    value: Decimal | None,
    limit: Decimal | None,
    distance: Decimal | None,
) -> Gauge:
    breaker = BREAKERS[scope[0]]
    return Gauge(
        breaker=breaker.name,
        strategy=scope[1],
        symbol=scope[2],
        posture=latch.posture if latch else "active",
        formula=breaker.formula,
        value=value,
        limit=limit,
        distance=distance,
        since_ns=latch.since_ns if latch else 0,
        facts=latch.facts if latch else "",
        reset=RESETS[breaker.reset],
    )
