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
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# two characters each: the library makes them one by one, in Python
_PAIRS = [high + low for high in _BASE32 for low in _BASE32]
_PLACES = range(5 * (CLIENT_ORDER_ID_CHARS - 2), -1, -10)


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
    return "".join([_PAIRS[number >> place & 0x3FF] for place in _PLACES])


def signed(side: Side, quantity: Decimal) -> Decimal:
    """Bought is positive, sold negative."""
    return quantity if side == "buy" else -quantity
