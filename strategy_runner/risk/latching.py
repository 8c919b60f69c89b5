"""Latches: how a breaker opens, and the only ways in which it closes again.

A latch goes by its own reset rule and by nothing else: not by a restart, not by profits that come back, not by wider limits.
"""

from decimal import Decimal

import msgspec

from strategy_runner.risk.book import ZERO
from strategy_runner.risk.breakers import BREAKERS, money_values, streak_measures
from strategy_runner.risk.events import Authority
from strategy_runner.risk.state import Latch, RiskState, equity_of, limits_in_force
from strategy_runner.risk.working import worker_key


def latch(state: RiskState, name: str, at_ns: int, facts: str, *, strategy: str = "", symbol: str = "") -> None:
    """Opens a breaker. One that is open stays as it is, so that it is known since when; a cooldown begins anew."""
    breaker = BREAKERS[name]
    assert breaker.posture is not None, "what people stop is stopped by their event"
    until_ns = at_ns + limits_in_force(state).cooldown_ns if breaker.reset == "cooldown" else 0
    for index, one in enumerate(state.latches):
        if (one.breaker, one.strategy, one.symbol) == (name, strategy, symbol):
            if until_ns <= one.until_ns:
                return
            state.latches[index] = msgspec.structs.replace(one, until_ns=until_ns, facts=facts)
            return
    state.latches.append(
        Latch(
            breaker=name,
            posture=breaker.posture,
            reset=breaker.reset,
            since_ns=at_ns,
            strategy=strategy,
            symbol=symbol,
            until_ns=until_ns,
            facts=facts,
        )
    )


def trip_by_money(state: RiskState, at_ns: int) -> None:
    """Takes in a change of equity: a new peak, and the breakers that it opens."""
    state.equity = equity = equity_of(state)
    if equity is None:
        return
    state.peak_equity = max(state.peak_equity, equity)
    for breaker, strategy, value, limit in money_values(state, equity):
        _trip(state, breaker, strategy, value, limit, at_ns)


def trip_by_streak(state: RiskState, at_ns: int) -> None:
    for one in streak_measures(state):
        _trip(state, one.breaker, one.strategy, one.value, one.limit, at_ns)


def close_by_day(state: RiskState) -> None:
    state.latches = [one for one in state.latches if one.reset != "next_day"]


def lift(state: RiskState, authority: Authority, strategy: str, symbol: str) -> None:
    """Closes what this authority may close in exactly this scope. An operator who resumes after a drawdown says that today's
    equity is the new peak, and after a runaway that counting begins anew; or both would open again at once."""
    kept: list[Latch] = []
    for one in state.latches:
        if (one.reset, one.strategy, one.symbol) != (authority, strategy, symbol):
            kept.append(one)
        elif one.breaker == "drawdown":
            if state.equity is None:
                kept.append(one)  # no peak can be named while equity is not known
            else:
                state.peak_equity = max(state.equity, ZERO)
        elif one.breaker == "runaway":
            state.windows.pop(f"signals {worker_key(strategy, symbol)}", None)
    state.latches = kept


def _trip(state: RiskState, breaker: str, strategy: str, value: Decimal, limit: Decimal, at_ns: int) -> None:
    if value >= limit:
        latch(state, breaker, at_ns, f"{value:.6g} of {limit:.6g}", strategy=strategy)
