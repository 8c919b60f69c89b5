"""Time bars, built once: from trades, from quotes (mid prices, no volume), or from smaller bars.

A bar covers [close - timeframe, close), with intervals counted from the epoch. It closes by event, never by wall clock:
when the first record at or after its end arrives, or with the last of the smaller bars that it is made of. An interval
without a record has no bar.
"""

from typing import NamedTuple

from strategy_runner.model.timeframe import timeframe_ns

NONE_OPEN = (1 << 63) - 1  # an end that no time reaches


class ClosedBar(NamedTuple):
    event_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class BarBuilder:
    """Builds the bars of one symbol and timeframe. `end_ns` is the close of the open bar, NONE_OPEN while none is."""

    __slots__ = ("_close", "_high", "_low", "_open", "_volume", "end_ns", "interval_ns")

    def __init__(self, timeframe: str) -> None:
        self.interval_ns = timeframe_ns(timeframe)
        self.end_ns = NONE_OPEN
        self._open = self._high = self._low = self._close = self._volume = 0.0

    def due(self, now_ns: int) -> ClosedBar | None:
        """The open bar, if a record at `now_ns` lies behind it; it is then closed."""
        if now_ns < self.end_ns:
            return None
        closed = ClosedBar(self.end_ns, self._open, self._high, self._low, self._close, self._volume)
        self.end_ns = NONE_OPEN
        return closed

    def add(self, event_ns: int, price: float, size: float) -> None:
        """A trade, or a quote's mid with size NaN; `due` was asked for the same time before."""
        if self.end_ns != NONE_OPEN:
            if price > self._high:
                self._high = price
            elif price < self._low:
                self._low = price
            self._close = price
            self._volume += size
        else:
            self.end_ns = (event_ns // self.interval_ns + 1) * self.interval_ns
            self._open = self._high = self._low = self._close = price
            self._volume = size

    def add_bar(self, event_ns: int, open_: float, high: float, low: float, close: float, volume: float) -> None:
        """A smaller bar that closed at `event_ns`; `due` was asked for the moment before its close."""
        if self.end_ns != NONE_OPEN:
            self._high = max(self._high, high)
            self._low = min(self._low, low)
            self._close = close
            self._volume += volume
        else:
            self.end_ns = -(-event_ns // self.interval_ns) * self.interval_ns
            self._open, self._high, self._low, self._close, self._volume = open_, high, low, close, volume

    def state(self) -> tuple[int, float, float, float, float, float]:
        """The open bar, for a checkpoint. There an end of 0 says that none is open, so a bar that ends at 1970-01-01T00:00 has
        one of -1, which is no bar's."""
        end_ns = 0 if self.end_ns == NONE_OPEN else self.end_ns or -1
        return end_ns, self._open, self._high, self._low, self._close, self._volume

    def restore(self, state: tuple[int, float, float, float, float, float]) -> None:
        end_ns, self._open, self._high, self._low, self._close, self._volume = state
        self.end_ns = -(-end_ns // self.interval_ns) * self.interval_ns if end_ns else NONE_OPEN
