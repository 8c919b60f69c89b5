"""The OMS protocol: what goes over the wire between a client's router and an order management system.

Messages are msgpack maps; docs/oms_protocol.md says what a third party needs to speak it, with bytes to compare. A message
of another version is refused, a key that is not known is passed over.
"""

from typing import Any, TypeVar

import msgspec

from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.position import Position
from strategy_runner.oms.refusal import OmsRefused, RefusalCode

VERSION = 1
REQUEST_BYTES_MAX = 1 << 20
ANSWER_BYTES_MAX = 1 << 24
ORDERS_MAX = 500  # of one submit
IDS_MAX = 5_000  # of one query
EVENTS_MAX = 1_000  # of one answer
BEAT_S = 0.2
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what bytes from anywhere may lead to


# -- questions ---------------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Opens a session: from now on the asker trades for this client, and whoever did before does not."""


class Submit(msgspec.Struct, frozen=True, tag="submit", gc=False):
    orders: tuple[OrderRequest, ...]


class Modify(msgspec.Struct, frozen=True, tag="modify"):
    change: OrderChange


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    client_order_id: str


class Query(msgspec.Struct, frozen=True, tag="query"):
    client_order_ids: tuple[str, ...]


class OpenOrders(msgspec.Struct, frozen=True, tag="open_orders"):
    pass


class Positions(msgspec.Struct, frozen=True, tag="positions"):
    pass


class Events(msgspec.Struct, frozen=True, tag="events"):
    from_number: int
    limit: int


Ask = Hello | Submit | Modify | Cancel | Query | OpenOrders | Positions | Events
TRADING = (Submit, Modify, Cancel)


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`number` comes back with the answer. `session` is empty for one who only asks and does not trade."""

    version: int = VERSION
    number: int
    client: str
    session: str = ""
    ask: Ask


# -- answers -----------------------------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """To hello. `next` is the number that the client's next event will have."""

    oms: str
    session: str
    next: int


class Reports(msgspec.Struct, frozen=True, tag="reports", gc=False):
    """To submit, modify, cancel, query and open_orders; nil only to query, for an order that was never taken."""

    reports: tuple[OrderReport | None, ...]


class Holdings(msgspec.Struct, frozen=True, tag="holdings"):
    """To positions."""

    positions: tuple[Position, ...]


class History(msgspec.Struct, frozen=True, tag="history", gc=False):
    """To events: the events from the number asked on, dense; `next` as in welcome."""

    events: tuple[OmsEvent, ...]
    next: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It was not done."""

    code: RefusalCode
    message: str


Reply = Welcome | Reports | Holdings | History | Refused


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    version: int = VERSION
    number: int
    reply: Reply


# -- news --------------------------------------------------------------------------------------------------------------


class Happened(msgspec.Struct, frozen=True, tag="event", gc=False):
    event: OmsEvent


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Every BEAT_S, so that a lost last event shows and silence means something. `next` as in welcome."""

    next: int


class News(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    version: int = VERSION
    news: Happened | Beat


class _Head(msgspec.Struct, frozen=True):
    """What can be read of any version, whatever else it holds."""

    version: int = 0
    number: int = 0


Message = Request | Answer | News
_Form = TypeVar("_Form", Request, Answer, News)
_encoder = msgspec.msgpack.Encoder()
_head = msgspec.msgpack.Decoder(_Head)
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {
    form: msgspec.msgpack.Decoder(form) for form in (Request, Answer, News)
}


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(form: type[_Form], payload: bytes) -> _Form:
    """Raises OmsRefused: unsupported_version, malformed."""
    try:
        message: _Form = _decoders[form].decode(payload)
        found = message.version
    except UNDECODABLE as error:
        found = _head_of(payload).version
        if found in (0, VERSION):
            raise OmsRefused("malformed", f"expected a {form.__name__.lower()}, found: {error}") from None
    if found != VERSION:
        raise OmsRefused("unsupported_version", f"expected version {VERSION}, found {found}")
    return message


def number_of(payload: bytes) -> int:
    """The number that an answer to this question carries; 0 if it cannot be read."""
    return _head_of(payload).number


def topic_of(client: str) -> bytes:
    return client.encode() + b"\0"


def news_endpoint(endpoint: str) -> str:
    """Where the OMS tells the news to the client that it answers at `endpoint`."""
    return endpoint.removesuffix(".sock") + "-news.sock"


def _head_of(payload: bytes) -> _Head:
    try:
        return _head.decode(payload)
    except UNDECODABLE:
        return _Head()
