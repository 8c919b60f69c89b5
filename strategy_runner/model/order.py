"""An order: what the router asks an OMS for, the states it may be in, and what an OMS tells of it.

Client order ids are derived from signal ids, never random, so asking twice is harmless and a restart cannot invent one.
"""

import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

from strategy_runner.model.fill import Fill

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]
TimeInForce = Literal["gtc", "day", "ioc"]
Leg = Literal["entry", "exit", "stop_loss", "take_profit", "flatten"]

CLIENT_ORDER_ID_CHARS = 26
_BASE32 = bytes.maketrans(bytes(range(32)), b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


class OrderState(StrEnum):
    """`INTENT` is durable and not yet sent; `UNKNOWN` was sent and nobody knows what became of it: it is asked about, never
    sent again blindly."""

    INTENT = "intent"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


FINAL_STATES = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED})


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order. `quantity` is positive, in units of the instrument; prices lie on its tick grid.

    `trail` makes a stop follow the market at this distance. Orders of one `bracket` belong together: the exits become active
    with the entry's first fill, for what was filled, and one cancels the other. `reduce_only` never opens or turns a position.
    `event_ns` is the event time of the record that caused it, `expires_ns` ends a day order.
    """

    client_order_id: str
    client: str
    account: str
    venue: str
    strategy: str
    symbol: str
    signal_id: str
    leg: Leg
    side: Side
    type: OrderType
    quantity: Decimal
    event_ns: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: TimeInForce = "gtc"
    expires_ns: int = 0
    reduce_only: bool = False
    bracket: str = ""


class OrderChange(msgspec.Struct, frozen=True, kw_only=True):
    """A modification of a working order; None leaves a field as it is. `quantity` is the new total."""

    client_order_id: str
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class OrderReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an OMS knows of an order now. `reason` is a stable name for what was rejected, cancelled or expired."""

    client_order_id: str
    client: str
    state: OrderState
    quantity: Decimal
    filled: Decimal = Decimal(0)
    average_price: Decimal | None = None
    reason: str = ""
    oms_order_id: str = ""


OmsEventKind = Literal["acknowledged", "fill", "cancelled", "rejected", "expired", "modified", "funding"]


class OmsEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened to an order, or to an account. `number` is dense per client from 0, so a missed one shows.

    `seq` is the tape's seq the OMS had read up to (-1: an OMS that reads no tape). `amount` is a funding payment, in the
    instrument's currency, to a strategy's position in a symbol: received when positive.
    """

    number: int
    client: str
    kind: OmsEventKind
    event_ns: int
    seq: int
    report: OrderReport | None = None
    fill: Fill | None = None
    amount: Decimal | None = None
    account: str = ""
    strategy: str = ""
    symbol: str = ""


def client_order_id(signal_id: str, leg: str) -> str:
    """26 characters A-Z and 2-7: 128 bits of BLAKE2b over signal id and leg, short enough for every venue."""
    number = int.from_bytes(hashlib.blake2b(f"{signal_id}/{leg}".encode(), digest_size=16).digest()) << 2
    for upper, lower, gap in _HALVINGS:
        number = (number & upper) << gap | number & lower
    return number.to_bytes(CLIENT_ORDER_ID_CHARS).translate(_BASE32).decode()


def _halvings() -> list[tuple[int, int, int]]:
    """How a number of 5 bits a character becomes one of 8: groups of 16 characters are parted in the middle, then those of 8, and
    so on to single ones. (bits of the upper halves, bits of the lower, by how many bits the upper ones move up.)

    The library makes the characters one by one, in Python, which takes three times as long.
    """
    steps = []
    for half in (16, 8, 4, 2, 1):
        groups = range(0, 8 * 32, 8 * 2 * half)  # where they begin by now, in bits
        lower = sum(((1 << 5 * half) - 1) << begin for begin in groups)
        steps.append((lower << 5 * half, lower, 3 * half))
    return steps


_HALVINGS = _halvings()


def signed(side: Side, quantity: Decimal) -> Decimal:
    """Bought is positive, sold negative."""
    return quantity if side == "buy" else -quantity
