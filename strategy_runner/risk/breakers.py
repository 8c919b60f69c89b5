"""The circuit breakers: for each its formula, what it is measured by, how far it is from opening, and how it closes again.

A breaker that opens leaves a latch in the state. Measures are defined once, for what trips and for what people are shown.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal

import msgspec

from strategy_runner.risk.book import ZERO
from strategy_runner.risk.state import Latch, Posture, Reset, RiskState, equity_of, limits_in_force
from strategy_runner.risk.window import Window

Scope = Literal["client", "strategy", "symbol", "worker", "any"]


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """`refusal` is the reason of what is refused while it is open."""

    name: str
    refusal: str
    scope: Scope
    posture: Posture | None
    reset: Reset
    formula: str


BREAKERS: dict[str, Breaker] = {
    breaker.name: breaker
    for breaker in (
        Breaker(
            name="daily_loss",
            refusal="breaker_daily_loss",
            scope="client",
            posture=Posture.REDUCING,
            reset="next_day",
            formula="equity at the day's start - equity >= max_daily_loss",
        ),
        Breaker(
            name="strategy_daily_loss",
            refusal="breaker_strategy_daily_loss",
            scope="strategy",
            posture=Posture.REDUCING,
            reset="next_day",
            formula="the strategy's profit at the day's start - its profit >= its share of max_daily_loss",
        ),
        Breaker(
            name="drawdown",
            refusal="breaker_drawdown",
            scope="client",
            posture=Posture.REDUCING,
            reset="operator",
            formula="(highest equity - equity) / highest equity >= max_drawdown",
        ),
        Breaker(
            name="losing_trades",
            refusal="breaker_losing_trades",
            scope="strategy",
            posture=Posture.REDUCING,
            reset="next_day",
            formula="losing trades in a row >= max_losing_trades",
        ),
        Breaker(
            name="runaway",
            refusal="breaker_runaway",
            scope="worker",
            posture=Posture.HALTED,
            reset="operator",
            formula="signals within runaway_window_s > runaway_signals",
        ),
        Breaker(
            name="rejects",
            refusal="breaker_rejects",
            scope="symbol",
            posture=Posture.REDUCING,
            reset="cooldown",
            formula="rejected orders within rejects_window_s >= max_rejects",
        ),
        Breaker(
            name="operator",
            refusal="stopped_by_operator",
            scope="any",
            posture=None,
            reset="operator",
            formula="an operator stopped it",
        ),
        Breaker(
            name="reconciliation",
            refusal="not_reconciled",
            scope="any",
            posture=None,
            reset="reconciliation",
            formula="the OMS and this client disagree about orders or positions",
        ),
    )
}

RESETS: dict[Reset, str] = {
    "next_day": "by itself when the next trading day begins",
    "operator": "when an operator resumes it",
    "cooldown": "by itself after cooldown_s",
    "reconciliation": "when the difference is settled",
}

REASONS: dict[str, str] = {
    "breaker_daily_loss": "the client lost `max_daily_loss` since the day began; exits pass until the next day",
    "breaker_strategy_daily_loss": "the strategy lost its share of `max_daily_loss`; its exits pass until the next day",
    "breaker_drawdown": "equity fell by `max_drawdown` from its highest; exits pass until an operator resumes",
    "breaker_losing_trades": "`max_losing_trades` of the strategy in a row lost; its exits pass until the next day",
    "breaker_runaway": "more than `runaway_signals` of the worker; halted until an operator resumes, its stops stay in place",
    "breaker_rejects": "`max_rejects` orders of the symbol were rejected; exits pass, and all after `cooldown_s`",
    "stopped_by_operator": "an operator stopped the client, the strategy, the symbol or the worker",
    "not_reconciled": "the OMS and the client disagree about orders or positions",
}


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker in one scope, before any latch: it opens when `value` reaches `limit`."""

    breaker: str
    value: Decimal
    limit: Decimal
    strategy: str = ""
    symbol: str = ""

    @property
    def distance(self) -> Decimal:
        """How much is left before it opens."""
        return max(self.limit - self.value, ZERO)


def money_values(state: RiskState, equity: Decimal) -> Iterator[tuple[str, str, Decimal, Decimal]]:
    """(breaker, strategy, value, limit) of all that a change of profit can trip, while every gain is known."""
    limits = limits_in_force(state)
    if limits.max_daily_loss is not None:
        yield "daily_loss", "", state.day_start_equity - equity, limits.max_daily_loss
        for strategy, profit in state.totals.gains.items():
            lost = state.profits_at_day_start.get(strategy, ZERO) - profit
            yield "strategy_daily_loss", strategy, lost, limits.share(strategy) * limits.max_daily_loss
    if limits.max_drawdown is not None and state.peak_equity > 0:
        peak = max(state.peak_equity, equity)
        yield "drawdown", "", (peak - equity) / peak, limits.max_drawdown


def streak_measures(state: RiskState) -> Iterator[Measure]:
    limit = limits_in_force(state).max_losing_trades
    if limit is not None:
        for strategy, losses in state.losses_in_a_row.items():
            yield Measure(breaker="losing_trades", value=Decimal(losses), limit=Decimal(limit), strategy=strategy)


def count_measures(state: RiskState, now_ns: int) -> Iterator[Measure]:
    """Runaway and rejects, by what has been counted so far."""
    limits = limits_in_force(state)
    for name, window in state.windows.items():
        what, _, whose = name.partition(" ")
        if what == "signals" and limits.runaway is not None:
            strategy, _, symbol = whose.partition("/")
            value, limit = _used(window, limits.runaway.span_ns, now_ns), Decimal(limits.runaway.count + 1)
            yield Measure(breaker="runaway", value=value, limit=limit, strategy=strategy, symbol=symbol)
        elif what == "rejects" and limits.rejects is not None:
            value, limit = _used(window, limits.rejects.span_ns, now_ns), Decimal(limits.rejects.count)
            yield Measure(breaker="rejects", value=value, limit=limit, symbol=whose)


def measures(state: RiskState, now_ns: int) -> list[Measure]:
    """Everything that is measured, for people to see. What depends on an unknown equity is left out."""
    equity = equity_of(state)
    money = [
        Measure(breaker=breaker, value=value, limit=limit, strategy=strategy)
        for breaker, strategy, value, limit in (() if equity is None else money_values(state, equity))
    ]
    return [*money, *streak_measures(state), *count_measures(state, now_ns)]


# -- what is open ------------------------------------------------------------------------------------------------------


def stopping(state: RiskState, strategy: str, symbol: str, now_ns: int) -> Latch | None:
    """What stops a worker now; None when it is ACTIVE."""
    return strictest((one for one in state.latches if not has_cooled(one, now_ns)), strategy, symbol)


def strictest(latches: Iterable[Latch], strategy: str, symbol: str) -> Latch | None:
    """Of those that cover a worker, the oldest if several are as strict; None if nothing stops it."""
    covering = [one for one in latches if one.covers(strategy, symbol)]
    return max(covering, key=lambda one: one.posture is Posture.HALTED, default=None)


def entries_to_cancel(state: RiskState, now_ns: int) -> dict[str, str]:
    """By client order id, working entries that a latch covers, with the reason: stopped means that they must not be filled any
    more either. Where the OMS is not agreed with nobody knows what an order is, and none is touched."""
    latches = [one for one in state.latches if one.reset != "reconciliation" and not has_cooled(one, now_ns)]
    if not latches:
        return {}
    found: dict[str, str] = {}
    for order_id, order in state.orders.items():
        if order.is_entry:
            latch = next((one for one in latches if one.covers(order.strategy, order.symbol)), None)
            if latch is not None:
                found[order_id] = BREAKERS[latch.breaker].refusal
    return found


def has_cooled(latch: Latch, now_ns: int) -> bool:
    return latch.reset == "cooldown" and latch.until_ns <= now_ns


def _used(window: Window, span_ns: int, now_ns: int) -> Decimal:
    return Decimal(window.used(span_ns, now_ns))
