"""Tells an OMS's events over NATS JetStream, each once and in order, and keeps the positions that follow from them as KV.

The stream itself says how far it was told, so a publisher needs no file of its own: it asks for the last event and goes on
behind it. Each event says which message it must follow, so that of two publishers only one can be right.
"""

from strategy_runner.oms.nats_connection import NatsConnection  # before nats: it says which extra is missing

# isort: split

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig
from nats.js.kv import KeyValue

from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.position import Position
from strategy_runner.oms.ledger import Account, after_fill, after_funding, place
from strategy_runner.oms.nats_names import STREAM, SUBJECTS, bucket_of, message_id, position_key, subject_of
from strategy_runner.oms.protocol import UNDECODABLE

_FETCH_EVENTS = 500
_decoder = msgspec.msgpack.Decoder(OmsEvent)


class KeptPosition(msgspec.Struct, frozen=True):
    """What the KV holds under a position's key: the position after event `number`."""

    number: int
    position: Position


_kept_decoder = msgspec.msgpack.Decoder(KeptPosition)


class NatsPublisher:
    """One client's events. Used from one thread."""

    def __init__(self, connection: NatsConnection, client: str, instruments: Mapping[str, Instrument]) -> None:
        self._connection = connection
        self._client = client
        self._instruments = instruments
        self._kept: KeyValue | None = None
        self._is_open = False
        self._begin()

    def next_number(self) -> int:
        """The number of the first event that was not told yet. After a start, or a failure, positions are made from the events
        of the stream. Raises OmsUnavailable; StateError if the stream has lost its beginning."""
        if not self._is_open:
            told = self._connection.run(self._open)
            if told < self._next:  # a power cut took what JetStream had said to have
                self._begin()
            while self._next < told:
                for seq, event in self._connection.run(self._following):
                    if event.number != self._next:
                        raise StateError(f"{STREAM} {self._client}: expected event {self._next}, found {event.number}")
                    self._fold(event, seq)
            for account in self._accounts.values():
                for position in account.positions.values():
                    self._connection.run(partial(self._keep, position))
            self._is_open = True
        return self._next

    def publish(self, events: Sequence[OmsEvent]) -> None:
        """Returns when JetStream has them all; those it had already are passed over. Raises OmsUnavailable; StateError for a
        gap. After a failure, how far it came is asked for anew."""
        following = self.next_number()
        for event in events:
            if event.number < following:
                continue
            if event.number > following:
                raise StateError(f"{self._client}: expected event {following}, found {event.number}")
            self._is_open = False
            self._connection.run(partial(self._tell, event))
            self._is_open = True
            following += 1

    def _begin(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._next = 0
        self._last_seq = 0

    def _fold(self, event: OmsEvent, seq: int) -> Position | None:
        """Takes an event that the stream has as its message `seq`. Returns the position that it has changed."""
        self._next, self._last_seq = event.number + 1, seq
        if event.fill is not None:
            name, key = event.fill.account, place(event.fill.strategy, event.fill.symbol)
            account = self._accounts.get(name) or Account(client=self._client, account=name)
            self._accounts[name] = after_fill(account, event.fill, self._instruments[event.fill.symbol])
        elif event.amount is not None:
            name, key = event.account, place(event.strategy, event.symbol)
            currency = self._instruments[event.symbol].currency
            account = self._accounts[name]
            self._accounts[name] = after_funding(account, event.strategy, event.symbol, currency, event.amount)
        else:
            return None
        return self._accounts[name].positions[key]

    # -- on the connection's thread ------------------------------------------------------------------------------------

    async def _open(self) -> int:
        """Makes stream and bucket if there are none. Returns how many events of the client the stream has."""
        stream = await self._connection.stream()
        await _make_stream(stream)
        self._kept = await _make_bucket(stream, self._client)
        return await told_events(stream, self._client)

    async def _following(self) -> list[tuple[int, OmsEvent]]:
        """Events of the stream behind those that were taken, some at a time, with the seq of each."""
        stream = await self._connection.stream()
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._last_seq + 1,
        )
        consumer = await stream.pull_subscribe(subject_of(self._client), stream=STREAM, config=config)
        try:
            messages = await consumer.fetch(_FETCH_EVENTS, timeout=self._connection.timeout_s / 2)
        finally:
            await consumer.unsubscribe()
        return [(message.metadata.sequence.stream, event_of(message.data)) for message in messages]

    async def _tell(self, event: OmsEvent) -> None:
        stream = await self._connection.stream()
        headers: dict[str, Any] = {
            "Nats-Msg-Id": message_id(self._client, event.number),
            "Nats-Expected-Last-Subject-Sequence": str(self._last_seq),
        }
        told = await stream.publish(subject_of(self._client), msgspec.msgpack.encode(event), headers=headers)
        if told.duplicate:
            await self._compare(event, told.seq)
        changed = self._fold(event, told.seq)
        if changed is not None:
            await self._keep(changed)

    async def _compare(self, event: OmsEvent, seq: int) -> None:
        """JetStream has this number already, from another publisher: it must have said the same."""
        stream = await self._connection.stream()
        there = await stream.get_msg(STREAM, seq)
        if there.data is None or event_of(there.data) != event:
            raise StateError(f"{STREAM} {self._client}: event {event.number} was told before, and was another one")

    async def _keep(self, position: Position) -> None:
        assert self._kept is not None
        key = position_key(position.account, position.strategy, position.symbol)
        await self._kept.put(key, msgspec.msgpack.encode(KeptPosition(self._next - 1, position)))


def event_of(payload: bytes) -> OmsEvent:
    """Raises StateError."""
    try:
        return _decoder.decode(payload)
    except UNDECODABLE as error:
        raise StateError(f"{STREAM}: expected an OmsEvent, found: {error}") from None


def position_of(payload: bytes) -> Position:
    """Of the KV. Raises StateError."""
    try:
        return _kept_decoder.decode(payload).position
    except UNDECODABLE as error:
        raise StateError(f"{STREAM}: expected a KeptPosition, found: {error}") from None


async def told_events(stream: JetStreamContext, client: str) -> int:
    """How many events of a client the stream has; 0 also when there is no stream yet."""
    try:
        last = await stream.get_last_msg(STREAM, subject_of(client))
    except nats.js.errors.NotFoundError:
        return 0
    assert last.data is not None
    return event_of(last.data).number + 1


async def _make_stream(stream: JetStreamContext) -> None:
    """Kept without limit: positions follow from the first event on."""
    try:
        await stream.stream_info(STREAM)
    except nats.js.errors.NotFoundError:
        await stream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS], storage=StorageType.FILE))


async def _make_bucket(stream: JetStreamContext, client: str) -> KeyValue:
    try:
        return await stream.key_value(bucket_of(client))
    except nats.js.errors.NotFoundError:
        return await stream.create_key_value(bucket=bucket_of(client))
