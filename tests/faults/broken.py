"""The broken twins: the product with one promise taken out. A test that does not notice is no test."""

import os
import random
from collections.abc import Callable
from typing import Any

from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.model.signal import SignalBody, canonical, digest
from strategy_runner.router.router import Router
from strategy_runner.strategies.interface import Strategy
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.follower import Follower
from strategy_runner.worker.outbox import Outbox

NEVER_MS = 3_600_000


def without_gate() -> None:
    """The router lets every signal out, whether the record that caused it is durable or not."""
    begin = Router.__init__

    def begin_without_gate(self: Router, *arguments: Any, durable: Callable[[], int], **more: Any) -> None:
        begin(self, *arguments, durable=lambda: 1 << 62, **more)

    Router.__init__ = begin_without_gate  # type: ignore[method-assign]


def without_sync() -> None:
    """The tape's durable mark moves without anything having been synced."""

    def pretend(self: TapeWriter) -> int:
        self.head.durable = self.head.count
        return self.head.count

    TapeWriter.make_durable = pretend  # type: ignore[method-assign]


def with_luck() -> None:
    """A strategy that does not do the same again: once a life begins with signals to derive again, it has luck of its own."""
    begin = Outbox.__init__

    def begin_with_luck(self: Outbox, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        if self._recorded:
            luck = random.Random(os.urandom(8))  # drawn here: inside a strategy the determinism guard would see it
            Strategy.random = property(lambda self: luck)  # type: ignore[assignment]

    Outbox.__init__ = begin_with_luck  # type: ignore[method-assign]


def without_digests() -> None:
    """Luck, and an outbox that takes a signal derived again for the one it knows, without looking at it."""
    with_luck()
    record = Outbox.record

    def believe(self: Outbox, n: int, body: SignalBody, seq: int) -> None:
        if n in self._recorded:
            self._recorded[n] = digest(canonical(body))
        record(self, n, body, seq)

    Outbox.record = believe  # type: ignore[method-assign]


def without_rings() -> None:
    """Every doorbell is lost, and a worker does not look at the tape by itself: only the heartbeat is left."""

    def wait(self: Follower, timeout_ms: int = NEVER_MS) -> None:
        self._listener.wait(NEVER_MS)

    StreamDoorbell.ring = lambda self, topic, seq: None  # type: ignore[method-assign]
    Follower.wait = wait  # type: ignore[method-assign]


def without_beat() -> None:
    """No heartbeat either."""
    without_rings()
    StreamDoorbell.beat = lambda self, count, epoch, durable: None  # type: ignore[method-assign]


def without_lock() -> None:
    """Two processes may hold one folder."""
    FolderLock.__init__ = lambda self, folder: None  # type: ignore[method-assign]
    FolderLock.release = lambda self: None  # type: ignore[method-assign]


TWINS: dict[str, Callable[[], None]] = {
    "gate": without_gate,
    "sync": without_sync,
    "luck": with_luck,
    "digests": without_digests,
    "rings": without_rings,
    "beat": without_beat,
    "lock": without_lock,
}
