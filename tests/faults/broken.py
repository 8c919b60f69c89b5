"""The broken twins: the product with one promise taken out. A test that does not notice is no test."""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.model.decision import Decision
from strategy_runner.model.order import OrderRequest
from strategy_runner.model.signal import SignalBody, canonical, digest
from strategy_runner.oms.paper import PaperOms
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.oms.paper_state import Entry
from strategy_runner.router.router import Router
from strategy_runner.sinks.quantconnect import QuantConnectSink
from strategy_runner.sinks.quantconnect_progress import Progress, save_progress
from strategy_runner.strategies.interface import Strategy
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.logs import AppendLog
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
            self._recorded[n] = self._recorded[n][0], digest(canonical(body))
        record(self, n, body, seq)

    Outbox.record = believe  # type: ignore[method-assign]


def without_rings() -> None:
    """Every doorbell is lost: only that a worker looks once a beat is left."""
    StreamDoorbell.ring = lambda self, topic, seq: None  # type: ignore[method-assign]


def without_beat() -> None:
    """Nor does a worker look at the tape by itself."""

    def wait(self: Follower) -> None:
        self._listener.wait(NEVER_MS)

    without_rings()
    Follower.wait = wait  # type: ignore[method-assign]


def without_lock() -> None:
    """Two processes may hold one folder."""
    FolderLock.__init__ = lambda self, folder: None  # type: ignore[method-assign]
    FolderLock.release = lambda self: None  # type: ignore[method-assign]


def without_memory() -> None:
    """The paper OMS says that it never had an order, whatever it is asked about, and takes one with the same id again."""
    submit = PaperBook.submit

    def submit_again(self: PaperBook, requests: Sequence[OrderRequest]) -> Entry | None:
        self.report = lambda order_id: None  # type: ignore[method-assign]
        try:
            return submit(self, requests)
        finally:
            del self.report

    PaperBook.submit = submit_again  # type: ignore[method-assign]
    PaperOms.query = lambda self, client, order_ids: [None] * len(order_ids)  # type: ignore[method-assign]


def without_book_sync() -> None:
    """The paper OMS answers and tells of what is in its journal, and not on the disk."""

    def pretend(self: PaperJournal) -> None:
        self.told = self.number

    PaperJournal.sync = pretend  # type: ignore[method-assign]


def with_early_cursor() -> None:
    """The QuantConnect sink says that it has what it is about to write."""
    write = QuantConnectSink.write

    def write_late(self: QuantConnectSink, decisions: Sequence[Decision]) -> None:
        progress = self._opened()
        save_progress(self._cursor_path, Progress(decisions[-1].number + 1, progress.files))
        write(self, decisions)

    QuantConnectSink.write = write_late  # type: ignore[method-assign]


def with_faith() -> None:
    """What a sync says of a failing disk is not believed: the process goes on."""

    def trusting(sync: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def trusted(self: Any) -> Any:
            try:
                return sync(self)
            except OSError:
                return None

        return trusted

    AppendLog.sync = trusting(AppendLog.sync)  # type: ignore[method-assign]
    TapeWriter.make_durable = trusting(TapeWriter.make_durable)  # type: ignore[method-assign]


TWINS: dict[str, Callable[[], None]] = {
    "gate": without_gate,
    "sync": without_sync,
    "luck": with_luck,
    "digests": without_digests,
    "rings": without_rings,
    "beat": without_beat,
    "lock": without_lock,
    "memory": without_memory,
    "book": without_book_sync,
    "cursor": with_early_cursor,
    "faith": with_faith,
}
