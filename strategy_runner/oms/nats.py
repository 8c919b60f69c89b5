"""The feed of fills and positions over NATS: a client's events from JetStream, dense and each once, and its positions from KV.

A durable pull consumer hands them out; an event is acknowledged when the reader's cursor has passed it, so the reader's own
file decides what was read. What comes twice is passed over, what comes too early is held until what is missing has come.
"""

from strategy_runner.oms.nats_connection import NatsConnection  # before nats: it says which extra is missing

# isort: split

import asyncio
import contextlib
import threading
import time
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.kv import KeyValue

from strategy_runner.errors import StateError
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.position import Position
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.nats_names import STREAM, bucket_of, consumer_of, subject_of
from strategy_runner.oms.nats_publisher import event_of, position_of, told_events

HELD_EVENTS_MAX = 1_000
REDELIVERY_S = 2.0  # until an event that a dead reader had taken is handed out again
REWIND_S = 2 * REDELIVERY_S
LOST_S = 3 * REWIND_S  # all were handed out anew, and again
SILENCE_S = 2.0
_FETCH_S = 0.5
_AGAIN_S = 0.1
_FAULTS = (nats.errors.Error, TimeoutError, OSError)


class NatsFeed:
    """The events and positions of oms/interface.py's Oms, in its words. Used from one thread. Raises OmsUnavailable."""

    def __init__(self, connection: NatsConnection, client: str) -> None:
        """Reads from the start of `events` on; the connection stays the caller's."""
        self._connection = connection
        self._client = client
        self._changed = threading.Condition()  # guards what the connection's thread fills
        self._held: dict[int, OmsEvent] = {}
        self._unacknowledged: dict[int, Msg] = {}
        self._cursor: int | None = None  # not said yet
        self._heard_at = time.monotonic()
        self._missing_since: float | None = None
        self._rewound_at = 0.0
        self._rewinds = False
        self._woken = False
        self._closing = False
        self._fault: StateError | None = None
        self._pulling = connection.spawn(self._pull())

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """As Oms.events; also empty while an event that exists is still on its way, for LOST_S. Raises StateError for what is no
        event."""
        if self._fault is not None:
            raise self._fault
        with self._changed:
            passed = self._pass_to(from_number)
            events = self._dense(from_number, limit)
        for message in passed:
            self._connection.spawn(_acknowledge(message))
        if events:
            self._missing_since = None
            return events
        told = self._connection.run(self._count)
        if from_number > told:
            raise OmsUnavailable(f"{STREAM} {self._client}: expected {from_number} events or more, found {told}")
        self._note_missing(from_number, told)
        return []

    def wait(self, timeout_ms: int) -> bool:
        """True also when the server has been silent: the next `events` then finds out whether it is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._cursor in (None, *self._held), timeout=timeout_ms / 1e3)
            self._woken = False
            is_silent = time.monotonic() - self._heard_at > SILENCE_S
            return self._cursor in (None, *self._held) or self._missing_since is not None or is_silent

    def wake(self) -> None:
        """As Oms.wake."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def positions(self) -> list[Position]:
        """As the OMS's publisher keeps them: each up to the last event that changed it. If there are events that `events` has not
        given, it has some by then: what lies between the two is no difference to an OMS."""
        positions = self._connection.run(self._kept_positions)
        told = self._connection.run(self._count)
        with self._changed:
            cursor = self._cursor
            if cursor is not None and cursor < told:
                has_come = self._changed.wait_for(lambda: cursor in self._held, timeout=self._connection.timeout_s)
                if not has_come:
                    raise OmsUnavailable(self._missing(cursor, told))
        return positions

    def close(self) -> None:
        """What was handed out and not passed is handed out again to the next reader, after REDELIVERY_S."""
        self._closing = True
        self._pulling.cancel()

    def _pass_to(self, from_number: int) -> list[Msg]:
        """Moves the cursor; what lies behind it is to be acknowledged. A step back means that all must be handed out anew."""
        if self._cursor is not None and from_number < self._cursor:
            self._rewinds = True
        self._cursor = from_number
        for number in [number for number in self._held if number < from_number]:
            del self._held[number]
        passed = [number for number in self._unacknowledged if number < from_number]
        return [self._unacknowledged.pop(number) for number in passed]

    def _dense(self, from_number: int, limit: int) -> list[OmsEvent]:
        events: list[OmsEvent] = []
        while len(events) < limit and from_number + len(events) in self._held:
            events.append(self._held[from_number + len(events)])
        return events

    def _note_missing(self, from_number: int, told: int) -> None:
        """An event that is not handed out although it exists was acknowledged once, by a cursor that was set back since; or the
        stream has lost it. Raises OmsUnavailable for that."""
        now = time.monotonic()
        if from_number == told:
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = self._rewound_at = now
        if now - self._rewound_at > REWIND_S:
            self._rewound_at = now
            self._rewinds = True
        if now - self._missing_since > LOST_S:
            raise OmsUnavailable(self._missing(from_number, told))

    def _missing(self, from_number: int, told: int) -> str:
        return f"{STREAM} {self._client}: expected event {from_number} of {told}, found none"

    # -- on the connection's thread ------------------------------------------------------------------------------------

    async def _pull(self) -> None:
        consumer: Any = None
        while not self._closing:
            try:
                if consumer is None or self._rewinds:
                    consumer = await self._subscribe()
                await self._take(consumer)
            except StateError as error:
                self._fault = error
                return
            except _FAULTS:
                consumer = None
                await asyncio.sleep(_AGAIN_S)

    async def _subscribe(self) -> Any:
        stream = await self._connection.stream()
        if self._rewinds:
            with self._changed:
                self._held.clear()
                self._unacknowledged.clear()
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await stream.delete_consumer(STREAM, consumer_of(self._client))
            self._rewinds = False
        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=REDELIVERY_S,
            deliver_policy=DeliverPolicy.ALL,
            max_ack_pending=HELD_EVENTS_MAX,
        )
        return await stream.pull_subscribe(
            subject_of(self._client), durable=consumer_of(self._client), stream=STREAM, config=config
        )

    async def _take(self, consumer: Any) -> None:
        try:
            messages = await consumer.fetch(HELD_EVENTS_MAX, timeout=_FETCH_S)
        except nats.errors.TimeoutError:  # none came
            messages = []
            await self._count()  # raises if that is because the server is gone
        passed = []
        with self._changed:
            self._heard_at = time.monotonic()
            for message in messages:
                event = event_of(message.data)
                if event.number < (self._cursor or 0):
                    passed.append(message)
                    continue
                self._held.setdefault(event.number, event)
                self._unacknowledged[event.number] = message
            self._changed.notify_all()
        for message in passed:
            await _acknowledge(message)

    async def _count(self) -> int:
        return await told_events(await self._connection.stream(), self._client)

    async def _kept_positions(self) -> list[Position]:
        """The keys are asked of the bucket's stream: `bucket.keys()` watches, and may find none where deliveries are slow."""
        stream, name = await self._connection.stream(), bucket_of(self._client)
        prefix = f"$KV.{name}."
        try:
            bucket = await stream.key_value(name)
            info = await stream.stream_info(f"KV_{name}", subjects_filter=f"{prefix}>")
        except nats.js.errors.NotFoundError:
            return []
        keys = [subject.removeprefix(prefix) for subject in sorted(info.state.subjects or ())]
        found = await asyncio.gather(
            *(_value(bucket, key) for key in keys)
        )  # a distant server is not waited for at each
        return [position_of(value) for value in found if value is not None]


async def _value(bucket: KeyValue, key: str) -> bytes | None:
    """None for one that was deleted."""
    try:
        return (await bucket.get(key)).value or b""
    except nats.js.errors.NotFoundError:
        return None


async def _acknowledge(message: Msg) -> None:
    """Lost, it is handed out again, found to be behind the cursor, and acknowledged then."""
    try:
        await message.ack()
    except _FAULTS:
        return
