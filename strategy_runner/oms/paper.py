"""The paper OMS: fills the orders of all clients from the tape, durably. One agent for the one loop, and the backend that the
protocol's server asks.

Each client has a book and a journal of its own; nothing of one can touch another's. A submission is answered when it is
durable. A fill is durable before it is told, and rests on durable records only (market_tail.py). So after kill -9 the books
are what their journals say, and the tape is read on from there: nothing is filled twice, nothing is missed.

The requests come on the threads of the server, the turns on the loop's. One lock guards the books; the disk is waited for
outside it, so that one sync serves all who wait.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from strategy_runner.bus.doorbell import StreamListener
from strategy_runner.errors import ConfigurationError, StateError
from strategy_runner.model.counted import counted
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest, OrderState
from strategy_runner.model.position import ZERO, Position
from strategy_runner.oms.market_tail import MarketTail, Tick
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.oms.paper_state import Entry, instrument_of
from strategy_runner.oms.protocol import ORDERS_MAX
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile

WAIT_MS_MAX = 50  # so long at most a first order in a symbol waits until the symbol is read
BEHIND_WAIT_MS = 2  # while records are published and not yet durable
LOOK_INTERVAL_S = 0.5  # for streams that are new to the tape
SNAPSHOT_SEQS = 2_000_000  # 160 MB: so much tape at most is kept for a restart
AHEAD_NS_MAX = 172_800_000_000_000  # two days: one source may be a day ahead of the feed's clock, and the next one late
MARK_RECORDS = 20_000  # read by a book to no effect, before its journal says how far: a restart reads no more

log = logging.getLogger(__name__)


class KeptBook:
    """One client's book, with the journal that it is the fold of."""

    def __init__(self, book: PaperBook, journal: PaperJournal) -> None:
        self.book = book
        self.journal = journal
        self.unmarked = 0  # records read since the last entry

    def write(self, entry: Entry | None) -> bool:
        """Writes an entry and folds it; False if there is none."""
        if entry is None:
            return False
        self.journal.append(entry)
        self.book.fold(entry)
        self.unmarked = 0
        return True


class PaperOms:
    """`on_news(client, number)` is called, on any thread, when events of a client below `number` can be read."""

    def __init__(
        self,
        folder: Path,
        clients: Sequence[str],
        *,
        instruments: Mapping[str, Instrument],
        default: FillSettings,
        reader: TapeReader,
        listener: StreamListener,
        status: StatusFile,
        settings: Mapping[str, Mapping[str, FillSettings]],
        opening: Mapping[str, Mapping[str, Mapping[str, Decimal]]],
    ) -> None:
        """`settings` by client and symbol, `opening` cash by client, account and currency. `unopened` says by client why its book
        cannot be opened. Raises StateError, ConfigurationError if that is so of all, OSError."""
        self._folder = folder
        self._instruments = dict(instruments)
        self._default = default
        self._settings = {client: dict(by_symbol) for client, by_symbol in settings.items()}
        self._reader = reader
        self._listener = listener
        self._file = status
        self._lock = threading.Lock()
        self.on_news: Callable[[str, int], None] | None = None
        self._books: dict[str, KeptBook] = {}
        status.enter(State.STARTING, "reads its journals")
        self.unopened: dict[str, str] = {}
        for client in clients:
            try:
                self.open_book(client, opening.get(client, {}))
            except (StateError, ConfigurationError) as error:
                # its own trouble, and nobody else's; its book has still to read what lies behind, so only a new life opens it
                log.error("%s: not served: %s", client, error)
                self.unopened[client] = status.status.last_error = str(error)
                if len(self.unopened) == len(clients):
                    raise  # there is nobody to serve
        self._tail = MarketTail(reader, self._restart_seq())
        self._target = reader.head.durable
        self._snapshot_seq = self._tail.seq
        self._next_look = 0.0
        self._tape_ns = 0
        self._records = 0
        self._watch()
        status.enter(State.CATCHING_UP, f"to seq {self._target}")

    def open_book(self, client: str, opening: Mapping[str, Mapping[str, Decimal]]) -> None:
        """Takes a client on; one that is known already stays as it is. Raises StateError, ConfigurationError, OSError."""
        if client in self._books:
            return
        journal = PaperJournal(self._folder / client, client)
        entries = journal.unread()
        settings = self._settings.get(client)
        book = PaperBook(journal.state, self._instruments, self._default, settings=settings, opening=opening)
        for entry in entries:
            book.fold(entry)
        for symbol in book.watched:
            instrument_of(self._instruments, client, symbol)
        count = self._reader.head.count
        if book.state.seq > count:
            raise StateError(
                f"{journal.path}: expected a book that has read at most the {counted(count, 'record')} of the tape, "
                f"found one that has read {book.state.seq}, of another tape; bring that one back, "
                f"or move {journal.path.parent} away to begin anew"
            )
        with self._lock:
            self._books = {**self._books, client: KeptBook(book, journal)}

    def set_terms(
        self,
        instruments: Mapping[str, Instrument],
        default: FillSettings,
        settings: Mapping[str, Mapping[str, FillSettings]],
    ) -> None:
        """New instruments and fill settings, from the next request and record on. An instrument that left stays known."""
        with self._lock:
            self._default = default
            self._settings = {client: dict(by_symbol) for client, by_symbol in settings.items()}
            self._instruments.update(instruments)
            for client, kept in self._books.items():
                kept.book.set_terms(default, self._settings.get(client, {}))

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """One bounded turn along the tape: fills, makes them durable, tells them. Returns the records read.

        Raises OSError when a journal cannot be written: the process ends, and its next life goes on from the journals.
        """
        with self._lock:
            self._note_tape_time()
            now = time.monotonic()
            if now >= self._next_look:
                self._watch()
                self._listener.listen(self._tail.streams)
                self._next_look = now + LOOK_INTERVAL_S
            ticks = self._tail.gather()
            filled = [kept for kept in self._books.values() if self._apply(kept, ticks)]
        for kept in filled:
            kept.journal.sync()
            self._tell(kept)
        self._records += len(ticks)
        self._take_snapshots()
        self._report(ticks)
        return len(ticks)

    def wait(self, timeout_ms: int = WAIT_MS_MAX) -> None:
        head = self._reader.head
        self._listener.wait(BEHIND_WAIT_MS if head.durable < head.count else timeout_ms)

    def stop(self) -> None:
        for kept in self._books.values():
            self._snapshot(kept)
        self._file.enter(State.STOPPED)

    def close(self) -> None:
        self._listener.close()
        for kept in self._books.values():
            kept.journal.close()

    # -- what clients ask ------------------------------------------------------------------------------------------------

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        """Durable when it returns. Raises OmsRefused for a client that the OMS does not serve, too many orders, and one that is
        far ahead of the tape; OSError."""
        kept = self._book_of(client)
        if len(orders) > ORDERS_MAX:
            raise OmsRefused("too_large", f"orders: expected at most {ORDERS_MAX}, found {len(orders)}")
        with self._lock:
            self._refuse_ahead(orders)
            news = kept.write(kept.book.submit(orders))
            if any(order.symbol not in self._watched for order in orders):
                self._next_look = 0.0
            reports = [kept.book.report(order.client_order_id) for order in orders]
        self._settle(kept, news)
        assert None not in reports
        return [report for report in reports if report is not None]

    def modify(self, client: str, change: OrderChange) -> OrderReport:
        """What the order is now; `reason` says why it was not changed."""
        kept = self._book_of(client)
        with self._lock:
            entry, reason = kept.book.modify(change)
            news = kept.write(entry)
            report = kept.book.report(change.client_order_id) or _unknown(client, change.client_order_id)
        self._settle(kept, news)
        return _with_reason(report, reason)

    def cancel(self, client: str, client_order_id: str) -> OrderReport:
        kept = self._book_of(client)
        with self._lock:
            news = kept.write(kept.book.cancel([client_order_id]))
            report = kept.book.report(client_order_id) or _unknown(client, client_order_id)
        self._settle(kept, news)
        return report

    def query(self, client: str, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        kept = self._book_of(client)
        with self._lock:
            reports = [kept.book.report(order_id) for order_id in client_order_ids]
        kept.journal.sync()  # what is answered may have been written a moment ago, by another call or a turn
        return reports

    def open_orders(self, client: str) -> list[OrderReport]:
        kept = self._book_of(client)
        with self._lock:
            reports = kept.book.open_orders()
        kept.journal.sync()
        return reports

    def positions(self, client: str) -> list[Position]:
        kept = self._book_of(client)
        with self._lock:
            positions = kept.book.positions()
        kept.journal.sync()
        return positions

    def events(self, client: str, from_number: int, limit: int) -> list[OmsEvent]:
        kept = self._book_of(client)
        with self._lock:
            return kept.journal.events(from_number, limit)

    def last_number(self, client: str) -> int:
        """How many events of a client can be read."""
        return self._book_of(client).journal.told

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _book_of(self, client: str) -> KeptBook:
        kept = self._books.get(client)
        if kept is None:
            raise OmsRefused("foreign_client", f"expected one of {', '.join(sorted(self._books))}, found {client!r}")
        return kept

    def _note_tape_time(self) -> None:
        """How far tape time has come: the last record may be older than one before it, of another source."""
        self._tape_ns = max(self._tape_ns, self._reader.head.event_ns)

    def _refuse_ahead(self, orders: Sequence[OrderRequest]) -> None:
        """An order comes of a record of the tape. One of a later time would take the book's time along, which never goes back."""
        self._note_tape_time()
        latest_ns = self._tape_ns + AHEAD_NS_MAX
        for index, order in enumerate(orders):
            if order.event_ns > latest_ns:
                raise OmsRefused(
                    "malformed",
                    f"orders[{index}].event_ns: expected at most {latest_ns}, two days ahead of the tape, found {order.event_ns}",
                )

    def _apply(self, kept: KeptBook, ticks: list[Tick]) -> bool:
        book, filled = kept.book, False
        for seq, event in ticks:
            entry = book.apply(seq, event)
            if entry is not None:
                filled = kept.write(entry)
        book.pass_to(self._tail.seq)
        kept.unmarked += len(ticks) if book.watched else 0
        return kept.write(book.mark()) if kept.unmarked >= MARK_RECORDS else filled

    def _settle(self, kept: KeptBook, news: bool) -> None:
        """Waits for the disk: also a repeated request is answered by what is durable."""
        kept.journal.sync()
        if news:
            self._tell(kept)

    def _tell(self, kept: KeptBook) -> None:
        if self.on_news is not None:
            self.on_news(kept.book.state.client, kept.journal.told)

    def _watch(self) -> None:
        self._watched = {symbol for kept in self._books.values() for symbol in kept.book.watched}
        self._tail.watch(self._watched)

    def _restart_seq(self) -> int:
        """Where the slowest book goes on; one that waits for no record goes on from now."""
        head = self._reader.head
        waiting = [kept.book for kept in self._books.values() if kept.book.watched]
        for book in waiting:
            if book.state.seq < head.first:
                log.warning(
                    "%s: the tape begins at seq %d and its book stood at %d: fills between them are not known",
                    book.state.client,
                    head.first,
                    book.state.seq,
                )
        return min((book.state.seq for book in waiting), default=int(head.durable))

    def _take_snapshots(self) -> None:
        """A book's when its journal has grown, all when the tape has."""
        far = self._tail.seq - self._snapshot_seq >= SNAPSHOT_SEQS
        for kept in self._books.values():
            if far or kept.journal.wants_snapshot:
                self._snapshot(kept)
        if far:
            self._snapshot_seq = self._tail.seq

    def _snapshot(self, kept: KeptBook) -> None:
        """Without one a restart takes longer and nothing is lost, so a full disk does not end the OMS."""
        with self._lock:
            taken = kept.journal.snapshot(kept.book.state)
        try:
            kept.journal.write_snapshot(taken)
        except OSError as error:
            log.warning("%s: no snapshot: %s", kept.journal.path, error)

    def _report(self, ticks: list[Tick]) -> None:
        """`signals` counts events told. The status tells the feed from where on the tape must be kept."""
        file, head = self._file, self._reader.head
        status = file.status
        status.position = status.progress = self._tail.seq
        status.total = head.count
        status.records = self._records
        status.signals = sum(kept.journal.told for kept in self._books.values())
        status.snapshot_seq = min((self._kept_from(kept) for kept in self._books.values()), default=self._tail.seq)
        if ticks:
            status.event_ns = ticks[-1][1].event_ns
        if self._tail.seq >= self._target and status.state is not State.FOLLOWING:
            names = ", ".join(self.unopened)
            way = f"mend what its log says of {names}, `strategy-runner restart oms:paper`; not served until then"
            file.enter(State.FOLLOWING, way if names else "")
        file.write()

    def _kept_from(self, kept: KeptBook) -> int:
        return kept.journal.restart_seq if kept.book.watched else self._tail.seq


def _unknown(client: str, client_order_id: str) -> OrderReport:
    return OrderReport(
        client_order_id=client_order_id,
        client=client,
        state=OrderState.REJECTED,
        quantity=ZERO,
        reason="unknown_order",
    )


def _with_reason(report: OrderReport, reason: str) -> OrderReport:
    return msgspec.structs.replace(report, reason=reason) if reason else report
