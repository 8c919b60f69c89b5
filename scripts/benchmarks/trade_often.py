"""Enters and leaves in turn, every so many trades: the client's own strategy of the end-to-end benchmark.

Each worker counts from a place of its own, so that a fleet does not speak all at once.
"""

import zlib

from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class TradeOftenParams(Params, frozen=True):
    """`offset` is where it begins to count, beside what its symbol adds."""

    every: int = 200
    offset: int = 0


class TradeOften(Strategy):
    Params = TradeOftenParams
    inputs = Inputs(trades=True)
    params: TradeOftenParams

    def on_start(self) -> None:
        self._seen = self.params.offset + zlib.crc32(self.symbol.encode())

    def on_trade(self, trade: Trade) -> None:
        self._seen += 1
        if self._seen % self.params.every:
            return
        if self.position == 0.0:
            self.buy("its turn has come")
        else:
            self.close("its turn has come")
