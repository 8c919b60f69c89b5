"""The risk record: a client's risk state, and the one log of what no other log tells: prices, days, people.

The state is what decisions, the order journal and this log together made of it, taken in in one order that this log keeps.
So a router that was killed has the state again that it had: no peak, no day's loss and no open breaker begins anew.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.decision import Decision
from strategy_runner.model.order import OrderChange, OrderReport, OrderRequest
from strategy_runner.model.signal import SignalBody, decode_body
from strategy_runner.oms.order_making import changes_of
from strategy_runner.risk import events
from strategy_runner.risk.aggregation import Wish
from strategy_runner.risk.events import RiskEvent
from strategy_runner.risk.state import RiskState, decode_state, encode_state
from strategy_runner.risk.transition import apply
from strategy_runner.risk.working import worker_key
from strategy_runner.router.journal import DecisionReader, cut_lost_decisions, decision_log
from strategy_runner.router.note import read_note, write_note
from strategy_runner.router.order_entry import OWN, Happened, Intended, Modified, OrderEntry, Told
from strategy_runner.router.order_journal import Written, cut_lost_entries, decode_entry, order_log
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.files import is_full
from strategy_runner.tape.logs import START, AppendLog, LogReader, read_frames

NOTE_INTERVAL_S = 1.0

log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the risk log: these events came first, then the order journal up to `orders` entries, then the decisions
    below number `decisions`."""

    events: tuple[RiskEvent, ...]
    orders: int
    decisions: int


class _Count(msgspec.Struct, frozen=True):
    """What a turn says of the order journal."""

    orders: int


decode_turn = msgspec.msgpack.Decoder(Turn).decode
_decode_count = msgspec.msgpack.Decoder(_Count).decode


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The state as of three places. What is not synced may be lost with the power, and a note of another boot with it."""

    boot: int
    turns_offset: int
    orders_offset: int
    orders: int
    decisions: int
    state: bytes
    standing: dict[str, Wish]


class RiskRecord:
    """`state` is read by whoever judges, and changed here alone. Raises StateError, OSError.

    `orders` and `decisions` count what of the order journal and the decision log is in the state. `standing` is what accepted
    entries asked for, the last of each worker and side, whatever came of it.
    """

    def __init__(self, folder: Path, client: str, mode: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._note_path = risk_note(folder)
        note = _read_note(self._note_path, client, mode)
        if note is None:  # the power may have been cut, and neither journal is open yet
            cut_lost_decisions(folder)
            cut_lost_entries(folder, client)
        self.state = decode_state(note.state, client, mode) if note else RiskState(client=client, mode=mode)
        self.standing: dict[str, Wish] = dict(note.standing) if note else {}
        self.orders = note.orders if note else 0
        self.decisions = note.decisions if note else 0
        self._orders = LogReader(order_log(folder), note.orders_offset if note else START)
        self._log = AppendLog(risk_log(folder), whole_to=note.turns_offset if note else START, unsynced=_are_unsynced)
        self._marks: dict[str, events.Marked] = {}
        self._pending: list[RiskEvent] = []
        self._unkept: list[Turn] = []
        self._is_moved = self._is_due = False
        self._next_note = 0.0
        self._replay(note.turns_offset if note else START)

    # -- what happens ----------------------------------------------------------------------------------------------------

    def take(self, event: RiskEvent) -> None:
        """An event that no other log tells. Kept with the next `keep`."""
        self._begin()
        self._flush_marks()
        apply(self.state, event)
        self._pending.append(event)
        self._is_due = True

    def mark(self, at_ns: int, symbol: str, price: Decimal) -> None:
        """The price of a symbol that is held. Only one that changes more than profits is worth keeping by itself."""
        if self.state.marks.get(symbol) == price:
            return
        self._begin()
        before = self.state.peak_equity, tuple(self.state.latches)
        event = events.Marked(at_ns=at_ns, symbol=symbol, price=price)
        apply(self.state, event)
        self._marks[symbol] = event
        if (self.state.peak_equity, tuple(self.state.latches)) != before:
            self._flush_marks()
            self._is_due = True

    def follow(self, written: "deque[Written] | None" = None) -> None:
        """Takes in what the order journal has more: the entries of its own writer in `written`, which need not be read again, or
        else all that stands there."""
        self._begin()
        if written is None:
            self._read()
            return
        while written:
            begin, end, entry = written.popleft()
            if begin == self._orders.offset:
                self._orders.offset = end
                self._follow(entry)
            elif begin > self._orders.offset:
                self._read()  # what came before it was never given here, or has been pushed out

    def _read(self) -> None:
        before = -1
        while self._orders.offset != before:
            before = self._orders.offset
            for _, payload in self._orders.read():
                self._follow(decode_entry(payload))

    def signalled(self, at_ns: int, strategy: str, symbol: str) -> None:
        apply(self.state, events.Signalled(at_ns=at_ns, strategy=strategy, symbol=symbol))

    def ordered(self, at_ns: int, orders: Sequence[OrderRequest], price: Decimal | None) -> None:
        for order in orders:
            apply(self.state, events.Ordered(at_ns=at_ns, order=order, price=price))

    def changed(self, at_ns: int, changes: Sequence[OrderChange]) -> None:
        """What was accepted counts before the OMS is asked for it."""
        for change in changes:
            apply(self.state, events.Changed(at_ns=at_ns, change=change))

    def decided(self, decision: Decision, wish: Wish | None) -> None:
        """A decision is durable whose signal and orders are in the state already."""
        assert decision.number == self.decisions, (decision.number, self.decisions)
        self.decisions += 1
        self._is_moved = True
        if wish is not None:
            key = standing_key(wish, decision.orders[0].symbol)
            self.standing.pop(key, None)  # the oldest come first
            self.standing[key] = wish

    # -- keeping -----------------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Writes what has come since the last time. On the disk if more than other logs tell, behind the orders that it counts;
        a full disk is tried again."""
        if self._marks and (self._pending or self._is_moved):
            self._flush_marks()
        if self._pending or self._is_moved:
            turn = Turn(events=tuple(self._pending), orders=self.orders, decisions=self.decisions)
            self._unkept.append(turn)
            self._pending, self._is_moved = [], False
        if not self._unkept:
            return
        if self._is_due:
            self._orders.sync()
        try:
            self._log.append_many([_encode(turn) for turn in self._unkept])
        except OSError as error:
            if not is_full(error):
                raise
            log.error("%s: cannot be written: %s; trying again", self._log.path, error.strerror)
            return
        if self._is_due:
            self._log.sync()
        self._unkept, self._is_due = [], False

    def note(self, *, force: bool = False) -> None:
        """Keeps the state, now and then; others read it there, and a restart begins with it."""
        now = time.monotonic()
        if now < self._next_note and not force:
            return
        self._next_note = now + NOTE_INTERVAL_S
        self.keep()
        if self._unkept:
            return
        note = _Note(
            boot=this_boot(),
            turns_offset=self._log.offset,
            orders_offset=self._orders.offset,
            orders=self.orders,
            decisions=self.decisions,
            state=encode_state(self.state),
            standing=self.standing,
        )
        try:
            write_note(self._note_path, _encode(note))
        except OSError as error:
            log.warning("%s: no note: %s", self._note_path, error)

    def close(self) -> None:
        self._orders.close()
        self._log.close()

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """What has moved so far comes before what comes now."""
        if self._is_moved:
            self.keep()

    def _flush_marks(self) -> None:
        self._pending += self._marks.values()
        self._marks = {}

    def _follow(self, entry: OrderEntry) -> None:
        self.orders += 1
        self._is_moved = True
        match entry:
            case Intended() if entry.decision == OWN:
                self.ordered(entry.at_ns, [entry.order], None)
            case Told():
                self._reported(entry.at_ns, entry.report)
            case Modified() if entry.is_made:
                apply(self.state, events.Changed(at_ns=entry.at_ns, change=entry.change, is_made=True))
            case Happened() if entry.counts:
                event = entry.event
                if event.report is not None:
                    self._reported(entry.at_ns, event.report, has_fill=event.fill is not None)
                if event.fill is not None:
                    apply(self.state, events.Filled(at_ns=entry.at_ns, fill=event.fill))
                if event.amount is not None:
                    paid = events.Paid(
                        at_ns=entry.at_ns, strategy=event.strategy, symbol=event.symbol, amount=event.amount
                    )
                    apply(self.state, paid)

    def _reported(self, at_ns: int, report: OrderReport, *, has_fill: bool = False) -> None:
        apply(self.state, events.Reported(at_ns=at_ns, report=report, has_fill=has_fill))

    def _replay(self, offset: int) -> None:
        """Everything behind the note, in the order that the risk log keeps; what it has not kept comes last.

        A power cut may take entries of the order journal that the last turns count. What is written in their place came later
        than those turns: the next turn says how many were left, and is on the disk before there are more.
        """
        path, counted = risk_log(self._folder), self.orders
        shortened = _shortened(path, offset)
        reader = DecisionReader(decision_log(self._folder), self.decisions)
        waiting: list[Decision] = []

        def decide_below(number: int | None) -> None:
            while number is None or self.decisions < number:
                if not waiting:
                    waiting.extend(reader.read())
                    if not waiting:
                        return
                self._decide_again(waiting.pop(0))

        def follow_to(number: int) -> None:
            while self.orders < number:
                _, payload = next(self._orders.read(1), (0, b""))
                if not payload:
                    return
                entry = decode_entry(payload)
                if isinstance(entry, Intended):
                    # it came first in any case; but after a cut earlier versions did not say how many entries were left
                    decide_below(entry.decision + 1)
                self._follow(entry)

        for end, payload in read_frames(path, offset):
            turn = decode_turn(payload)
            for event in turn.events:
                apply(self.state, event)
            while shortened and shortened[0][0] <= end:
                shortened.popleft()
            counted = turn.orders
            follow_to(min([counted, *(left for _, left in shortened)]))
            decide_below(turn.decisions)
        self._is_moved = self._is_due = self.orders < counted
        decide_below(None)
        reader.close()
        self.follow()

    def _decide_again(self, decision: Decision) -> None:
        """A decision of before the client traded here, before the first limits, is only counted."""
        if self.state.limits is None:
            self.decided(decision, None)
            return
        body = decode_body(decision.body)
        if decision.verdict != "expired":
            self.signalled(decision.decided_ns, body.strategy, body.symbol)
        self.ordered(decision.decided_ns, decision.orders, decision.price)
        if decision.verdict == "accepted" and body.action == "modify" and not decision.is_observed:
            self._change_again(decision.decided_ns, body)
        self.decided(decision, standing_wish(decision.orders, body.confidence))

    def _change_again(self, at_ns: int, body: SignalBody) -> None:
        assert self.state.limits is not None
        instrument = self.state.limits.instruments.get(body.symbol)
        if instrument is not None:
            self.changed(at_ns, changes_of(body, instrument))


def standing_wish(orders: Sequence[OrderRequest], confidence: float | None) -> Wish | None:
    """What an accepted entry goes on asking for while there is a position of it; None for an exit."""
    if not orders or orders[0].leg != "entry":
        return None
    entry = orders[0]
    return Wish(
        signal_id=entry.signal_id,
        strategy=entry.strategy,
        side=entry.side,
        size=entry.quantity,
        confidence=confidence,
    )


def standing_key(wish: Wish, symbol: str) -> str:
    """One for each side: of a strategy that asked for the other one as well, either may be all that came of it."""
    return f"{worker_key(wish.strategy, symbol)}/{wish.side}"


def _are_unsynced(behind: Iterator[bytes]) -> bool:
    """A turn that tells more than prices is synced before another one is written, so only the last of all may be one."""
    *before, _ = map(decode_turn, behind)
    return all(isinstance(event, events.Marked) for turn in before for event in turn.events)


def _shortened(path: Path, offset: int) -> deque[tuple[int, int]]:
    """(offset behind it, orders) of each turn that counts less of the order journal than the one before it."""
    found: deque[tuple[int, int]] = deque()
    counted = 0
    for end, payload in read_frames(path, offset):
        orders = _decode_count(payload).orders
        if orders < counted:
            found.append((end, orders))
        counted = orders
    return found


def risk_log(folder: Path) -> Path:
    """In the router's folder."""
    return folder / "risk.log"


def risk_note(folder: Path) -> Path:
    return folder / "risk.note"


def read_risk(folder: Path, client: str, mode: str) -> RiskState | None:
    """The state as a router's folder last noted it, at most about a second old while it runs; None before the first.

    Raises StateError for another client's.
    """
    payload = read_note(risk_note(folder))
    if payload is None:
        return None
    try:
        return decode_state(msgspec.msgpack.decode(payload, type=_Note).state, client, mode)
    except msgspec.DecodeError as error:
        raise StateError(f"{risk_note(folder)}: expected a risk state, found: {error}") from error


def _read_note(path: Path, client: str, mode: str) -> _Note | None:
    payload = read_note(path)
    try:
        note = msgspec.msgpack.decode(payload, type=_Note) if payload else None
        if note is None or note.boot != this_boot():
            return None
        decode_state(note.state, client, mode)
    except msgspec.DecodeError:
        return None
    return note
