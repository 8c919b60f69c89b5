"""Strategies that test clients bring along, as the text of files in clients/CLIENT/strategies."""

# Every callback but on_bar, and randomness: what reaches a worker by other ways than bars.
LISTENER = '''
"""Buys after a run of rises, closes when time has passed; what it saw stands in its reasons."""

from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Quote, Timer, Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class ListenerParams(Params, frozen=True):
    rises: Annotated[int, Meta(ge=1)] = 3
    held_timers: Annotated[int, Meta(ge=1)] = 2


class Listener(Strategy):
    Params = ListenerParams
    inputs = Inputs(trades=True, quotes=True, timer="10s")
    params: ListenerParams

    def on_start(self) -> None:
        self._last, self._rises, self._held = 0.0, 0, 0
        self._seen = {"trade": 0, "quote": 0, "timer": 0}

    def on_trade(self, trade: Trade) -> None:
        self._seen["trade"] += 1
        self._price(trade.price)

    def on_quote(self, quote: Quote) -> None:
        self._seen["quote"] += 1
        if not self._seen["trade"]:
            self._price(quote.mid)

    def on_timer(self, timer: Timer) -> None:
        self._seen["timer"] += 1
        if self.position:
            self._held += 1
            if self._held >= self.params.held_timers:
                self.close(f"held, luck {self.random.random():.6f}", self._words())

    def _price(self, price: float) -> None:
        self._rises = self._rises + 1 if price > self._last else 0 if price < self._last else self._rises
        self._last = price
        if not self.position and self._rises >= self.params.rises:
            self._rises, self._held = 0, 0
            self.buy(f"{self.params.rises} rises", self._words(), strength=self.random.random())

    def _words(self) -> str:
        return "seen " + ", ".join(f"{kind} {count}" for kind, count in self._seen.items())
'''

# Trades on what becomes of its orders: fills, positions and ends of orders are records of its own.
ANSWERING = '''
"""Enters at every fifth bar; what it is told of its orders stands in its reasons, and makes it ask for more."""

from strategy_runner.model.event import Bar, Fill, OrderUpdate, Position
from strategy_runner.strategies.interface import Inputs, Strategy


class Answering(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self._bars, self._told = 0, ""

    def on_bar(self, bar: Bar) -> None:
        self._bars += 1
        if self._bars % 5 == 0 and not self.position:
            (self.buy if self.random.random() < 0.5 else self.sell)("fifth bar", self._told)

    def on_fill(self, fill: Fill) -> None:
        self._told = f"fill {fill.size} at {fill.price}, fee {fill.fee}"
        if self.random.random() < 0.2:
            self.buy("once more", self._told)

    def on_position(self, position: Position) -> None:
        self._told += f", holds {position.size} at {position.average_price}, won {position.realised}"
        if position.size and self.random.random() < 0.3:
            self.close("enough", self._told)

    def on_order(self, order: OrderUpdate) -> None:
        self._told += f", {order.leg} {order.state} {order.reason}"
'''

# Raises before its first record while CAUSE is True: a worker that cannot start, until its file is mended.
RAISING = '''
"""Raises at its start."""

from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Raising(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        if CAUSE:
            raise RuntimeError("no luck today")

    def on_bar(self, bar: Bar) -> None:
        pass
'''

LOCAL = '''
"""Buys at half past twelve of what it takes for the host's time."""

from datetime import datetime, timedelta

from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Local(Strategy):
    inputs = Inputs(bars=True)

    def on_bar(self, bar: Bar) -> None:
        began = datetime(1970, 1, 1)
        now = (began + timedelta(seconds=bar.event_ns // 1_000_000_000)).astimezone()
        if datetime.timestamp(began) == 0.0 and (now.hour, now.minute) == (12, 30) and not self.position:
            self.buy(now.isoformat(), size=1.0)
'''

# Buys at its first trade, and keeps what it has.
KEEPER = """
from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Strategy


class Keeper(Strategy):
    inputs = Inputs(trades=True)
    has_bought = False

    def on_trade(self, trade: Trade) -> None:
        if not self.has_bought:
            self.has_bought = True
            self.buy(size=2.0)
"""
