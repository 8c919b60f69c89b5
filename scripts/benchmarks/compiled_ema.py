"""EMA of bars, compiled: the client's own strategy of the benchmark. Each mean needs the one before: numpy cannot make them."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Bars, Candidates, Inputs, Strategy

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]
ALPHA = 2.0 / 101.0
BAND = 0.001


class CompiledEma(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self._mean = float("nan")

    def on_bar(self, bar: Bar) -> None:
        close, mean = bar.close, self._mean
        if mean != mean:
            mean = close
        self._mean = mean = mean + ALPHA * (close - mean)
        if self.position == 0.0:
            if close > mean * (1.0 + BAND):
                self.buy("above its mean")
        elif close < mean * (1.0 - BAND):
            self.close("below its mean")

    def on_bars(self, bars: Bars) -> Candidates:
        above, below = np.zeros(len(bars.close), np.bool_), np.zeros(len(bars.close), np.bool_)
        self._mean = follow(bars.close, self._mean, above, below)

        def speak(at: int) -> None:
            if self.position == 0.0:
                self.buy("above its mean")
            else:
                self.close("below its mean")

        return Candidates(speak, flat=above, long=below)


def _follow(closes: Floats, mean: float, above: Masks, below: Masks) -> float:
    """The same operations in the same order as in `on_bar`; returns the last mean."""
    for at in range(len(closes)):
        close = closes[at]
        if mean != mean:
            mean = close
        mean = mean + ALPHA * (close - mean)
        above[at], below[at] = close > mean * (1.0 + BAND), close < mean * (1.0 - BAND)
    return mean


follow: Any = numba.njit(_follow)
