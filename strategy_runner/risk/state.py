"""A client's risk state: what its limits are measured by. One exists for each client and mode: paper never trips live.

It is what its events made of it (transition.py) and is never computed anew from "now": the peak of equity, the day's first
equity, counters and latches outlive every process.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.order import Leg, OrderState, Side
from strategy_runner.risk.book import ZERO, Book
from strategy_runner.risk.limits import ONE, Limits
from strategy_runner.risk.window import Window

PROTECTIVE_LEGS = ("stop_loss", "take_profit")
Reset = Literal["next_day", "operator", "cooldown", "reconciliation"]


class Posture(StrEnum):
    """`REDUCING` lets exits through and nothing else, `HALTED` only what protects: stops, take profits, and flattening."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker that is open. "" as strategy or symbol is all of them; `until_ns` ends a cooldown, `facts` say why."""

    breaker: str
    posture: Posture
    reset: Reset
    since_ns: int
    strategy: str = ""
    symbol: str = ""
    until_ns: int = 0
    facts: str = ""

    def covers(self, strategy: str, symbol: str) -> bool:
        return (not self.strategy or self.strategy == strategy) and (not self.symbol or self.symbol == symbol)


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is not in a final state. `price` is what its worth is counted with, `is_entry` whether it may open a
    position."""

    strategy: str
    symbol: str
    side: Side
    leg: Leg
    quantity: Decimal
    price: Decimal
    is_entry: bool
    filled: Decimal = ZERO
    state: OrderState = OrderState.INTENT

    @property
    def is_closing(self) -> bool:
        """Whether it is an exit that is to be filled now, and not one that waits for the market to go wrong or far enough."""
        return not self.is_entry and self.leg not in PROTECTIVE_LEGS

    @property
    def remaining(self) -> Decimal:
        return max(self.quantity - self.filled, ZERO)


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker comes to, see exposure.py. `buys` and `sells` are working entries and `working_price` their highest
    price, `worst` the largest position they may lead to and `worth` its value at `price`, the higher of that and the market's;
    `gain` is the profit so far. Money is in the client's currency, None while its rate is missing."""

    strategy: str
    symbol: str
    quantity: Decimal
    buys: Decimal
    sells: Decimal
    working_price: Decimal
    price: Decimal
    worst: Decimal
    worth: Decimal | None
    gain: Decimal | None


class RiskState(msgspec.Struct, kw_only=True):
    """`books` and `exposures` by `strategy/symbol`, `marks` by symbol, `rates` by currency, `windows` by what they count.

    `equity` is cash and what all positions have gained, None while the rate of a currency is missing. What begins with
    `day_start` or ends with it is of the trading day `day`. `recent` holds the moment of each entry that another may be a
    duplicate of. `number` counts the events taken in, `acted` is the last of an operator's actions among them.
    """

    client: str
    mode: str
    number: int = 0
    acted: int = 0
    limits: Limits | None = None
    day: int = 0
    cash: Decimal = ZERO
    equity: Decimal | None = None
    peak_equity: Decimal = ZERO
    day_start_equity: Decimal = ZERO
    profits_at_day_start: dict[str, Decimal] = {}
    losses_in_a_row: dict[str, int] = {}
    books: dict[str, Book] = {}
    marks: dict[str, Decimal] = {}
    rates: dict[str, Decimal] = {}
    orders: dict[str, OpenOrder] = {}
    exposures: dict[str, Exposure] = {}
    windows: dict[str, Window] = {}
    recent: dict[str, int] = {}
    latches: list[Latch] = []


def encode_state(state: RiskState) -> bytes:
    return msgspec.msgpack.encode(state)


def decode_state(raw: bytes, client: str, mode: str) -> RiskState:
    """Raises StateError if it is another client's, or this client's in another mode; msgspec.DecodeError if it is none."""
    state = msgspec.msgpack.decode(raw, type=RiskState)
    if (state.client, state.mode) != (client, mode):
        raise StateError(f"risk state: expected that of {client} in mode {mode}, found {state.client} in {state.mode}")
    return state


def limits_in_force(state: RiskState) -> Limits:
    assert state.limits is not None, "the first event configures"
    return state.limits


def worker_key(strategy: str, symbol: str) -> str:
    return f"{strategy}/{symbol}"


def held(state: RiskState, strategy: str, symbol: str) -> Decimal:
    """The signed quantity that a strategy holds of a symbol."""
    book = state.books.get(worker_key(strategy, symbol))
    return ZERO if book is None else book.quantity


def rate_to_client(state: RiskState, currency: str) -> Decimal | None:
    """None while it is not known: an unknown rate is never 1."""
    return ONE if currency == limits_in_force(state).currency else state.rates.get(currency)


def profits(state: RiskState) -> dict[str, Decimal] | None:
    """Realised and unrealised, after fees, in the client's currency, by strategy; None while a rate is missing."""
    totals: dict[str, Decimal] = {}
    for one in state.exposures.values():
        if one.gain is None:
            return None
        totals[one.strategy] = totals.get(one.strategy, ZERO) + one.gain
    return totals


def mark(state: RiskState, book: Book) -> Decimal:
    """The last known price, which a fill is too."""
    return state.marks.get(book.symbol, book.average_price)
