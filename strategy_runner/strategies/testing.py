"""A bench for strategies: feed events, get what was asked for. A strategy's test is three lines.

    Breakout = load_beside(__file__, "breakout")
    proposals = run(Breakout, bars(100, 101, 99), lookback_bars=2)
    assert [proposal.action for proposal in proposals] == ["buy"]

It plays the worker's part without its pipeline: every proposal is taken as accepted, so `position` follows them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from strategy_runner.model.event import Bar, Event, Fill, OrderUpdate, Position, Prediction, Quote, Timer, Trade
from strategy_runner.model.position_sum import moved
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.strategies.interface import Proposal, Strategy
from strategy_runner.strategies.params import build_params
from strategy_runner.strategies.registry import load
from strategy_runner.strategies.strategy_state import dumps, kept_by

SYMBOL = "TEST"
BenchEvent = Event | Fill | Position | OrderUpdate
START_NS = 1_767_571_200_000_000_000  # 2026-01-05T00:00:00Z
_CALLBACKS = {
    Trade: "on_trade",
    Quote: "on_quote",
    Bar: "on_bar",
    Prediction: "on_prediction",
    Timer: "on_timer",
    Fill: "on_fill",
    Position: "on_position",
    OrderUpdate: "on_order",
}


class _Given:
    """The predictions that a strategy was fed, all of them."""

    def __init__(self) -> None:
        self.by_model: dict[str, list[Prediction]] = {}

    def __call__(self, model: str) -> tuple[Prediction, ...]:
        return tuple(self.by_model.get(model, ()))


def run(strategy_class: type[Strategy], events: Iterable[BenchEvent], **params: Any) -> list[Proposal]:
    """All proposals of a strategy over events, given in the order of a tape. A proposal without a size counts as 1.

    The strategy's symbol is that of the first event that has one, its timeframe that of the first bar or prediction
    (else 1m). Raises ConfigurationError if params are wrong, StrategyError if what the strategy keeps in `self` would not
    outlive a restart, and whatever the strategy raises.
    """
    events = list(events)
    symbol = next((event.symbol for event in events if not isinstance(event, Timer)), SYMBOL)
    timeframe = next((event.timeframe for event in events if isinstance(event, Bar | Prediction)), "1m")
    typed = build_params(strategy_class, params, strategy_class.__name__)
    strategy = strategy_class(typed, symbol=symbol, timeframe=timeframe)
    strategy.on_start()
    proposals: list[Proposal] = []
    for event in events:
        proposals += feed(strategy, event)
    dumps(kept_by(strategy), strategy)
    strategy.on_stop()
    return proposals


def feed(strategy: Strategy, event: BenchEvent) -> list[Proposal]:
    """The proposals of one event; the strategy's position follows them."""
    strategy.now_ns = event.event_ns
    if isinstance(event, Prediction):
        given = strategy._predictions_of if isinstance(strategy._predictions_of, _Given) else _Given()
        given.by_model.setdefault(event.model, []).append(event)
        strategy._predictions_of = given
    getattr(strategy, _CALLBACKS[type(event)])(event)
    proposals = strategy._proposals[:]
    strategy._proposals.clear()
    for proposal in proposals:
        strategy.position = _position_after(strategy.position, proposal)
    return proposals


def bars(*closes: float, symbol: str = SYMBOL, timeframe: str = "1m", start_ns: int = START_NS) -> list[Bar]:
    """Bars of these closes, one after the other; each opens at the close before it and goes no further than both."""
    step_ns = timeframe_ns(timeframe)
    made = []
    for number, (before, close) in enumerate(zip((closes[:1] + closes), closes, strict=False), 1):
        high, low = max(before, close), min(before, close)
        made.append(Bar(symbol, timeframe, start_ns + number * step_ns, before, high, low, close, 1.0))
    return made


def load_beside(test_file: str, name: str) -> type[Strategy]:
    """The strategy of a name in the file NAME.py beside a test, as a worker would load it. Raises ConfigurationError."""
    return load(name, str(Path(test_file).absolute().with_name(f"{name.replace('-', '_')}.py")))


def _position_after(position: float, proposal: Proposal) -> float:
    size = 1.0 if proposal.size is None else proposal.size
    match proposal.action:
        case "buy":
            return moved(position, size)
        case "sell":
            return moved(position, -size)
        case "close":
            closed = abs(position) if proposal.size is None else min(size, abs(position))
            return moved(position, -closed if position > 0.0 else closed)
        case _:
            return position
