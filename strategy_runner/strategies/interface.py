"""The Strategy interface: records in, wishes out. A strategy has no clock, no socket, no file and no luck of its own.

The worker calls one `on_...` method for each record, in tape order. Inside it the strategy may call `buy`, `sell`, `close`,
`modify` or `cancel`; what it asks for goes through the signal pipeline and becomes a recorded signal, sent or refused. `position`
is what was filled of that, or without an OMS what the strategy's own signals have asked for. Everything a strategy keeps in
`self` is in its snapshot, so a restarted worker goes on as if nothing had happened.
"""

import random
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from strategy_runner.model.event import Bar, Fill, OrderUpdate, Position, Prediction, Quote, Timer, Trade
from strategy_runner.model.order import TimeInForce
from strategy_runner.model.signal import Action


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a strategy's typed parameters. Constraints go into the annotations: `Annotated[int, msgspec.Meta(gt=0)]`."""


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy reads of its symbol; the worker is woken for these streams only.

    `bars` are those of the configured timeframe, `timeframes` more of them. `predictions` are those of the configured
    models. `timer` is an interval such as "1s", or "". `warmup_bars` are read before the first signal may leave.
    """

    trades: bool = False
    quotes: bool = False
    bars: bool = False
    timeframes: tuple[str, ...] = ()
    predictions: bool = False
    timer: str = ""
    symbols: tuple[str, ...] = ()
    warmup_bars: int = 0


class Proposal(msgspec.Struct, kw_only=True):
    """What a strategy asked for, before the pipeline judges and completes it."""

    action: Action
    size: float | None = None
    entry_price: float | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    confidence: float | None = None
    strength: float | None = None
    limit_price: float | None = None
    stop_price: float | None = None
    trail: float | None = None
    time_in_force: TimeInForce = "gtc"
    of: str = ""
    reasons: tuple[str, ...] = ()


class Bars(NamedTuple):
    """Bars that follow one another, as columns of one length: int64 ns UTC and float64, not to be written to."""

    event_ns: "npt.NDArray[np.int64]"
    open: "npt.NDArray[np.float64]"
    high: "npt.NDArray[np.float64]"
    low: "npt.NDArray[np.float64]"
    close: "npt.NDArray[np.float64]"
    volume: "npt.NDArray[np.float64]"

    def part(self, begin: int, end: int) -> "Bars":
        some = slice(begin, end)
        prices = (self.open[some], self.high[some], self.low[some], self.close[some])
        return Bars(self.event_ns[some], *prices, self.volume[some])


class Candidates(NamedTuple):
    """Of some bars those at which the strategy may ask for something, if it holds nothing (`flat`), is `long` or `short` there.

    One bool a bar; None is "at none of them". `speak(i)` is called for such a bar, one after the other, with `position` and
    `now_ns` as `on_bar` would find them, and asks for what `on_bar` would ask for, which may be nothing.
    """

    speak: Callable[[int], None]
    flat: "npt.NDArray[np.bool_] | None" = None
    long: "npt.NDArray[np.bool_] | None" = None
    short: "npt.NDArray[np.bool_] | None" = None


class Strategy:
    """Subclass it, declare `Params` and `inputs`, and override the callbacks you need."""

    Params: ClassVar[type[Params]] = Params
    inputs: ClassVar[Inputs] = Inputs()

    def __init__(self, params: Any, *, symbol: str, timeframe: str, seed: int = 0) -> None:
        """`params` is an instance of `Params`. Override `on_start`, not this."""
        self.params: Any = params
        self.symbol = symbol
        self.timeframe = timeframe
        self.position = 0.0
        self.last_signal = ""
        self.now_ns = 0
        self._seed = seed
        self._random: random.Random | None = None
        self._random_ns = -1
        self._proposals: list[Proposal] = []
        self._predictions_of: Callable[[str], tuple[Prediction, ...]] = _nothing_predicted

    # -- called by the worker ------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Called once, before the first record of a worker's life; not after a restart, whose state is restored."""

    def on_trade(self, trade: Trade) -> None:
        """A print on the market."""

    def on_quote(self, quote: Quote) -> None:
        """Best bid or ask changed."""

    def on_bar(self, bar: Bar) -> None:
        """An interval closed; `bar.event_ns` is the moment of its close."""

    def on_bars(self, bars: Bars) -> Candidates:
        """The next bars at once, in place of `on_bar` for each: a run over history may use it, if a strategy has it.

        Bars come in runs of any length, so what the next ones need is kept in `self`. The worker calls `speak` before it
        comes with more bars.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no on_bars")

    def on_prediction(self, prediction: Prediction) -> None:
        """Every configured model has spoken of the same bar; score and confidence are their weighted means."""

    def on_timer(self, timer: Timer) -> None:
        """Tape time passed a whole interval of `inputs.timer`."""

    def on_fill(self, fill: Fill) -> None:
        """An order of this worker was filled, wholly or in part; `position` counts it already."""

    def on_position(self, position: Position) -> None:
        """What this strategy holds of its symbol changed: by a fill, or by a payment on it."""

    def on_order(self, order: OrderUpdate) -> None:
        """An order of this worker was filled, modified, cancelled, rejected or has expired; after `on_fill` and `on_position`."""

    def on_stop(self) -> None:
        """The worker stops cleanly. No signal may be asked for here."""

    # -- called by the strategy ----------------------------------------------------------------------------------------

    def buy(self, *reasons: str, **wish: Any) -> None:
        """Ask to buy. `wish`: size, entry_price, stop_loss, take_profit, confidence, strength (see Proposal); with a route to an
        OMS also limit_price, stop_price, time_in_force (gtc, day, ioc), and trail, the distance at which the stop loss follows.

        At the next call `last_signal` is the id of the last buy, sell or close that passed the pipeline."""
        self._proposals.append(Proposal(action="buy", reasons=reasons, **wish))

    def sell(self, *reasons: str, **wish: Any) -> None:
        """Ask to sell; arguments as in `buy`."""
        self._proposals.append(Proposal(action="sell", reasons=reasons, **wish))

    def close(self, *reasons: str, **wish: Any) -> None:
        """Ask to close what this strategy holds; arguments as in `buy`. With `trail` it is a stop that follows the price."""
        self._proposals.append(Proposal(action="close", reasons=reasons, **wish))

    def modify(self, *reasons: str, of: str = "", **wish: Any) -> None:
        """Ask to change the open orders of a signal of this strategy, the last one unless `of` names another: size (less of it),
        limit_price and stop_price of its entry or exit, stop_loss and take_profit of what protects it."""
        self._proposals.append(Proposal(action="modify", reasons=reasons, of=of or self.last_signal, **wish))

    def cancel(self, *reasons: str, of: str = "") -> None:
        """Ask to cancel what is still open of the entry or exit of a signal; `of` as in `modify`. Its stop loss and take profit
        stay as long as something was filled. A close to the market of all that is held, which ends these, goes on once the OMS
        has it."""
        self._proposals.append(Proposal(action="cancel", reasons=reasons, of=of or self.last_signal))

    def predictions_of(self, model: str) -> tuple[Prediction, ...]:
        """The last predictions of one of the configured models for the strategy's symbol, oldest first: as many as its
        `lookback_window`. Raises ValueError for another model."""
        return self._predictions_of(model)

    @property
    def random(self) -> random.Random:
        """Randomness that a replay repeats: a generator seeded anew by worker and time whenever tape time moves on."""
        if self._random is None or self._random_ns != self.now_ns:
            self._random = random.Random(f"{self._seed}/{self.symbol}/{self.now_ns}")
            self._random_ns = self.now_ns
        return self._random


def _nothing_predicted(model: str) -> tuple[Prediction, ...]:
    return ()
