"""Derivation: from one symbol's raw records to all its streams, in the one order that every mode sees.

A symbol's *base* series (trades, quotes or bars) drives its clock, its bars and its predictions. For a base record at time
t, in this order: what fell due before t (bars that closed, each followed by its predictions, and clock ticks, by time),
then the record itself, then bars that it completes. Ticks that a pause skipped are one tick. Nothing here depends on
which other symbols or streams anybody wants, so a worker that reads history alone sees what the tape would hold.

A timeframe whose first record lies within an interval says nothing of that interval: nobody knows what was before, and half of
a bar would pass for a whole one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from strategy_runner.feed.bars import NONE_OPEN, BarBuilder, ClosedBar
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, quotes, trades
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.predictions.mock_model import MockModel

Handle = Any
Emit = Callable[[Handle, int, float, float, float, float, float], None]

NAN = float("nan")
_NEVER = 1 << 62
_AT_ONCE = -1 << 63
ALWAYS_KNOWN = -1 << 63


class DerivationState(msgspec.Struct, frozen=True):
    """By timeframe: open bars, next clock ticks, and since when its records are known; by model and timeframe: the closes that a
    model remembers."""

    bars: dict[str, tuple[int, float, float, float, float, float]]
    closes: dict[str, list[float]]
    ticks: dict[str, int]
    known: dict[str, int] = {}


class _Model(NamedTuple):
    handle: Handle
    model: MockModel


class _Timeframe:
    """One timeframe's bars: the builder (None when the base series has them ready), and what listens to them.

    `known_ns` is when the first record came, _NEVER before it."""

    __slots__ = ("builder", "handle", "interval_ns", "known_ns", "models", "timeframe")

    def __init__(self, timeframe: str, builder: BarBuilder | None, known_ns: int) -> None:
        self.timeframe = timeframe
        self.interval_ns = timeframe_ns(timeframe)
        self.builder = builder
        self.known_ns = known_ns
        self.handle: Handle | None = None
        self.models: list[_Model] = []


class _Clock:
    """`next_ns` is its next tick, 0 before the first record; one at 1970-01-01T00:00 is -1, between which and 0 none falls."""

    __slots__ = ("handle", "interval_ns", "next_ns")

    def __init__(self, handle: Handle, interval_ns: int) -> None:
        self.handle = handle
        self.interval_ns = interval_ns
        self.next_ns = 0


class Derivation:
    """State of one symbol. `handles` says which streams are wanted and what `emit` takes for them; others are not made.

    `known_ns` is since when all records of the base series are known, for what is wanted from the beginning: their first if it is
    None."""

    def __init__(
        self, base: Stream, handles: Mapping[Stream, Handle], *, emit: Emit, seed: int, known_ns: int | None = None
    ) -> None:
        symbol = base.symbol
        self.base = base
        self.emit = emit
        self._from_trades = base.kind is Kind.TRADE
        self._from_quotes = base.kind is Kind.QUOTE
        self._seed = seed
        self._known_ns = _NEVER if known_ns is None else known_ns
        self._trade: Handle | None = None
        self._quote: Handle | None = None
        self._timeframes: dict[str, _Timeframe] = {}
        self._clocks: dict[str, _Clock] = {}
        self._next_due = _NEVER
        self._symbol = symbol
        self.want(handles)
        self._known_ns = _NEVER  # of a timeframe that is wanted later, its own first record

    def want(self, handles: Mapping[Stream, Handle]) -> None:
        """Adds streams from now on. Raises ValueError for a stream that this base series cannot give."""
        for stream in sorted(handles):
            handle = handles[stream]
            assert stream.symbol == self._symbol, stream
            if stream == trades(self._symbol):
                self._trade = handle
            elif stream == quotes(self._symbol):
                self._quote = handle
            elif stream.kind is Kind.BAR:
                self._timeframe(stream.timeframe).handle = handle
            elif stream.kind is Kind.PREDICTION:
                models = self._timeframe(stream.timeframe).models
                model = MockModel(self._seed, stream.model, self._symbol, stream.timeframe)
                models.append(_Model(handle, model))
                models.sort(key=_model_name)
            elif stream.kind is Kind.CLOCK:
                self._clocks[stream.timeframe] = _Clock(handle, timeframe_ns(stream.timeframe))
        self._clocks = dict(sorted(self._clocks.items()))  # one order, however early each was wanted
        self._next_due = _AT_ONCE

    def trade(self, event_ns: int, price: float, size: float, side: float) -> None:
        if self._from_trades:
            if event_ns >= self._next_due:
                self._pass_time(event_ns)
            if self._trade is not None:
                self.emit(self._trade, event_ns, price, size, side, NAN, NAN)
            self._add(event_ns, price, size)
        elif self._trade is not None:
            self.emit(self._trade, event_ns, price, size, side, NAN, NAN)

    def quote(self, event_ns: int, bid: float, ask: float, bid_size: float, ask_size: float) -> None:
        if self._from_quotes:
            if event_ns >= self._next_due:
                self._pass_time(event_ns)
            if self._quote is not None:
                self.emit(self._quote, event_ns, bid, ask, bid_size, ask_size, NAN)
            self._add(event_ns, (bid + ask) / 2.0, NAN)
        elif self._quote is not None:
            self.emit(self._quote, event_ns, bid, ask, bid_size, ask_size, NAN)

    def bar(self, event_ns: int, open_: float, high: float, low: float, close: float, volume: float) -> None:
        """A bar of the base series that closed at `event_ns`."""
        assert self.base.kind is Kind.BAR, self.base
        # the bar belongs to the intervals before its close, so intervals end only strictly before that moment
        if event_ns - 1 >= self._next_due:
            self._pass_time(event_ns - 1)
        for timeframe in self._timeframes.values():
            builder = timeframe.builder
            if builder is None:
                self._close(timeframe, ClosedBar(event_ns, open_, high, low, close, volume))
            else:
                if timeframe.known_ns == _NEVER:
                    timeframe.known_ns = event_ns - timeframe_ns(self.base.timeframe)
                builder.add_bar(event_ns, open_, high, low, close, volume)
                if builder.end_ns < self._next_due:
                    self._next_due = builder.end_ns
        if event_ns >= self._next_due:
            self._pass_time(event_ns)

    def state(self) -> DerivationState:
        """Everything remembered, for a checkpoint."""
        return DerivationState(
            bars={name: t.builder.state() for name, t in self._timeframes.items() if t.builder is not None},
            closes={
                f"{m.model.name}.{name}": [*m.model.closes] for name, t in self._timeframes.items() for m in t.models
            },
            ticks={name: clock.next_ns for name, clock in self._clocks.items()},
            known={name: t.known_ns for name, t in self._timeframes.items()},
        )

    def restore(self, state: DerivationState) -> None:
        for name, timeframe in self._timeframes.items():
            if timeframe.builder is not None and name in state.bars:
                timeframe.builder.restore(state.bars[name])
                timeframe.known_ns = state.known.get(name, ALWAYS_KNOWN)
            for model in timeframe.models:
                model.model.closes = list(state.closes.get(f"{model.model.name}.{name}", ()))
        for name, clock in self._clocks.items():
            clock.next_ns = state.ticks.get(name, 0)
        self._next_due = _AT_ONCE

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _timeframe(self, name: str) -> _Timeframe:
        known = self._timeframes.get(name)
        if known is not None:
            return known
        builder: BarBuilder | None = BarBuilder(name)
        if self.base.kind is Kind.BAR:
            base_ns = timeframe_ns(self.base.timeframe)
            if timeframe_ns(name) % base_ns:
                raise ValueError(
                    f"{self._symbol}: expected a multiple of the recorded {self.base.timeframe} bars, found {name}"
                )
            if timeframe_ns(name) == base_ns:
                builder = None
        added = _Timeframe(name, builder, self._known_ns)
        self._timeframes[name] = added
        self._timeframes = dict(sorted(self._timeframes.items(), key=lambda item: (timeframe_ns(item[0]), item[0])))
        return added

    def _add(self, event_ns: int, price: float, size: float) -> None:
        for timeframe in self._timeframes.values():
            builder = timeframe.builder
            assert builder is not None
            opens = builder.end_ns == NONE_OPEN
            builder.add(event_ns, price, size)
            if opens:
                if timeframe.known_ns == _NEVER:
                    timeframe.known_ns = event_ns
                if builder.end_ns < self._next_due:
                    self._next_due = builder.end_ns

    def _pass_time(self, now_ns: int) -> None:
        """Emits everything that fell due up to `now_ns`, by time; at one moment bars come before clock ticks."""
        due: list[tuple[int, int, int, Any]] = []
        for rank, timeframe in enumerate(self._timeframes.values()):
            closed = timeframe.builder.due(now_ns) if timeframe.builder is not None else None
            if closed is not None and closed.event_ns - timeframe.interval_ns >= timeframe.known_ns:
                due.append((closed.event_ns, 0, rank, (timeframe, closed)))
        for rank, clock in enumerate(self._clocks.values()):
            tick_ns = now_ns // clock.interval_ns * clock.interval_ns
            if clock.next_ns == 0 or tick_ns >= clock.next_ns:
                if clock.next_ns:
                    due.append((tick_ns, 1, rank, clock))
                clock.next_ns = tick_ns + clock.interval_ns or -1
        due.sort(key=_due_order)
        for event_ns, is_clock, _, what in due:
            if is_clock:
                self.emit(what.handle, event_ns, NAN, NAN, NAN, NAN, NAN)
            else:
                self._close(*what)
        ends = [t.builder.end_ns for t in self._timeframes.values() if t.builder is not None]
        self._next_due = min([*ends, *(clock.next_ns for clock in self._clocks.values()), _NEVER])

    def _close(self, timeframe: _Timeframe, closed: ClosedBar) -> None:
        if timeframe.handle is not None:
            self.emit(timeframe.handle, *closed)
        for handle, model in timeframe.models:
            score, confidence = model.predict(closed.event_ns, closed.close)
            self.emit(handle, closed.event_ns, score, confidence, NAN, NAN, NAN)


def handles_by_symbol(handles: Mapping[Stream, Handle]) -> dict[str, dict[Stream, Handle]]:
    """The wall clock (symbol "") left out: no symbol drives it."""
    found: dict[str, dict[Stream, Handle]] = {}
    for stream, handle in handles.items():
        if stream.symbol:
            found.setdefault(stream.symbol, {})[stream] = handle
    return found


def _due_order(entry: tuple[int, int, int, Any]) -> tuple[int, int, int]:
    return entry[:3]


def _model_name(model: _Model) -> str:
    return model.model.name
