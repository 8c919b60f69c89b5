"""A client's strategy that speaks often and depends on all it was ever told: a lost, doubled or swapped record shows."""

from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Bar, Prediction, Quote, Timer, Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class ChattyParams(Params, frozen=True):
    every: Annotated[int, Meta(ge=1)] = 7
    raise_at: int = -1


class Chatty(Strategy):
    Params = ChattyParams
    inputs = Inputs(trades=True, quotes=True, bars=True, predictions=True, timer="1s")
    params: ChattyParams

    def on_start(self) -> None:
        self.digest = 0
        self.heard = 0

    def on_trade(self, trade: Trade) -> None:
        self._hear("trade", trade.price)

    def on_quote(self, quote: Quote) -> None:
        self._hear("quote", quote.mid)

    def on_bar(self, bar: Bar) -> None:
        self._hear("bar", bar.close)

    def on_prediction(self, prediction: Prediction) -> None:
        self._hear("prediction", prediction.score)

    def on_timer(self, timer: Timer) -> None:
        self._hear("timer", float(timer.interval_ns))

    def _hear(self, kind: str, number: float) -> None:
        if self.heard == self.params.raise_at:
            raise RuntimeError(f"told to raise at record {self.heard}")
        self.heard += 1
        self.digest = hash((self.digest, self.now_ns, number))  # of numbers alone: the same in every process
        if self.heard % self.params.every:
            return
        wish = (self.buy, self.sell, self.close)[self.random.randrange(3)]
        wish(f"{kind} no. {self.heard}", f"digest {self.digest}")
