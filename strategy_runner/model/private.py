"""A private entry: what happened to one worker's orders and position, as its client's own fill log holds it.

The tape, which everybody reads, carries a record in its place: where the entry stands in the log, and a digest of it. So all
that happened has one order, and only who may read the log knows what it was.
"""

import hashlib
from typing import NamedTuple

import msgspec

from strategy_runner.model.order import OmsEvent
from strategy_runner.model.position import Position

_HALF = 6  # bytes of the digest in one value: float64 holds integers below 2**53 exactly


class PrivateEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a fill log. `number` is dense in its log from 0; `worker` is the folder name, `strategy.symbol`, of whom it
    concerns; `position` is that worker's after the event. Of what order the event tells: the signal it came of, and its leg."""

    number: int
    worker: str
    event: OmsEvent
    position: Position
    signal_id: str = ""
    leg: str = ""


class PrivateEvent(NamedTuple):
    """A private record as a worker reads it: when it happened, the entry, and what the record itself says."""

    event_ns: int
    entry: PrivateEntry
    slot: "Slot"


class Slot(NamedTuple):
    """What the tape's record says of an entry, v0 to v3: the offset of its frame in the log, the first 12 bytes of its digest
    as two integers, its number."""

    offset: float
    digest_high: float
    digest_low: float
    number: float


encode_private = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PrivateEntry).decode


def decode_private(payload: bytes) -> PrivateEntry:
    """Raises msgspec.DecodeError."""
    return _decode(payload)


def slot_of(payload: bytes, offset: int, number: int) -> Slot:
    """The slot of an entry whose frame begins at `offset`."""
    raw = hashlib.blake2b(payload, digest_size=16).digest()
    high, low = int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF : 2 * _HALF], "big")
    return Slot(float(offset), float(high), float(low), float(number))


def is_told(event: OmsEvent) -> bool:
    """Whether a worker is told of an event. That an order was taken is no news: it was asked for."""
    return event.kind != "acknowledged"
