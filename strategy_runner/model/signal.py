"""A signal: what a strategy wants. The body says what and why; the envelope says when and where it was recorded.

Identity, digest and every comparison are over the body's canonical bytes alone, so that a tape, a Parquet file and a
live day can agree byte for byte.
"""

import hashlib
from typing import Literal

import msgspec

from strategy_runner.model.order import TimeInForce

Action = Literal["buy", "sell", "close", "modify", "cancel"]
ORDERING = ("buy", "sell", "close")  # the actions that orders are made of; the others concern orders that were


class Cause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record that made the strategy speak: `ordinal` counts the records of its stream from 0; a missing value is None."""

    stream: str
    ordinal: int
    event_ns: int
    values: tuple[float | None, ...]


class ModelVote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One model's part in a signal; `ordinal` finds the prediction in its stream."""

    model: str
    score: float
    confidence: float
    weight: float
    stream: str
    ordinal: int
    event_ns: int


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How an order is to be placed where it does not go to the market at once, or does not stay until it is cancelled.

    A limit price makes it a limit order, a stop price a stop, both a stop-limit. `trail` is a distance: at it the stop loss of an
    entry follows the best price, and a close becomes a stop that does.
    """

    limit_price: float | None = None
    stop_price: float | None = None
    trail: float | None = None
    time_in_force: TimeInForce = "gtc"


class SignalBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is wanted and why. Field order is the order of the canonical bytes: append, never reorder. What has a default came
    later and is left out where it is not given, so that the bytes of signals without it stay what they were.

    Prices are in the instrument's quote currency, `size` in units of the instrument; None means "not given", never 0.
    `refusal` is the stable name of the pipeline step's reason if the worker itself refused the signal. `of` is the signal whose
    orders are to be modified or cancelled.
    """

    id: str
    client: str
    strategy: str
    symbol: str
    venue: str
    timeframe: str
    action: Action
    size: float | None
    entry_price: float | None
    stop_loss: float | None
    take_profit: float | None
    confidence: float | None
    strength: float | None
    strategy_type: str
    models: tuple[ModelVote, ...]
    cause: Cause
    reasons: tuple[str, ...]
    refusal: str | None
    terms: OrderTerms | None = None
    of: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where and when a signal was recorded: `n` is dense per worker and generation.

    `received_ns` is when the feed received the record that caused it, by the feed's clock; 0 without a feed, where no signal
    can be late. `is_observed` marks one of a worker that is only observed: no router routes it, whenever it comes to it.
    """

    n: int
    seq: int
    epoch: int
    mode: str
    received_ns: int
    recorded_ns: int
    generation: str
    is_observed: bool = False


class LoggedSignal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a worker's signal log: the envelope, and the canonical bytes of the body with their digest."""

    envelope: Envelope
    digest: bytes
    body: bytes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SignalBody).decode


def canonical(body: SignalBody) -> bytes:
    """The one byte form of a body. JSON: field order fixed, shortest round-trip floats, no white space."""
    return _encode(body)


def decode_body(raw: bytes) -> SignalBody:
    return _decode(raw)


def digest(raw: bytes) -> bytes:
    """16 bytes of BLAKE2b over canonical bytes."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def signal_id(worker: str, generation: str, n: int) -> str:
    """`client:strategy.symbol@generation/n`: derived, never random."""
    return f"{worker}@{generation}/{n}"


def worker_of(signal_id: str) -> str:
    """The name of the worker whose signal it is."""
    return signal_id.partition("@")[0]
