"""A stream: a named subset of the tape, such as BTC-USD/trade, BTC-USD/bar.1m or BTC-USD/prediction.MODEL.1m."""

import msgspec

from strategy_runner.model.names import WorkerKey
from strategy_runner.model.record import Kind
from strategy_runner.model.timeframe import timeframe_ns

_BY_WORD = {
    "trade": Kind.TRADE,
    "quote": Kind.QUOTE,
    "bar": Kind.BAR,
    "prediction": Kind.PREDICTION,
    "funding": Kind.FUNDING,
    "news": Kind.NEWS,
    "clock": Kind.CLOCK,
    "gap": Kind.GAP,
}
_WORDS = {kind: word for word, kind in _BY_WORD.items()}
_STEP = "step"
_PRIVATE = "private"


class Stream(msgspec.Struct, frozen=True, order=True):
    """`timeframe` is set for bars, predictions and clocks, `model` for predictions, `worker` (its whole name) for private ones.

    `symbol` is "" for what no symbol drives: the wall clock, the steps of it, and private streams.
    """

    symbol: str
    kind: Kind
    timeframe: str = ""
    model: str = ""
    worker: str = ""

    @property
    def name(self) -> str:
        if self.kind is Kind.PRIVATE:
            return f"{self.worker}/{_PRIVATE}"
        if not self.symbol:
            return f"clock/{_STEP if self.kind is Kind.CLOCK_STEP else self.timeframe}"
        parts = [_WORDS[self.kind], self.model, self.timeframe]
        return f"{self.symbol}/{'.'.join(part for part in parts if part)}"

    @classmethod
    def parse(cls, name: str) -> "Stream":
        """The stream of a name. Raises ValueError if the name is none."""
        symbol, slash, rest = name.partition("/")
        word, _, qualifier = rest.partition(".")
        kind = _BY_WORD.get(word)
        if symbol == "clock" and slash and kind is None:  # else a symbol of that name
            if rest == _STEP:
                return clock_steps()
            timeframe_ns(rest)
            return cls("", Kind.CLOCK, rest)
        if rest == _PRIVATE:
            return private(WorkerKey.parse(symbol))
        if not symbol or kind is None:
            raise ValueError(f"expected SYMBOL/KIND with kind one of {', '.join(_BY_WORD)}, found {name!r}")
        model, _, timeframe = qualifier.rpartition(".") if kind is Kind.PREDICTION else ("", "", qualifier)
        if kind in (Kind.BAR, Kind.CLOCK, Kind.PREDICTION):
            timeframe_ns(timeframe)
        elif qualifier:
            raise ValueError(f"expected {symbol}/{word}, found {name!r}")
        if kind is Kind.PREDICTION and not model:
            raise ValueError(f"expected {symbol}/prediction.MODEL.TIMEFRAME, found {name!r}")
        return cls(symbol, kind, timeframe, model)


def trades(symbol: str) -> Stream:
    return Stream(symbol, Kind.TRADE)


def quotes(symbol: str) -> Stream:
    return Stream(symbol, Kind.QUOTE)


def bars(symbol: str, timeframe: str) -> Stream:
    return Stream(symbol, Kind.BAR, timeframe)


def predictions(symbol: str, model: str, timeframe: str) -> Stream:
    return Stream(symbol, Kind.PREDICTION, timeframe, model)


def clock(symbol: str, timeframe: str) -> Stream:
    """The clock a symbol's own event time drives; with symbol "" the wall clock that live mode records."""
    return Stream(symbol, Kind.CLOCK, timeframe)


def gaps(symbol: str) -> Stream:
    """Where records of a symbol may be missing. Always on the tape, whoever reads it."""
    return Stream(symbol, Kind.GAP)


def clock_steps() -> Stream:
    """Steps of the host's wall clock. Always on the tape, whoever reads it."""
    return Stream("", Kind.CLOCK_STEP)


def private(worker: WorkerKey) -> Stream:
    """What happens to one worker's orders and position."""
    return Stream("", Kind.PRIVATE, worker=worker.name)
