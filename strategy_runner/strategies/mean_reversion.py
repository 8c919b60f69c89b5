"""Mean reversion: expect a price far from its recent mean to come back to it.

Flat and the close `entry_z` standard deviations below (above) the mean of the last `window` closes: buy (sell). Closes
when the distance is down to `exit_z` or the price has gone past the mean. The idea: John Bollinger, "Bollinger on
Bollinger Bands" (2001); as z-scores in Ernest Chan, "Algorithmic Trading" (2013).
"""

from math import isfinite, sqrt
from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar
from strategy_runner.strategies.indicators import NOISE, RollingMoments, strength
from strategy_runner.strategies.interface import Inputs, Params, Strategy

FULL_STRENGTH = 2.0  # a z-score of this many times `entry_z` is a signal of strength 1


class MeanReversionParams(Params, frozen=True):
    window: Annotated[int, Meta(ge=3, le=10_000)] = 20
    entry_z: Annotated[float, Meta(gt=0.0)] = 2.0
    exit_z: Annotated[float, Meta(ge=0.0)] = 0.5

    def __post_init__(self) -> None:
        if self.exit_z >= self.entry_z:
            raise ValueError(f"exit_z: expected less than entry_z ({self.entry_z}), found {self.exit_z}")
        # Samuelson's inequality: no value lies further than sqrt(n - 1) deviations from the mean of its own n values
        largest = sqrt(self.window - 1)
        if self.entry_z >= largest:
            raise ValueError(
                f"entry_z: expected less than {largest:.3f}, the largest z-score {self.window} bars can show, "
                f"found {self.entry_z}"
            )


class MeanReversion(Strategy):
    Params = MeanReversionParams
    inputs = Inputs(bars=True)
    params: MeanReversionParams

    def on_start(self) -> None:
        self._closes = RollingMoments(self.params.window)

    def on_bar(self, bar: Bar) -> None:
        if not isfinite(bar.close):  # a missing price must not enter the mean
            return
        closes = self._closes
        closes.add(bar.close)
        if not closes.full:
            return
        mean, deviation = closes.mean, closes.deviation
        flat = deviation <= NOISE * abs(mean)  # the close is the mean, and there is nothing to divide by
        z = 0.0 if flat else (bar.close - mean) / deviation
        self._judge(z, f"close {bar.close:.10g}, mean {mean:.10g}")

    def _judge(self, z: float, prices: str) -> None:
        entry, leave = self.params.entry_z, self.params.exit_z
        if self.position == 0.0:
            if abs(z) >= entry:
                wish = strength(abs(z), FULL_STRENGTH * entry)
                (self.buy if z < 0.0 else self.sell)(f"z-score {z:.3f} is beyond {entry:g}: {prices}", strength=wish)
        elif (z >= -leave) if self.position > 0.0 else (z <= leave):
            self.close(f"z-score {z:.3f} is back within {leave:g}: {prices}")
