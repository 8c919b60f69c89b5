"""A client's strategy that trades on what becomes of its orders, and depends on all it was ever told of them."""

from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar, Fill, OrderUpdate, Position, Quote, Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class AnsweringParams(Params, frozen=True):
    every: Annotated[int, Meta(ge=1)] = 12


class Answering(Strategy):
    Params = AnsweringParams
    inputs = Inputs(trades=True, quotes=True, bars=True)
    params: AnsweringParams

    def on_start(self) -> None:
        self.heard = 0
        self.told: list[str] = []

    def on_trade(self, trade: Trade) -> None:
        self._hear(trade.price)

    def on_quote(self, quote: Quote) -> None:
        self._hear(quote.mid)

    def on_bar(self, bar: Bar) -> None:
        self._hear(bar.close)

    def on_fill(self, fill: Fill) -> None:
        self._note(f"fill {fill.size} at {fill.price} for {fill.fee}")
        if self.random.random() < 0.3:
            self.buy("doubles", *self.told, size=0.5)

    def on_position(self, position: Position) -> None:
        self._note(f"holds {position.size} at {position.average_price} won {position.realised}")
        if position.size and self.random.random() < 0.3:
            self.close("has enough", *self.told)

    def on_order(self, order: OrderUpdate) -> None:
        self._note(f"{order.leg} {order.state} {order.filled} of {order.size} {order.reason}")
        if order.state == "rejected":
            self.sell("instead", *self.told, size=1.0)

    def _hear(self, price: float) -> None:
        self.heard += 1
        if self.heard % self.params.every:
            return
        if self.position:
            self.close("time", *self.told)
        elif self.random.random() < 0.5:
            self.buy("starts", *self.told, size=self.random.choice((0.01, 1.0, 2.5)), stop_loss=price * 0.999)
        else:
            self.sell("starts", *self.told, take_profit=price * 0.999, stop_loss=price * 1.002)

    def _note(self, words: str) -> None:
        self.told = [*self.told, words][-4:]
