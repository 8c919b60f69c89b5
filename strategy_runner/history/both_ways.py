"""Bars taken both ways: at once by a strategy's `on_bars` and one by one by its `on_bar`, and refused where they differ.

The first bars of every run that takes them at once go both ways, in runs of odd lengths, so that what `on_bars` keeps from one
run to the next is tried as well. Nothing reaches a log before it was compared.
"""

from collections.abc import Iterator
from itertools import cycle, zip_longest
from typing import NamedTuple

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import DivergenceError
from strategy_runner.history.difference import field_differences
from strategy_runner.model.event import Bar
from strategy_runner.model.private import decode_private
from strategy_runner.model.signal import SignalBody, canonical
from strategy_runner.strategies.interface import Bars, Strategy
from strategy_runner.worker.machine import Machine
from strategy_runner.worker.subscription import Subscription
from strategy_runner.worker.vectorised import apply_bars

_RUNS_BARS = (1, 2, 61, 700, 4_000)


class Signal(NamedTuple):
    n: int
    body: SignalBody
    seq: int


class Came:
    """What one of the two ways gave, not yet compared."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.fills: list[bytes] = []

    def record(self, n: int, body: SignalBody, seq: int) -> None:
        self.signals.append(Signal(n, body, seq))


class BothWays:
    """`machine` takes bars at once, and `came` is what it records and keeps; a twin of it takes the same bars one by one."""

    def __init__(self, spec: WorkerSpec, machine: Machine, came: Came, twin: Strategy) -> None:
        self._machine = machine
        self._came = came
        self._expected = Came()
        self._twin = Machine(spec, twin, self._expected.record, keep=self._expected.fills.append)
        self._twin.start()
        self._runs = cycle(_RUNS_BARS)

    def apply(self, subscription: Subscription, first_ordinal: int, bars: Bars) -> Iterator[Came]:
        """Gives what came of the bars, piece by piece, each as soon as both ways agree on it. Raises DivergenceError."""
        begun, count = 0, len(bars.event_ns)
        while begun < count:
            end = min(count, begun + next(self._runs))
            some = bars.part(begun, end)
            apply_bars(self._machine, subscription, first_ordinal + begun, some)
            self._apply_one_by_one(first_ordinal + begun, some)
            self._compare()
            yield self._came
            for came in (self._came, self._expected):
                came.signals.clear()
                came.fills.clear()
            begun = end

    def _apply_one_by_one(self, first_ordinal: int, bars: Bars) -> None:
        (subscription,) = self._twin.subscriptions
        stream, columns = subscription.stream, [column.tolist() for column in bars]
        events = (Bar(stream.symbol, stream.timeframe, *row) for row in zip(*columns, strict=True))
        self._twin.apply_block(subscription, first_ordinal, events)

    def _compare(self) -> None:
        for found, expected in zip_longest(self._came.signals, self._expected.signals):
            if expected is None or (found is not None and _ordinal(found) < _ordinal(expected)):
                raise DivergenceError(f"{_place(found)}: on_bars: expected nothing here, as of on_bar, found a signal")
            if found is None or _ordinal(expected) < _ordinal(found):
                raise DivergenceError(f"{_place(expected)}: on_bars: expected a signal here, as of on_bar, found none")
            made, right = canonical(found.body), canonical(expected.body)
            if made != right:
                first = field_differences(made, right)[0]
                word = f"expected {first.recorded}, as of on_bar, found {first.derived}"
                raise DivergenceError(f"{_place(expected)}: on_bars: {first.path}: {word}")
        for made_fill, right_fill in zip_longest(self._came.fills, self._expected.fills):
            if made_fill != right_fill:
                entry = decode_private(right_fill or made_fill)
                raise DivergenceError(
                    f"fill {entry.number}, of {entry.signal_id}: expected it as of on_bar, found another"
                )


def _ordinal(signal: Signal) -> int:
    return signal.body.cause.ordinal


def _place(signal: Signal) -> str:
    return f"signal {signal.n}: {signal.body.cause.stream} ordinal {signal.body.cause.ordinal}"
