"""Doorbells: the feed rings for the streams it touched, a worker wakes up and looks at the tape.

A ring carries nothing a worker needs, so it may be dropped as long as one is still queued: high-water marks are tiny, the
queue never grows, and a slow worker catches up in one batch. Whether one is still queued ZeroMQ learns when it looks what has
been read from its queues, which while sending it does once in a while only (a millisecond): who rings looks first. A lost last
ring is noticed by looking once a beat: to send a beat to a thousand sockets would wake two threads for each, and all at the
same moment.

    XPUB -> SUB    one frame: topic, NUL, first seq (u64)        topic is a stream's name
    PUSH -> PULL   one frame: the name of a worker whose signal log has grown
    PUSH -> PULL   one frame: a client whose fill log has grown, NUL, up to which offset it is on the disk (u64)
"""

import select
import struct
from collections.abc import Iterable

import zmq

from strategy_runner.bus.call import keep_to_owner
from strategy_runner.bus.context import Context
from strategy_runner.bus.zmtp import Wire, frame

_SEQ = struct.Struct("<Q")
_QUEUE_FRAMES = 4
_HEARD_MAX = 1_000  # rings that are taken at once; whoever rings on is heard at the next look
_FILL_RING_BYTES_MAX = 256
_BACKLOG = 4_096  # workers that connect at once
_SUBSCRIBE, _CANCEL = b"\x01", b"\x00"
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


class StreamDoorbell:
    """The feed's side."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.BACKLOG, _BACKLOG)
        self._socket.bind(endpoint)

    def ring(self, topic: bytes, seq: int) -> None:
        """`topic` ends with NUL, since subscriptions match by prefix. Never blocks."""
        _look_at_queues(self._socket)
        self._socket.send(topic + _SEQ.pack(seq), zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()


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
        """Never blocks: with the queue full the router looks later, and with no router there it looks when it comes."""
        self._wire.send(self._ring)

    def close(self) -> None:
        self._wire.close()


class SignalListener:
    """The router's side."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.BACKLOG, _BACKLOG)
        self._socket.bind(endpoint)
        self._ear = _Ear(self._socket)
        self._heard: set[str] = set()

    def wait(self, timeout_ms: int) -> bool:
        """True when a worker rang within the time given."""
        if not self._heard:
            ring = self._ear.hear(timeout_ms)
            if ring is not None:
                self._heard.add(ring.decode(errors="replace"))
        return bool(self._heard)

    def ringing(self) -> set[str]:
        """Names of the workers that rang since the last call."""
        names, self._heard = self._heard, set()
        names.update(ring.decode(errors="replace") for ring in _queued(self._socket))
        return names

    def close(self) -> None:
        self._socket.close()


class FillDoorbell:
    """The side of a client's order desk, used from one thread."""

    def __init__(self, context: Context, endpoint: str, client: str) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.connect(endpoint)
        self._client = client.encode() + b"\0"

    def ring(self, durable: int) -> None:
        """The fill log is on the disk up to the offset `durable`. Never blocks: what is not heard the feed finds by looking."""
        _ring_once(self._socket, self._client + _SEQ.pack(durable))

    def close(self) -> None:
        self._socket.close()


class FillListener:
    """The feed's side."""

    def __init__(self, context: Context, endpoint: str) -> None:
        """Binds; an ipc socket is its owner's alone."""
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _FILL_RING_BYTES_MAX)
        self._socket.bind(endpoint)
        keep_to_owner(endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._other: int | None = None

    def wait(self, timeout_ms: int, other: int | None = None) -> None:
        """Returns when it rang or the descriptor `other` can be read, at the latest after the time given."""
        if other != self._other:
            if self._other is not None:
                self._poller.unregister(self._other)
            if other is not None:
                self._poller.register(other, zmq.POLLIN)
            self._other = other
        self._poller.poll(timeout_ms)

    def heard(self) -> dict[str, int]:
        """By client, the offset up to which its fill log is on the disk, for those that rang since the last call."""
        found: dict[str, int] = {}
        for ring in _queued(self._socket):
            client, nul, durable = ring.partition(b"\0")
            if nul and len(durable) == _SEQ.size:
                name = client.decode(errors="replace")
                found[name] = max(found.get(name, 0), *_SEQ.unpack(durable))
        return found

    def close(self) -> None:
        self._socket.close()


class _Ear:
    """Receives within a time given. (A poll first would cost as much again as the rest, and so would to ask the socket for the
    time that it was told last.) Where it has been quiet it polls all the same: the end of that is no exception."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._timeout_ms = -1  # a new socket waits for ever
        # it was asked for a frame and had none: what comes now makes its descriptor readable
        self._is_quiet = False
        self._poll = select.poll()
        self._poll.register(int(socket.getsockopt(zmq.FD)), select.POLLIN)

    def hear(self, timeout_ms: int) -> bytes | None:
        """The next frame, None if there is none within the time."""
        if self._is_quiet and not self._poll.poll(timeout_ms):
            return None
        if timeout_ms != self._timeout_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            self._timeout_ms = timeout_ms
        try:
            frame = self._socket.recv()
        except zmq.Again:
            self._is_quiet = True
            return None
        self._is_quiet = False
        return frame


def _ring_once(socket: "zmq.Socket[bytes]", frame: bytes) -> None:
    """Sends a frame unless the queue is full. A queue that seems full is looked at."""
    try:
        socket.send(frame, zmq.NOBLOCK)
    except zmq.Again:
        if _look_at_queues(socket) & _POLLOUT:
            socket.send(frame, zmq.NOBLOCK)


def _look_at_queues(socket: "zmq.Socket[bytes]") -> int:
    """What a socket is ready for, of POLLIN and POLLOUT. To ask makes ZeroMQ look at all of its queues at once."""
    return int(socket.getsockopt(zmq.EVENTS))


def _has_more(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a frame is queued; cheaper than the exception of a receive that finds none."""
    return bool(_look_at_queues(socket) & _POLLIN)


def _queued(socket: "zmq.Socket[bytes]") -> list[bytes]:
    """The frames that are queued. To look before each of them would cost more than the receipt of one."""
    frames: list[bytes] = []
    if _has_more(socket):
        try:
            while len(frames) < _HEARD_MAX:
                frames.append(socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            pass
    return frames


def _subscriptions(word: bytes, streams: Iterable[str]) -> bytes:
    return b"".join([frame(word + topic_of(stream)) for stream in streams])


def topic_of(stream: str) -> bytes:
    return stream.encode() + b"\0"
