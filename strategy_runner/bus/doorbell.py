"""Doorbells: the feed rings for the streams it touched, a worker wakes up and looks at the tape.

A ring carries nothing a worker needs, so it may be dropped as long as one is still queued: the kernel queues some five for a
worker, the queue never grows, and a slow worker catches up in one batch. Who rings sends by itself, in its own thread: on a
host that is full another thread would have to wait for its turn among all those that are to be woken. A lost last ring is
noticed by looking once a beat.

    XPUB -> SUB    one frame: topic, NUL, first seq (u64)        topic is a stream's name
    PUSH -> PULL   one frame: the name of a worker whose signal log has grown; not sent while the router is awake (board.py)
    PUSH -> PULL   one frame: a client whose fill log has grown, NUL, up to which offset it is on the disk (u64)
"""

import logging
import os
import random
import struct
import time
from collections import deque
from collections.abc import Iterable

from strategy_runner.bus.board import Board, Mark
from strategy_runner.bus.zmtp import Heard, Hub, Line, Wire, frame

_SEQ = struct.Struct("<Q")
_TOPIC_BYTES_MAX = 1_024
_RING_BYTES_MAX = 256
_SUBSCRIBE, _CANCEL = b"\x01", b"\x00"
_CROWD = 32  # so many for each processor may wait for their turn; one takes a quarter of a millisecond
_INTERVAL_S_MIN, _INTERVAL_S_MAX = 0.004, 0.5
# each look makes the interval longer or shorter by as much: shorter faster, since a record waits half of it
_LONGER, _SHORTER = 1.03, 0.93
_LOOK_S = 0.01
_LOOKED_AT = 32

log = logging.getLogger(__name__)


class StreamDoorbell:
    """The feed's side.

    A host is crowded while many listeners have rings that they had no turn yet to hear: to be woken for each record costs more
    than there is, and each waits behind all others. Then rings are coalesced, as a network card does with interrupts: nobody is
    rung for twice within an interval, and who has missed a ring is rung for at its end. The interval grows while the host is
    crowded and shrinks while it is not, so that those who are rung for get their turn soon.
    """

    def __init__(self, endpoint: str) -> None:
        self._hub = Hub(endpoint, "XPUB", frame_bytes_max=_TOPIC_BYTES_MAX)
        self._listening: dict[bytes, dict[Line, None]] = {}  # by topic
        # by what the topic begins with: workers give all of it, NUL included, other ZeroMQ sockets need not
        self._listening_to_more: dict[bytes, dict[Line, None]] = {}
        self._crowd = _CROWD * len(os.sched_getaffinity(0))
        self._load = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self._has_met_full = False  # since the last look
        self.interval_s = 0.0
        """Of a crowd; 0 without one."""
        self._resting: dict[Line, bytes | None] = {}  # rung for within the interval, with what they missed since
        self._rung: deque[tuple[float, Line]] = deque()  # when each of them was
        self._next_look = 0.0
        self.waitable = self._hub.waitable

    @property
    def is_crowded(self) -> bool:
        return self.interval_s > 0.0

    def ring(self, topic: bytes, seq: int) -> None:
        """`topic` ends with NUL, since subscriptions match by prefix. Never blocks."""
        self.hear()
        ring = frame(topic + _SEQ.pack(seq))
        self._ring(self._listening.get(topic, ()), ring)
        for prefix, lines in self._listening_to_more.items():
            if topic.startswith(prefix):
                self._ring(lines, ring)

    def hear(self) -> None:
        """Lets in who has come to listen, notes for what, and rings for those whose interval is over."""
        for line, word in self._hub.hear():
            if word is None:
                for topic in [*self._listening, *self._listening_to_more]:
                    self._cancel(line, topic)
                self._resting.pop(line, None)
            elif word[:1] == _SUBSCRIBE:
                self._listening_by(word[1:]).setdefault(word[1:], {})[line] = None
            elif word[:1] == _CANCEL:
                self._cancel(line, word[1:])
        if self.interval_s or self._has_met_full:
            now = time.monotonic()
            if now >= self._next_look:
                self._look(now)
            self._ring_owed(now)

    def close(self) -> None:
        self._hub.close()
        os.close(self._load)

    def _ring(self, lines: Iterable[Line], ring: bytes) -> None:
        resting, now = self._resting, time.monotonic()
        for line in lines:
            if line in resting:
                resting[line] = ring
                continue
            if not line.send(ring):
                self._has_met_full = True  # it looks when it hears those that are queued
            if self.interval_s:
                self._rest(line, now, None)

    def _rest(self, line: Line, now: float, missed: bytes | None) -> None:
        self._resting[line] = missed
        self._rung.append((now, line))

    def _ring_owed(self, now: float) -> None:
        """Rings for those whose interval is over, if they missed anything and have heard what was rung before."""
        until = now - self.interval_s
        while self._rung and self._rung[0][0] <= until:
            _, line = self._rung.popleft()
            missed = self._resting.pop(line, None)
            if missed is None:
                continue
            if self.interval_s and line.has_unheard:  # it looks when it hears that
                self._rest(line, now, missed)
            else:
                self._ring((line,), missed)

    def _look(self, now: float) -> None:
        """Makes the interval longer or shorter by how many wait, of whom some are asked."""
        self._has_met_full = False
        lines = list(self._hub.lines)
        some = random.sample(lines, min(_LOOKED_AT, len(lines)))
        waiting = len(lines) * sum([line.has_unheard for line in some]) / max(1, len(some))
        # those who wait for a disk, hang or were stopped do not run, and who runs besides does not listen
        if min(waiting, self._runnable()) > self._crowd:
            self.interval_s = min(max(_INTERVAL_S_MIN, self.interval_s * _LONGER), _INTERVAL_S_MAX)
        else:
            self.interval_s *= _SHORTER
            if self.interval_s < _INTERVAL_S_MIN:
                self.interval_s = 0.0
        self._next_look = now + max(_LOOK_S, self.interval_s / 8.0)

    def _runnable(self) -> int:
        """Processes of the host that run or wait for a processor (proc_loadavg(5))."""
        return int(os.pread(self._load, 128, 0).split()[3].partition(b"/")[0])

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
        self._worker = worker
        self._ring = frame(worker.encode())
        self._mark: Mark | None = None
        self._wire = Wire(endpoint, "PUSH", take=self._take_board)

    def ring(self) -> None:
        """With the queue full the router looks later, and with no router there it looks when it comes. Waits for nobody, but for
        a moment at the beginning of a connection (`Wire.send`)."""
        if self._mark is None or not self._mark.leave():
            self._wire.send(self._ring)

    def close(self) -> None:
        self._wire.close()
        if self._mark is not None:
            self._mark.close()

    def _take_board(self, fd: int) -> None:
        """Of the router that it is connected to now."""
        try:
            mark = Mark(fd, self._worker)
        except (OSError, ValueError) as error:
            log.warning("%s: rings each time: no board: %s", self._worker, error)
            return
        finally:
            os.close(fd)
        if self._mark is not None:
            self._mark.close()
        self._mark = mark


class SignalListener:
    """The router's side."""

    def __init__(self, endpoint: str) -> None:
        self._board = Board()
        self._hub = Hub(endpoint, "PULL", frame_bytes_max=_RING_BYTES_MAX, given=self._board.fd)
        self._heard: set[str] = set()

    def know(self, workers: Iterable[str]) -> None:
        """Whose marks on the board count: who rings by its name need not be known."""
        self._board.know(workers)

    def wait(self, timeout_ms: int) -> bool:
        """True when a worker rang within the time given."""
        board = self._board
        board.sleep()
        self._note(self._hub.hear())
        if not self._heard and not board.has_marks:
            self._note(self._hub.hear(timeout_ms))
        board.wake()
        return bool(self._heard) or board.has_marks

    def ringing(self) -> set[str]:
        """Names of the workers that rang since the last call."""
        self._board.wake()
        self._note(self._hub.hear())
        names, self._heard = self._heard | self._board.take(), set()
        return names

    def close(self) -> None:
        self._hub.close()
        self._board.close()

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
