"""The bench plays the worker's part: events in order, time set, position following the proposals."""

from typing import Any

import pytest

from strategy_runner.errors import ConfigurationError, StrategyError
from strategy_runner.model.event import Bar, Prediction, Quote, Timer, Trade
from strategy_runner.strategies.interface import Fill, Inputs, Position, Strategy
from strategy_runner.strategies.testing import bars, run


class Witness(Strategy):
    """Says of every event what it saw at that moment."""

    inputs = Inputs(trades=True, quotes=True, bars=True, predictions=True, timer="1s")

    def _say(self, what: str) -> None:
        self.buy(f"{what} {self.symbol} {self.timeframe} {self.now_ns} {self.position:g}", size=2.0)

    def on_trade(self, trade: Trade) -> None:
        self._say("trade")

    def on_quote(self, quote: Quote) -> None:
        self._say("quote")

    def on_bar(self, bar: Bar) -> None:
        self._say("bar")

    def on_prediction(self, prediction: Prediction) -> None:
        self._say("prediction")

    def on_timer(self, timer: Timer) -> None:
        self._say("timer")

    def on_fill(self, fill: Fill) -> None:
        self._say("fill")

    def on_position(self, position: Position) -> None:
        self._say("position")


def test_every_event_reaches_its_callback_in_order_with_its_time() -> None:
    events: list[Any] = [
        Timer(1, 1_000_000_000),
        Trade("BTC-USD", 2, 1.0, 1.0),
        Quote("BTC-USD", 3, 1.0, 2.0),
        Bar("BTC-USD", "5m", 4, 1.0, 1.0, 1.0, 1.0, 1.0),
        Prediction("BTC-USD", "m", "5m", 4, 0.5, 0.5),
        Fill("BTC-USD", 5, "id", 1.0, 1.0, 0.0),
        Position("BTC-USD", 6, 1.0, 1.0),
    ]
    assert [proposal.reasons[0] for proposal in run(Witness, events)] == [
        "timer BTC-USD 5m 1 0",
        "trade BTC-USD 5m 2 2",
        "quote BTC-USD 5m 3 4",
        "bar BTC-USD 5m 4 6",
        "prediction BTC-USD 5m 4 8",
        "fill BTC-USD 5m 5 10",
        "position BTC-USD 5m 6 12",
    ]


class Scripted(Strategy):
    """Does at each bar what its close says, and notes the position it found."""

    asked: float | None = None

    def on_bar(self, bar: Bar) -> None:
        note = f"{self.position:g}"
        {1: self.buy, 2: self.sell, 3: self.close}[int(bar.close)](note, size=self.asked)


class InTenths(Scripted):
    asked = 0.1


@pytest.mark.parametrize("opening", [1.0, 2.0], ids=["long", "short"])
def test_the_bench_holds_no_error_of_a_sum_as_a_worker_holds_none(opening: float) -> None:
    found = [float(proposal.reasons[0]) for proposal in run(InTenths, bars(*[opening] * 3, *[3.0] * 4))]
    assert found[-1] == 0.0


def test_the_position_follows_buy_sell_and_close() -> None:
    script = bars(1.0, 1.0, 2.0, 3.0, 2.0, 2.0, 3.0, 3.0, 1.0)
    assert [proposal.reasons[0] for proposal in run(Scripted, script)] == [
        "0",
        "1",
        "2",
        "1",
        "0",
        "-1",
        "-2",
        "0",
        "0",
    ]


def test_wrong_params_are_refused_as_in_a_file() -> None:
    with pytest.raises(ConfigurationError, match=r"Scripted: params\.fast: expected"):
        run(Scripted, [], fast=1)


class Forgetful(Strategy):
    inputs = Inputs(bars=True)

    def on_bar(self, bar: Bar) -> None:
        self.rule = lambda price: price > bar.close
        self.enter = self.buy


def test_what_would_not_outlive_a_restart_is_told_of_by_the_bench() -> None:
    with pytest.raises(StrategyError, match=r"state: expected values that pickle, found self\.rule \(function\)"):
        run(Forgetful, bars(100, 101))


def test_bars_follow_each_other_and_hold_their_prices() -> None:
    first, second = bars(10.0, 8.0, timeframe="1h", start_ns=0)
    assert (first.event_ns, second.event_ns) == (3_600_000_000_000, 7_200_000_000_000)
    assert (first.open, first.high, first.low, first.close) == (10.0, 10.0, 10.0, 10.0)
    assert (second.open, second.high, second.low, second.close) == (10.0, 10.0, 8.0, 8.0)


class LooksBack(Strategy):
    inputs = Inputs(predictions=True)

    def on_prediction(self, prediction: Prediction) -> None:
        self.buy(str([one.score for one in self.predictions_of("m")]))


def test_the_bench_gives_what_it_was_fed_to_a_strategy_that_looks_back() -> None:
    fed = [Prediction("X", model, "1m", number, number / 10, 0.5) for number, model in enumerate("mnm", 1)]
    assert [proposal.reasons for proposal in run(LooksBack, fed)] == [("[0.1]",), ("[0.1]",), ("[0.1, 0.3]",)]
