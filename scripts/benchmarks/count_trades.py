"""Counts trades: the client's own strategy of the fleet and limit benchmarks, as little as a worker can do with a record."""

from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Strategy


class CountTrades(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.seen = 0

    def on_trade(self, trade: Trade) -> None:
        self.seen += 1
