"""Swing high: sell where the price has just made its highest high and the models expect it to fall.

Flat, the bar's high above the highs of the `lookback_bars - 1` bars before it, and a negative score for the same bar:
sell. Closes after `exit_after_bars` bars. The idea: the swing points of Bill Williams, "Trading Chaos" (1995), which
wait for two later bars to confirm; here the models confirm.
"""

from math import isfinite
from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar, Prediction
from strategy_runner.strategies.indicators import RollingMax
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class SwingHighParams(Params, frozen=True):
    lookback_bars: Annotated[int, Meta(ge=2, le=10_000)] = 20
    exit_after_bars: Annotated[int, Meta(ge=1, le=100_000)] = 10


class SwingHigh(Strategy):
    Params = SwingHighParams
    inputs = Inputs(bars=True, predictions=True)
    params: SwingHighParams

    def on_start(self) -> None:
        self._highs = RollingMax(self.params.lookback_bars - 1)
        self._held_bars = 0
        self._swing: Bar | None = None

    def on_bar(self, bar: Bar) -> None:
        if self.position:
            self._held_bars += 1
            if self._held_bars >= self.params.exit_after_bars:
                self.close(f"held for {self._held_bars} bars")
        self._swing = None
        if isfinite(bar.high):  # a missing high is no swing, and must not hide a later one
            if self._highs.full and bar.high > self._highs.value:
                self._swing = bar
            self._highs.add(bar.high)

    def on_prediction(self, prediction: Prediction) -> None:
        swing = self._swing
        if swing is None or prediction.event_ns != swing.event_ns or self.position or not prediction.score < 0.0:
            return
        self._held_bars = 0
        self.sell(
            f"high {swing.high:.10g} is the highest of {self.params.lookback_bars} bars",
            f"{prediction.model} expects a fall: score {prediction.score:.3f}",
            confidence=prediction.confidence,
            strength=min(1.0, -prediction.score),
        )
