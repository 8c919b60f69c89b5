"""Moving average crossover: be long while the fast mean of closes stands above the slow one, else be flat.

Flat and fast above slow: buy. Long and fast below slow: close; equal means change nothing.
The idea: Brock, Lakonishok, LeBaron, "Simple Technical Trading Rules", Journal of Finance 47 (1992).
"""

from math import fsum, nan
from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar
from strategy_runner.strategies.indicators import NOISE, strength
from strategy_runner.strategies.interface import Inputs, Params, Strategy

FULL_STRENGTH = 0.01  # means this fraction of the price apart are a signal of strength 1


class MovingAverageCrossoverParams(Params, frozen=True):
    fast: Annotated[int, Meta(ge=1, le=10_000)] = 20
    slow: Annotated[int, Meta(ge=2, le=10_000)] = 50

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast: expected less than slow ({self.slow}), found {self.fast}")


class MovingAverageCrossover(Strategy):
    Params = MovingAverageCrossoverParams
    inputs = Inputs(bars=True)
    params: MovingAverageCrossoverParams

    def on_start(self) -> None:
        self._fast, self._slow = self.params.fast, self.params.slow
        self._fast_bars, self._slow_bars = (
            float(self._fast),
            float(self._slow),
        )  # float times float is Python's fast path
        self._closes = [0.0] * self._slow  # a ring; `_at` is the oldest close and the place of the next one
        self._at = 0
        self._gap = (
            nan  # (fast mean - slow mean) * fast * slow; NaN, that no comparison holds for, until the ring is full
        )

    def on_bar(self, bar: Bar) -> None:
        # The path of every bar, kept under half a microsecond: one list, one index, one rolling number.
        close = bar.close
        if close - close != 0.0:  # NaN or infinite: a missing price must not enter the means
            return
        closes, at = self._closes, self._at
        gap = self._gap + self._slow_bars * (close - closes[at - self._fast]) - self._fast_bars * (close - closes[at])
        closes[at] = close
        at += 1
        if at == self._slow:
            at, gap = 0, self._gap_afresh()
        self._at = at
        self._gap = gap
        if gap > 0.0:
            if self.position == 0.0:
                self._speak()
        elif gap < 0.0 and self.position > 0.0:
            self._speak()

    def _gap_afresh(self) -> float:
        """The gap from the closes themselves, once every `slow` bars: rounding cannot add up."""
        return self._slow * fsum(self._closes[-self._fast :]) - self._fast * fsum(self._closes)

    def _speak(self) -> None:
        at, closes = self._at, self._closes
        newest = closes[at - self._fast : at] if at >= self._fast else closes[at - self._fast :] + closes[:at]
        fast, slow = fsum(newest) / self._fast, fsum(closes) / self._slow
        if abs(fast - slow) <= NOISE * abs(slow):  # equal, but for rounding
            return
        if fast > slow:
            wish = strength(fast - slow, FULL_STRENGTH * abs(slow))
            self.buy(f"fast {fast:.10g} is above slow {slow:.10g}", strength=wish)
        else:
            self.close(f"fast {fast:.10g} is below slow {slow:.10g}")
