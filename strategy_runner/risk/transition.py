"""The one way a risk state changes: `apply` takes an event in. The same events in the same order make an equal state.

It changes the state in place, since ten thousand signals a second would spend their time on copies; nobody else does.
"""

import typing
from collections.abc import Callable

from strategy_runner.risk import events, flow, money
from strategy_runner.risk.breakers import has_cooled
from strategy_runner.risk.latching import lift, trip_by_money
from strategy_runner.risk.state import Latch, Posture, RiskState


def apply(state: RiskState, event: events.RiskEvent) -> None:
    """Raises StateError for what cannot be counted: money or a fill that is no number, or of an instrument nobody knows."""
    if state.latches:
        state.latches = [latch for latch in state.latches if not has_cooled(latch, event.at_ns)]
    _TRANSITIONS[type(event)](state, event)
    state.number += 1


def _stopped(state: RiskState, event: events.Stopped) -> None:
    """The newest word of an authority over a scope is the one that counts."""
    state.acted = max(state.acted, event.action)
    same = (event.authority, event.strategy, event.symbol)
    state.latches = [one for one in state.latches if (one.breaker, one.strategy, one.symbol) != same]
    stopped = Latch(
        breaker=event.authority,
        posture=Posture(event.posture),
        reset=event.authority,
        since_ns=event.at_ns,
        strategy=event.strategy,
        symbol=event.symbol,
        facts=event.reason,
    )
    state.latches.append(stopped)


def _resumed(state: RiskState, event: events.Resumed) -> None:
    state.acted = max(state.acted, event.action)
    lift(state, event.authority, event.strategy, event.symbol)
    trip_by_money(state, event.at_ns)


_TRANSITIONS: dict[type, Callable[[RiskState, typing.Any], None]] = {
    events.Configured: money.configured,
    events.CashMoved: money.cash_moved,
    events.Rated: money.rated,
    events.Marked: money.marked,
    events.Filled: money.filled,
    events.Paid: money.paid,
    events.Signalled: flow.signalled,
    events.Ordered: flow.ordered,
    events.Changed: flow.changed,
    events.Reported: flow.reported,
    events.DayRolled: money.day_rolled,
    events.Stopped: _stopped,
    events.Resumed: _resumed,
}
