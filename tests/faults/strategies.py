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

# What it is told of its orders is part of its sum, and every third fill it answers with a signal of its own.
ECHO = '''
"""Enters and leaves by the count of trades, answers to its fills, and remembers all that it was told of its orders."""

from strategy_runner.model.event import Fill, OrderUpdate, Position, Trade
from strategy_runner.strategies.interface import Inputs, Strategy


class Echo(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.heard, self.fills, self.orders, self.mass = 0, 0, 0, 1.0

    def on_trade(self, trade: Trade) -> None:
        self.heard += 1
        if self.heard % 50 == 0:
            if self.position:
                self.close(self._words("in turn"))
            elif self.heard % 100 == 0:
                self.buy(self._words("in turn"))
            else:
                self.sell(self._words("in turn"))

    def on_fill(self, fill: Fill) -> None:
        self.fills += 1
        self.mass = 0.999 * self.mass + fill.price * fill.size - fill.fee
        if self.fills % 3 == 0:
            self.close(self._words("answer"))

    def on_position(self, position: Position) -> None:
        self.mass = 0.999 * self.mass + position.size

    def on_order(self, order: OrderUpdate) -> None:
        self.orders += 1

    def _words(self, why: str) -> str:
        return f"{why}: {self.fills} fills, {self.orders} of orders, mass {self.mass!r} at {self.position!r}"
'''
