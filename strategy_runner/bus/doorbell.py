"""Doorbells: the feed rings for the streams it touched, a worker wakes up and looks at the tape.

A ring carries nothing a worker needs, so it may be dropped as long as one is still queued: the kernel queues some five for a
worker, the queue never grows, and a slow worker catches up in one batch. Who rings sends by itself, in its own thread: on a
host that is full another thread would have to wait for its turn among all those that are to be woken. A lost last ring is
noticed by looking once a beat.

    XPUB -> SUB    one frame: topic, NUL, first seq (u64)        topic is a stream's name
    PUSH -> PULL   one frame: the name of a worker whose signal log has grown
    PUSH -> PULL   one frame: a client whose fill log has grown, NUL, up to which offset it is on the disk (u64)
"""

import struct
import time
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import islice

from strategy_runner.bus.zmtp import Heard, Hub, Line, Wire, frame

_SEQ = struct.Struct("<Q")
_TOPIC_BYTES_MAX = 1_024
_RING_BYTES_MAX = 256
_SUBSCRIBE, _CANCEL = b"\x01", b"\x00"
_REST_S_MIN, _REST_S_MAX = 0.0005, 0.1
_BEHIND_S = 0.005


class StreamDoorbell:
    """The feed's side.

    A listener whose queue is full has still to hear what was rung before: it is busy, or waits for its turn on a full host. It is
    left alone for a while, and then hears of what has come meanwhile. To try each time would cost the feed as much as the rest of
    its work where a thousand workers are behind. A rest that was too short makes the next one twice as long, one that was long
    enough half as long, within the bounds above.
    """

    def __init__(self, endpoint: str) -> None:
        self._hub = Hub(endpoint, "XPUB", frame_bytes_max=_TOPIC_BYTES_MAX)
        self._listening: dict[bytes, dict[Line, None]] = {}  # by topic
        # by what the topic begins with: workers give all of it, NUL included, other ZeroMQ sockets need not
        self._listening_to_more: dict[bytes, dict[Line, None]] = {}
        self._full: dict[Line, float] = {}  # since when, in the order of these times
        self._resting: dict[Line, bytes | None] = {}  # with the ring that it missed
        self._ends: list[tuple[float, int, Line]] = []  # of rests, a heap
        self._next_rest_s: dict[Line, float] = {}  # how long the next one is, where it is not the shortest
        self.waitable = self._hub.waitable

    @property
    def is_busy(self) -> bool:
        """Whether most listeners had still to hear what was rung before when they were rung for last, and for _BEHIND_S then."""
        most = self._hub.lines // 2
        if len(self._full) <= most:
            return False
        return time.monotonic() - next(islice(self._full.values(), most, None)) >= _BEHIND_S

    def ring(self, topic: bytes, seq: int) -> None:
        """`topic` ends with NUL, since subscriptions match by prefix. Never blocks."""
        self.hear()
        ring = frame(topic + _SEQ.pack(seq))
        self._ring(self._listening.get(topic, ()), ring)
        for prefix, lines in self._listening_to_more.items():
            if topic.startswith(prefix):
                self._ring(lines, ring)

    def rest_s(self) -> float | None:
        """How long until the first rest is over; None if nobody rests."""
        return self._ends[0][0] - time.monotonic() if self._ends else None

    def hear(self) -> None:
        """Lets in who has come to listen, notes for what, and rings for those whose rest is over."""
        for line, word in self._hub.hear():
            if word is None:
                for topic in [*self._listening, *self._listening_to_more]:
                    self._cancel(line, topic)
                for held in (self._full, self._resting, self._next_rest_s):
                    held.pop(line, None)
            elif word[:1] == _SUBSCRIBE:
                self._listening_by(word[1:]).setdefault(word[1:], {})[line] = None
            elif word[:1] == _CANCEL:
                self._cancel(line, word[1:])
        if self._ends:
            self._ring_owed()

    def close(self) -> None:
        self._hub.close()

    def _ring(self, lines: Iterable[Line], ring: bytes) -> None:
        full, resting = self._full, self._resting
        for line in lines:
            if line in resting:
                resting[line] = ring
            elif not line.send(ring):
                self._rest(line)
            elif line in full:
                self._go_on(line)

    def _ring_owed(self) -> None:
        """Rings for those whose rest is over, if they missed anything."""
        now = time.monotonic()
        while self._ends and self._ends[0][0] <= now:
            _, _, line = heappop(self._ends)
            missed = self._resting.pop(line, None)
            if missed is not None:
                self._ring((line,), missed)

    def _rest(self, line: Line) -> None:
        now, rest_s = time.monotonic(), self._next_rest_s.get(line, _REST_S_MIN)
        if line in self._full:
            self._next_rest_s[line] = rest_s = min(2.0 * rest_s, _REST_S_MAX)
        else:
            self._full[line] = now
        self._resting[line] = None
        heappush(self._ends, (now + rest_s, id(line), line))  # lines have no order of their own

    def _go_on(self, line: Line) -> None:
        del self._full[line]
        rest_s = self._next_rest_s.pop(line, 0.0) / 2.0
        if rest_s > _REST_S_MIN:
            self._next_rest_s[line] = rest_s

    def _cancel(self, line: Line, topic: bytes) -> None:
        listening = self._listening_by(topic)
        lines = listening.get(topic, {})
        lines.pop(line, None)
        if not lines:
            listening.pop(topic, None)

    def _listening_by(self, topic: bytes) -> dict[bytes, dict[Line, None]]:
        return self._listening if topic.endswith(b"\0") else self._listening_to_more


class StreamListener:
    """A worker's side: woken for its streams."""

    def __init__(self, endpoint: str, streams: tuple[str, ...]) -> None:
        self._wire = Wire(endpoint, "SUB", _subscriptions(_SUBSCRIBE, streams))
        self._streams = set(streams)
        self.wait = self._wire.hear
        """wait(timeout_ms): True when it rang within the time given, False perhaps earlier. Takes every ring that is queued: one
        look at the tape is enough."""

    def listen(self, streams: set[str]) -> None:
        """Wakes for these streams from now on, and for no others."""
        changes = _subscriptions(_SUBSCRIBE, streams - self._streams) + _subscriptions(_CANCEL, self._streams - streams)
        self._wire.first = _subscriptions(_SUBSCRIBE, streams)
        self._streams = set(streams)
        if changes and not self._wire.send(changes):
            self._wire.close()  # the next connection begins with all of them

    def close(self) -> None:
        self._wire.close()


class SignalDoorbell:
    """A worker's side of the router's bell."""

    def __init__(self, endpoint: str, worker: str) -> None:
        self._wire = Wire(endpoint, "PUSH")
        self._ring = frame(worker.encode())

    def ring(self) -> None:
        """With the queue full the router looks later, and with no router there it looks when it comes. Waits for nobody, but for
        a moment at the beginning of a connection (`Wire.send`)."""
        self._wire.send(self._ring)

    def close(self) -> None:
        self._wire.close()


class SignalListener:
    """The router's side."""

    def __init__(self, endpoint: str) -> None:
        self._hub = Hub(endpoint, "PULL", frame_bytes_max=_RING_BYTES_MAX)
        self._heard: set[str] = set()

    def wait(self, timeout_ms: int) -> bool:
        """True when a worker rang within the time given."""
        if not self._heard:
            self._note(self._hub.hear(timeout_ms))
        return bool(self._heard)

    def ringing(self) -> set[str]:
        """Names of the workers that rang since the last call."""
        self._note(self._hub.hear())
        names, self._heard = self._heard, set()
        return names

    def close(self) -> None:
        self._hub.close()

    def _note(self, heard: list[Heard]) -> None:
        self._heard.update([ring.decode(errors="replace") for _, ring in heard if ring is not None])


class FillDoorbell:
    """The side of a client's order desk, used from one thread."""

    def __init__(self, endpoint: str, client: str) -> None:
        self._wire = Wire(endpoint, "PUSH")
        self._client = client.encode() + b"\0"

    def ring(self, durable: int) -> None:
        """The fill log is on the disk up to the offset `durable`. Waits as SignalDoorbell does: what is not heard the feed finds
        by looking."""
        self._wire.send(frame(self._client + _SEQ.pack(durable)))

    def close(self) -> None:
        self._wire.close()


class FillListener:
    """The feed's side."""

    def __init__(self, endpoint: str) -> None:
        self._hub = Hub(endpoint, "PULL", frame_bytes_max=_RING_BYTES_MAX)
        self.waitable = self._hub.waitable

    def heard(self) -> dict[str, int]:
        """By client, the offset up to which its fill log is on the disk, for those that rang since the last call."""
        found: dict[str, int] = {}
        for _, ring in self._hub.hear():
            client, nul, durable = (ring or b"").partition(b"\0")
            if nul and len(durable) == _SEQ.size:
                name = client.decode(errors="replace")
                found[name] = max(found.get(name, 0), *_SEQ.unpack(durable))
        return found

    def close(self) -> None:
        self._hub.close()


def _subscriptions(word: bytes, streams: Iterable[str]) -> bytes:
    return b"".join([frame(word + topic_of(stream)) for stream in streams])


def topic_of(stream: str) -> bytes:
    return stream.encode() + b"\0"
