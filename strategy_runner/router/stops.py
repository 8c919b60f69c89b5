"""Stops: what keeps a client's workers from trading, as the router's files tell it to everybody else.

With a route to an OMS it is the risk state, as last noted. Without one there is no risk state, and the operator log alone says
what is stopped. What was asked since, or while no router ran, is counted in: it holds for the router that comes.
"""

from collections.abc import Sequence
from pathlib import Path

from strategy_runner.risk.state import Latch, Posture
from strategy_runner.router.operator_log import Action, read_actions
from strategy_runner.router.risk_record import read_risk


def stops_after(latches: Sequence[Latch], action: Action) -> list[Latch]:
    """The newest word over a scope counts; a resume lifts what an operator may lift in exactly its scope."""
    asked = action.request
    scope = asked.strategy, asked.symbol
    if asked.verb == "halt":
        kept = [one for one in latches if (one.breaker, one.strategy, one.symbol) != ("operator", *scope)]
        return [*kept, _halted(action)]
    if asked.verb == "resume":
        return [one for one in latches if (one.reset, one.strategy, one.symbol) != ("operator", *scope)]
    return list(latches)


def read_stops(folder: Path, client: str, mode: str) -> tuple[Latch, ...]:
    """`folder` is that of the client's run. Raises StateError."""
    state = read_risk(folder / "router", client, mode)
    taken = state.acted if state is not None else 0
    latches = list(state.latches) if state is not None else []
    for action in read_actions(folder):
        if action.number > taken:
            latches = stops_after(latches, action)
    return tuple(latches)


def told(latch: Latch) -> str:
    """Why it stops, in one line."""
    name = "stopped by an operator" if latch.breaker == "operator" else f"breaker {latch.breaker}"
    return f"{name}: {latch.facts}" if latch.facts else name


def _halted(action: Action) -> Latch:
    asked = action.request
    return Latch(
        breaker="operator",
        posture=Posture.HALTED if asked.is_hard else Posture.REDUCING,
        reset="operator",
        since_ns=action.at_ns,
        strategy=asked.strategy,
        symbol=asked.symbol,
        facts=asked.reason,
    )
