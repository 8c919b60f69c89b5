"""Strategies for runs under faults, as the text of a client's file: they signal often, and remember everything."""

# One record more, less or in another order changes `mass`, and with it the words of every later signal.
TALLY = '''
"""Keeps a running sum over all that it heard, and speaks whenever the sum ends in the right digits."""

from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class TallyParams(Params, frozen=True):
    one_in: Annotated[int, Meta(ge=1)] = 16


class Tally(Strategy):
    Params = TallyParams
    inputs = Inputs(trades=True, quotes=True, bars=True)
    params: TallyParams

    def on_start(self) -> None:
        self.mass, self.heard = 1.0, 0

    def on_trade(self, trade: Trade) -> None:
        self._hear(trade.price * trade.size * (trade.side or 1.0))

    def on_quote(self, quote: Quote) -> None:
        self._hear(quote.mid)

    def on_bar(self, bar: Bar) -> None:
        self._hear(bar.high - bar.low)

    def _hear(self, value: float) -> None:
        self.heard += 1
        self.mass = 0.999 * self.mass + value
        if int(abs(self.mass) * 1e4) % self.params.one_in == 0:
            words = f"mass {self.mass!r} of {self.heard}, luck {self.random.random():.6f}"
            if self.position:
                self.close(words)
            elif value > 0:
                self.buy(words)
            else:
                self.sell(words)
'''
