"""What a strategy sees of a record: trade, quote, bar, prediction, timer; and of its own orders: fill, position, update of an
order. Immutable, cheap to make by the million.

`gc=False`: an event holds only numbers and strings, so it can be in no reference cycle and the collector may ignore it.
"""

import msgspec


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A print on the market. `side` is the aggressor: +1 buy, -1 sell, 0 unknown."""

    symbol: str
    event_ns: int
    price: float
    size: float
    side: float = 0.0


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask. A size the source does not publish is NaN."""

    symbol: str
    event_ns: int
    bid: float
    ask: float
    bid_size: float = float("nan")
    ask_size: float = float("nan")

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2.0


class Bar(msgspec.Struct, frozen=True, gc=False):
    """Prices of one interval [event_ns - timeframe, event_ns): `event_ns` is the moment it closed."""

    symbol: str
    timeframe: str
    event_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What a model said of a bar: `score` from -1 (down) to 1 (up), `confidence` from 0 to 1."""

    symbol: str
    model: str
    timeframe: str
    event_ns: int
    score: float
    confidence: float


class Funding(msgspec.Struct, frozen=True, gc=False):
    """A perpetual's payment is due: `rate` is a fraction of the notional; when positive, longs pay shorts."""

    symbol: str
    event_ns: int
    rate: float


class Timer(msgspec.Struct, frozen=True, gc=False):
    """Tape time passed a whole `interval_ns`."""

    event_ns: int
    interval_ns: int


class Fill(msgspec.Struct, frozen=True, gc=False):
    """A fill of an order that came of one of this worker's signals. `size` is signed: bought is positive."""

    symbol: str
    event_ns: int
    signal_id: str
    price: float
    size: float
    fee: float


class Position(msgspec.Struct, frozen=True, gc=False):
    """What this strategy holds of the symbol. `size` is signed: long is positive. `realised` is before `fees` and `funding`,
    which is positive when received; all are since the account's first fill, in the symbol's quote currency."""

    symbol: str
    event_ns: int
    size: float
    average_price: float
    realised: float = 0.0
    fees: float = 0.0
    funding: float = 0.0


class OrderUpdate(msgspec.Struct, frozen=True, gc=False):
    """What became of an order of this worker. `leg` is entry, exit, stop_loss, take_profit or flatten; `state` partially_filled,
    filled, cancelled, rejected, expired, or acknowledged where it was modified. `size` and `filled` are positive; `reason` is a
    stable name for what ended without being filled."""

    symbol: str
    event_ns: int
    signal_id: str
    leg: str
    state: str
    size: float
    filled: float
    reason: str


Event = Trade | Quote | Bar | Prediction | Timer
