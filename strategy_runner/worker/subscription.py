"""A subscription: one stream of a worker, how its records become events, and which callback they go to."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from strategy_runner.model.event import Bar, Event, Prediction, Quote, Timer, Trade
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns


class Subscription:
    """`make(event_ns, v0 .. v4)` gives the event of a record, `callback` takes it.

    `is_market`: orders that the worker fills itself meet its records.
    """

    __slots__ = ("callback", "is_market", "kind", "make", "name", "stream")

    def __init__(
        self,
        stream: Stream,
        callback: Callable[[Any], None],
        make: Callable[..., Any] | None = None,
        *,
        is_market: bool = False,
    ) -> None:
        self.stream = stream
        self.name = stream.name
        self.kind = stream.kind
        self.callback = callback
        self.is_market = is_market
        self.make: Callable[..., Any] = make or _MAKERS[stream.kind](stream)

    def events(self, times: list[int], values: "npt.NDArray[np.float64]") -> Iterator[Any]:
        """As `make` for each of many records, with their values (v0 .. v5 a row); an event is made when it is asked for."""
        event = _MARKET_EVENTS.get(self.kind)
        if event is None:
            return map(self.make, times, *values.T[:5].tolist())
        made, named, numbers = event
        return map(made, *(repeat(getattr(self.stream, name)) for name in named), times, *values.T[:numbers].tolist())


def _make_trade(stream: Stream) -> Callable[..., Event]:
    symbol = stream.symbol
    return lambda event_ns, v0, v1, v2, v3, v4: Trade(symbol, event_ns, v0, v1, v2)


def _make_quote(stream: Stream) -> Callable[..., Event]:
    symbol = stream.symbol
    return lambda event_ns, v0, v1, v2, v3, v4: Quote(symbol, event_ns, v0, v1, v2, v3)


def _make_bar(stream: Stream) -> Callable[..., Event]:
    symbol, timeframe = stream.symbol, stream.timeframe
    return lambda event_ns, v0, v1, v2, v3, v4: Bar(symbol, timeframe, event_ns, v0, v1, v2, v3, v4)


def _make_prediction(stream: Stream) -> Callable[..., Event]:
    symbol, model, timeframe = stream.symbol, stream.model, stream.timeframe
    return lambda event_ns, v0, v1, v2, v3, v4: Prediction(symbol, model, timeframe, event_ns, v0, v1)


def _make_timer(stream: Stream) -> Callable[..., Event]:
    interval_ns = timeframe_ns(stream.timeframe)
    return lambda event_ns, v0, v1, v2, v3, v4: Timer(event_ns, interval_ns)


_MAKERS: dict[Kind, Callable[[Stream], Callable[..., Event]]] = {
    Kind.TRADE: _make_trade,
    Kind.QUOTE: _make_quote,
    Kind.BAR: _make_bar,
    Kind.PREDICTION: _make_prediction,
    Kind.CLOCK: _make_timer,
}

# what makes the events that come by the million, without a call of ours for each: its first arguments, and how many numbers
_MARKET_EVENTS: dict[Kind, tuple[Callable[..., Event], tuple[str, ...], int]] = {
    Kind.TRADE: (Trade, ("symbol",), 3),
    Kind.QUOTE: (Quote, ("symbol",), 4),
    Kind.BAR: (Bar, ("symbol", "timeframe"), 5),
}
