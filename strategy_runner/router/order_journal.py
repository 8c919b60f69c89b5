"""The order desk's journal: its entries in an append-only log, with a note of the book they make; and the client's fill log.

Both have one writer, the desk. An event that a worker is told of stands in the fill log before it stands in the journal, so
after a kill what the journal lacks is taken over from there, and nothing is told twice.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.counted import counted
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.private import PrivateEntry, decode_private, encode_private, is_told
from strategy_runner.oms.order_machine import Order
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.note import read_note, write_note
from strategy_runner.router.order_book import OrderBook, fold, is_stale, money_symbol, order_of, problem_of
from strategy_runner.router.order_entry import OWN, Contradicted, Happened, Heard, Intended, OrderEntry
from strategy_runner.tape.logs import FRAME_BYTES, START, AppendLog, read_frames

NOTE_ENTRIES = 5_000
FILLS_MODE = 0o600

log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_decoder: "msgspec.msgpack.Decoder[OrderEntry]" = msgspec.msgpack.Decoder(OrderEntry)


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The book as of `offset` in the journal, when the fill log ended at `fills_offset` with so many `fills`."""

    offset: int
    fills_offset: int
    fills: int
    book: OrderBook


class Written(NamedTuple):
    """An entry that stands in the journal, and where its frame begins and ends."""

    begin: int
    end: int
    entry: OrderEntry


class OrderJournal:
    """The one writer of both logs. Raises StateError, OSError."""

    def __init__(
        self,
        folder: Path,
        fills: Path,
        client: str,
        instruments: Mapping[str, Instrument],
        *,
        written: "deque[Written] | None" = None,
    ) -> None:
        """`instruments` are what money is counted with from now on; they may change, and be given more symbols. Whatever is
        written comes into `written` too, for who follows the journal in this process."""
        folder.mkdir(parents=True, exist_ok=True)
        self._written = written
        self._instruments = instruments
        self._note_path = folder / "orders.note"
        note = _read_note(self._note_path, client)
        self.book = note.book
        self._noted = note.book.entries
        self._fill_number = note.fills
        self._log = AppendLog(order_log(folder), whole_to=note.offset, unsynced=_comes_again)
        last: OrderEntry | None = None
        for _, last in read_orders(order_log(folder), note.offset):
            fold(self.book, last, instruments)
        self._complete(folder, last)
        self._fills_noted = note.fills_offset
        self._fills = AppendLog(fills, whole_to=note.fills_offset, unsynced=self._are_unheard)
        fills.chmod(FILLS_MODE)

    @property
    def fills_offset(self) -> int:
        """How much of the fill log is on the disk."""
        return self._fills.offset

    def append(self, entries: Sequence[OrderEntry]) -> None:
        """Survives kill -9, and changes the book."""
        if not entries:
            return
        self._write(entries)
        for entry in entries:
            fold(self.book, entry, self._instruments)

    def sync(self) -> None:
        """Returns when everything appended survives a power cut."""
        self._log.sync()

    def take_events(self, events: Sequence[OmsEvent]) -> bool:
        """What happened: on the disk for the workers who are told, then in the journal. True if one of them is told of any.

        The book changes as it goes; after an error it is to be read anew.
        """
        entries: list[OrderEntry] = []
        told: list[bytes] = []
        passed = 0
        for event in events:
            if is_stale(self.book, event):
                passed = event.number + 1
                continue
            problem, number = problem_of(self.book, event, self._instruments), self._fill_number
            order = self.book.find(order_of(event))
            tells = not problem and is_told(event) and _concerns_worker(event, order)
            self._fill_number += tells
            entries += self._happened(event, problem, self._changed_instrument(event) if not problem else None)
            if tells:
                names = (order.request.signal_id, order.request.leg) if order and event.report else ()
                position = self.book.position(event.account, event.strategy, event.symbol)
                worker = f"{event.strategy}.{event.symbol}"
                told.append(encode_private(PrivateEntry(number, worker, event, position, *names)))
        if passed > self.book.next_event:
            heard = Heard(at_ns=time.time_ns(), next_event=passed)
            fold(self.book, heard, self._instruments)
            entries.append(heard)
        if told:
            self._fills.append_many(told)
            self._fills.sync()
        if entries:
            self._write(entries)
        return bool(told)

    def take_over(self) -> None:
        """What workers were told of before the desk was killed, and the journal does not say. Once, when the orders that were
        told of are in the book; durable when it returns.

        Raises StateError if the journal says that they were told of more: what comes next would have the numbers of that.
        """
        entries: list[OrderEntry] = []
        for entry in read_fills(self._fills.path, self._fills_noted):
            assert entry.number == self._fill_number, (entry.number, self._fill_number)
            self._fill_number += 1
            if entry.number >= self.book.fills:
                is_counted = money_symbol(entry.event) in self.book.instruments  # and was when its worker was told
                instrument = None if is_counted else self._changed_instrument(entry.event)
                entries += self._happened(entry.event, "", instrument)
        if self._fill_number < self.book.fills:
            raise StateError(
                f"{self._fills.path}: expected the {counted(self.book.fills, 'entry')} that the order journal knows of, "
                f"found {self._fill_number}: restore the file from a copy"
            )
        if entries:
            self._fills.sync()
            self._write(entries)
        self._log.sync()

    def note(self, *, force: bool = False) -> None:
        if not force and self.book.entries - self._noted < NOTE_ENTRIES:
            return
        self.sync()
        made = _Note(offset=self._log.offset, fills_offset=self._fills.offset, fills=self._fill_number, book=self.book)
        try:
            write_note(self._note_path, msgspec.msgpack.encode(made))
        except OSError as error:
            log.warning("%s: no note at entry %d: %s", self._note_path, self.book.entries, error)
        self._noted = self.book.entries

    def close(self) -> None:
        self._log.close()
        self._fills.close()

    def _are_unheard(self, behind: Iterator[bytes]) -> bool:
        """What is told is synced before the journal says so."""
        return all(decode_private(payload).number > self.book.fills for payload in behind)

    def _write(self, entries: Sequence[OrderEntry]) -> None:
        payloads = [_encode(entry) for entry in entries]
        begin = self._log.append_many(payloads)
        if self._written is None:
            return
        for entry, payload in zip(entries, payloads, strict=True):
            end = begin + FRAME_BYTES + len(payload)
            self._written.append(Written(begin, end, entry))
            begin = end

    def _changed_instrument(self, event: OmsEvent) -> Instrument | None:
        """What an event's money is counted with now, if that is another than before."""
        symbol = money_symbol(event)
        instrument = self._instruments.get(symbol)
        return None if instrument == self.book.instruments.get(symbol) else instrument

    def _happened(self, event: OmsEvent, problem: str, instrument: Instrument | None) -> list[OrderEntry]:
        """The entries of an event, taken into the book."""
        at_ns = time.time_ns()
        happened = Happened(
            at_ns=at_ns, event=event, fills=self._fill_number, counts=not problem, instrument=instrument
        )
        entries: list[OrderEntry] = [happened]
        if problem:
            log.error("%s: %s", event.symbol, problem)
            entries.append(Contradicted(at_ns=at_ns, symbol=event.symbol, problem=problem))
        for entry in entries:
            fold(self.book, entry, self._instruments)
        return entries

    def _complete(self, folder: Path, last: OrderEntry | None) -> None:
        """A journal that ends with an intent may have lost those behind it of the same decision, with the power."""
        if not isinstance(last, Intended) or last.decision == OWN:
            return
        decisions = DecisionReader(decision_log(folder), last.decision)
        try:
            orders = [order for one in decisions.read() if one.number == last.decision for order in one.orders]
        finally:
            decisions.close()
        missing = [order for order in orders if self.book.find(order.client_order_id) is None]
        if missing:
            log.warning(
                "%s: %d intents of decision %d were lost and are made again", folder, len(missing), last.decision
            )
        self.append([msgspec.structs.replace(last, order=order) for order in missing])


def order_log(folder: Path) -> Path:
    """In the router's folder."""
    return folder / "orders.log"


def cut_lost_entries(folder: Path, client: str) -> None:
    """What opening the journal does with the end that a power cut left, for who reads entries before. Raises StateError,
    OSError."""
    path = order_log(folder)
    if path.exists():
        AppendLog(path, whole_to=_read_note(folder / "orders.note", client).offset, unsynced=_comes_again).close()


def read_book(folder: Path, client: str, instruments: Mapping[str, Instrument]) -> OrderBook:
    """The book that the journal makes now, for who only reads. Raises StateError, ConfigurationError."""
    note, path = _read_note(folder / "orders.note", client), order_log(folder)
    try:
        for _, entry in read_orders(path, note.offset):
            fold(note.book, entry, instruments)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise StateError(f"{path}: expected an entry of the order desk behind {note.offset}: {problem}") from problem
    return note.book


def read_orders(path: Path, offset: int = START) -> Iterator[tuple[int, OrderEntry]]:
    """(offset behind it, entry) of each entry that stands there now."""
    for end, payload in read_frames(path, offset):
        yield end, decode_entry(payload)


def read_fills(path: Path, offset: int = START) -> Iterator[PrivateEntry]:
    """Each entry of a fill log that stands there now."""
    for _, payload in read_frames(path, offset):
        yield decode_private(payload)


def decode_entry(payload: bytes) -> OrderEntry:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(payload)


def _comes_again(behind: Iterator[bytes]) -> bool:
    """What a power cut takes behind the note comes again of the decisions, the fill log and what the OMS is asked."""
    return True


def _concerns_worker(event: OmsEvent, order: Order | None) -> bool:
    """An order that nobody here has sent, or that was forgotten, is no worker's: only what it would have moved is."""
    return order is not None or event.fill is not None or event.amount is not None


def _read_note(path: Path, client: str) -> _Note:
    """An empty note, which costs a whole read, for one that is missing, damaged or of an older form.

    Raises StateError for another client's.
    """
    empty = _Note(offset=START, fills_offset=START, fills=0, book=OrderBook(client=client))
    payload = read_note(path)
    try:
        note = msgspec.msgpack.decode(payload, type=_Note) if payload else empty
    except msgspec.DecodeError:
        return empty
    if note.book.client != client:
        raise StateError(f"{path}: expected the orders of {client}, found those of {note.book.client}")
    return note
