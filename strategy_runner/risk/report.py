"""What `risk CLIENT` shows: each breaker and limit in its scope, its value, how far it is from opening, and how it closes."""

from decimal import Decimal

import msgspec

from strategy_runner.risk.breakers import BREAKERS, RESETS, has_cooled, measures
from strategy_runner.risk.state import Latch, RiskState


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
