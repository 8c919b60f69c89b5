"""Momentum rider: go with a move that is under way, for a fixed number of bars.

Flat and the close at least `threshold` above (below) the close `lookback_bars` ago: buy (sell). Closes after
`exit_after_bars` bars. The idea: Moskowitz, Ooi, Pedersen, "Time Series Momentum", Journal of Financial Economics 104
(2012).
"""

from collections import deque
from math import isfinite
from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar
from strategy_runner.strategies.indicators import strength
from strategy_runner.strategies.interface import Inputs, Params, Strategy

FULL_STRENGTH = 3.0  # a move of this many thresholds is a signal of strength 1


class MomentumRiderParams(Params, frozen=True):
    lookback_bars: Annotated[int, Meta(ge=1, le=10_000)] = 10
    threshold: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.002
    exit_after_bars: Annotated[int, Meta(ge=1, le=100_000)] = 20


class MomentumRider(Strategy):
    Params = MomentumRiderParams
    inputs = Inputs(bars=True)
    params: MomentumRiderParams

    def on_start(self) -> None:
        self._closes: deque[float] = deque(maxlen=self.params.lookback_bars)
        self._held_bars = 0

    def on_bar(self, bar: Bar) -> None:
        if self.position:
            self._held_bars += 1
            if self._held_bars >= self.params.exit_after_bars:
                self.close(f"held for {self._held_bars} bars")
        if not isfinite(bar.close) or bar.close <= 0.0:  # no return can be taken of such a price
            return
        if len(self._closes) == self.params.lookback_bars and not self.position:
            self._ride(bar.close / self._closes[0] - 1.0)
        self._closes.append(bar.close)

    def _ride(self, move: float) -> None:
        self._held_bars = 0
        threshold, bars = self.params.threshold, self.params.lookback_bars
        if abs(move) < threshold:
            return
        reason = f"close moved {move:+.4%} in {bars} bars, threshold {threshold:.4%}"
        wish = strength(abs(move), FULL_STRENGTH * threshold)
        if move > 0.0:
            self.buy(reason, strength=wish)
        else:
            self.sell(reason, strength=wish)
