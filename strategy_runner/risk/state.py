"""A client's risk state: what its limits are measured by. One exists for each client and mode: paper never trips live.

It is what its events made of it (transition.py) and is never computed anew from "now": the peak of equity, the day's first
equity, counters and latches outlive every process.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.risk.book import ZERO, Book
from strategy_runner.risk.limits import ONE, Limits
from strategy_runner.risk.totals import Totals, counts_alike
from strategy_runner.risk.window import Window
from strategy_runner.risk.working import Exposure, OpenOrder, worker_key

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


class RiskState(msgspec.Struct, kw_only=True, dict=True):
    """`books` and `exposures` by `strategy/symbol`, `marks` by symbol, `rates` by currency, `windows` by what they count.

    `equity` is cash and what all positions have gained, None while the rate of a currency is missing. What begins with
    `day_start` or ends with it is of the trading day `day`. `recent` holds the moment of each entry that another may be a
    duplicate of. `number` counts the events taken in, `at_ns` is the moment of the newest, `acted` the last of an operator's
    actions among them. `orders` and `exposures` are changed by the methods alone, which keep the `totals`.
    """

    client: str
    mode: str
    number: int = 0
    at_ns: int = 0
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

    def __post_init__(self) -> None:
        self.__dict__["totals"] = Totals(self.orders, self.exposures)

    @property
    def totals(self) -> Totals:
        """No field: neither kept nor compared."""
        totals: Totals = self.__dict__["totals"]
        return totals

    def put_order(self, order_id: str, order: OpenOrder) -> None:
        """A new order, or what a known one is now."""
        before = self.orders.get(order_id)
        self.orders[order_id] = order
        if before is None:
            self.totals.add_order(order)
        elif not counts_alike(before, order):
            self.totals.take_order(before)
            self.totals.add_order(order)

    def end_order(self, order_id: str) -> None:
        self.totals.take_order(self.orders.pop(order_id))

    def put_exposure(self, key: str, exposure: Exposure) -> None:
        self.totals.put_exposure(key, self.exposures.get(key), exposure)
        self.exposures[key] = exposure


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


def held(state: RiskState, strategy: str, symbol: str) -> Decimal:
    """The signed quantity that a strategy holds of a symbol."""
    book = state.books.get(worker_key(strategy, symbol))
    return ZERO if book is None else book.quantity


def rate_to_client(state: RiskState, currency: str) -> Decimal | None:
    """None while it is not known: an unknown rate is never 1."""
    return ONE if currency == limits_in_force(state).currency else state.rates.get(currency)


def profits(state: RiskState) -> dict[str, Decimal] | None:
    """Realised and unrealised, after fees, in the client's currency, by strategy; None while a rate is missing."""
    return None if state.totals.ungained else dict(state.totals.gains)


def equity_of(state: RiskState) -> Decimal | None:
    """Cash and all profits; None while a rate is missing."""
    return None if state.totals.ungained else state.cash + sum(state.totals.gains.values(), ZERO)


def mark(state: RiskState, book: Book) -> Decimal:
    """The last known price, which a fill is too."""
    return state.marks.get(book.symbol, book.average_price)
