"""EMA of trades: the client's own strategy of the benchmark, the same rule as benchmarks/bare.py's Ema."""

from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Strategy

HOLD_TRADES = 5_000
ALPHA = 2.0 / 101.0


class EmaTrades(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self._mean = float("nan")
        self._since = 0

    def on_trade(self, trade: Trade) -> None:
        price = trade.price
        mean = self._mean
        if mean != mean:
            mean = price
        self._mean = mean = mean + ALPHA * (price - mean)
        if self._since < HOLD_TRADES:
            self._since += 1
        elif self.position == 0.0:
            if price > mean:
                self._since = 1
                self.buy("price above its mean")
        elif price < mean:
            self._since = 1
            self.close("price below its mean")
