"""The one way a risk state changes: `apply` takes an event in. The same events in the same order make an equal state.

It changes the state in place, since ten thousand signals a second would spend their time on copies; nobody else does.

Events bear the wall clock, which may be set back. Then all that is counted by time moves back with it: a moment that lies ahead
would count until the clock has come to it again, and stop exits and halt workers meanwhile.
"""

import typing
from collections.abc import Callable

import msgspec

from strategy_runner.risk import events, flow, money
from strategy_runner.risk.breakers import has_cooled
from strategy_runner.risk.latching import lift, trip_by_money
from strategy_runner.risk.state import Latch, Posture, RiskState

STEP_NS = 1_000_000_000  # events of two threads may come in a little behind one another


def apply(state: RiskState, event: events.RiskEvent) -> None:
    """Raises StateError for what cannot be counted: money or a fill that is no number, or of an instrument nobody knows."""
    if event.at_ns < state.at_ns - STEP_NS:
        _move_back(state, state.at_ns - event.at_ns)
    state.at_ns = max(state.at_ns, event.at_ns)
    if state.latches:
        state.latches = [latch for latch in state.latches if not has_cooled(latch, event.at_ns)]
    _TRANSITIONS[type(event)](state, event)
    state.number += 1


def _move_back(state: RiskState, by_ns: int) -> None:
    state.at_ns -= by_ns
    for window in state.windows.values():
        window.move_back(by_ns)
    state.recent = {name: at_ns - by_ns for name, at_ns in state.recent.items()}
    state.latches = [
        msgspec.structs.replace(one, until_ns=one.until_ns - by_ns) if one.until_ns else one for one in state.latches
    ]


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
