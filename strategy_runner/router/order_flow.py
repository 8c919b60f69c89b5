"""The order flow: from decisions to orders at the OMS, and from its events to fills. Bounded turns, driven by the desk's thread.

An order is durable before it may leave, in the decision that accepted it. What was sent without an answer is UNKNOWN and is
asked about until the OMS answers; it is sent again, with its own id, only after the OMS has said that it never had it. So one
intent is one order at the OMS or none, whatever dies at whatever moment.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OmsEventKind, OrderReport, OrderRequest, OrderState
from strategy_runner.oms.interface import Oms, OmsUnavailable
from strategy_runner.oms.order_machine import (
    Absent,
    Acknowledged,
    Cancelled,
    Expired,
    IllegalTransitionError,
    Lost,
    News,
    Rejected,
    advance,
    news_of_report,
    report_of,
)
from strategy_runner.oms.refusal import SESSION_OVER, OmsRefused
from strategy_runner.risk.checks import UNKNOWN_OUTCOME
from strategy_runner.risk.limits import Rate
from strategy_runner.risk.priority import QUEUE_FULL, WAITED_TOO_LONG, OrderQueue, Taken, Waiting
from strategy_runner.risk.working import PROTECTIVE_LEGS
from strategy_runner.router import order_changes
from strategy_runner.router.journal import DecisionReader
from strategy_runner.router.order_book import closes_now, is_closed_behind
from strategy_runner.router.order_changes import OrderChanges
from strategy_runner.router.order_entry import OWN, CancelWanted, Contradicted, Intended, Leaving, OrderEntry, Told
from strategy_runner.router.order_index import DeskOrder
from strategy_runner.router.order_journal import OrderJournal

QUEUE_SIZE = 10_000
# of one piece of work, between which signals that wait are decided
BATCH_ORDERS_MAX = 100
EVENTS_MAX = 50
ASK_AGAIN_S = 0.25
CANCEL_AGAIN_S = 1.0
NEVER_NS = 1 << 62
ENTRY_ENDED = "entry_ended"
_ENDS: dict[OmsEventKind, type[Rejected | Expired | Cancelled]] = {
    "rejected": Rejected,
    "expired": Expired,
    "cancelled": Cancelled,
}
REASONS: dict[str, str] = {
    ENTRY_ENDED: "a stop loss or take profit whose entry was never sent, or ended without a fill",
    "asked": "the order was cancelled before it left",
    **order_changes.REASONS,
    "oms_malformed": "the OMS takes no such order: a number or a name of it cannot be",
    "oms_too_large": "the OMS takes no message of this size",
    "oms_foreign_client": "the way into the OMS belongs to another client",
    "oms_unsupported_version": "the OMS speaks another version of the protocol",
    "oms_refused": "the OMS did not do what it was asked, for a reason that the router's log has in words",
}

log = logging.getLogger(__name__)


class OrderFlow:
    """One life of the desk: begins with what the journal holds, ends with the first error of the disk."""

    def __init__(
        self,
        journal: OrderJournal,
        oms: Oms,
        decisions: DecisionReader,
        *,
        clock: Callable[[], int],
        event_ns: Callable[[], int],
        ring: Callable[[int], None],
        rate: Rate,
        priorities: Sequence[str],
        instruments: Mapping[str, Instrument],
        below: int,
    ) -> None:
        """`clock` is the feed's, `event_ns` how far tape time has come; `ring` is told how much of the fill log is durable.
        Decisions `below` this offset of their log are durable, and a life before may have sent their orders."""
        self._journal = journal
        self._book = journal.book
        self._oms = oms
        self._decisions = decisions
        self._clock = clock
        self._event_ns = event_ns
        self._ring = ring
        self._priorities = list(priorities)
        self._queue = OrderQueue.empty(rate, QUEUE_SIZE, clock())
        self._groups: dict[int, list[str]] = {}
        self._own_groups = OWN
        self._ask_at = 0.0
        self._cancel_at: dict[str, float] = {}
        self._uncancelled: dict[str, str] = {}
        self._changes = OrderChanges(journal, oms, instruments, self._own)
        while self._intend(below) is not None:  # a power cut may have taken what the journal said of these
            pass
        journal.take_over()
        # asked about before anything is sent
        self._asking = {one.order.id for one in self._book.in_state(*_MAYBE_SENT)}
        self.is_drained = False  # every event that the OMS had told at the last look is taken in
        lost = [one.order.id for one in self._book.in_state(OrderState.SENT)]
        self._tell([(order_id, Lost()) for order_id in lost])
        ring(journal.fills_offset)

    @property
    def is_settled(self) -> bool:
        """Whether no order's outcome is open and every event that the OMS has told is taken in."""
        return self.is_drained and not self._asking

    @property
    def asking(self) -> int:
        return len(self._asking)

    @property
    def fault(self) -> str:
        """Why the OMS does not cancel an order that is to be cancelled, "" if it cancels all."""
        return next(iter(self._uncancelled.values()), "")

    def set_terms(self, rate: Rate, priorities: Sequence[str]) -> None:
        """From now on."""
        self._priorities = list(priorities)
        if rate != self._queue.entries.rate:
            waiting = self._queue.waiting
            self._queue = OrderQueue.empty(rate, QUEUE_SIZE, self._clock())
            self._queue.waiting = waiting

    # -- from decisions ----------------------------------------------------------------------------------------------------

    def take_decisions(self, below: int) -> bool:
        """Makes intents of the orders of durable decisions."""
        groups = self._intend(below)
        for number, order_ids in groups or ():
            self._enqueue(number, order_ids)
        return groups is not None

    def _intend(self, below: int) -> list[tuple[int, list[str]]] | None:
        """The intents of the next decisions, as groups of orders that leave together; None if there are no more decisions. What
        the journal loses of them with the power comes of the decisions again, so nobody waits for the disk."""
        before = self._decisions.number
        decisions = self._decisions.read(below=below, accepted=True)
        if self._decisions.number == before:
            if below and before < self._book.next_decision:
                raise StateError(
                    f"decisions: expected the {self._book.next_decision} that the order journal knows, found {before}"
                )
            return None
        at_ns = time.time_ns()
        entries: list[OrderEntry] = []
        groups: list[tuple[int, list[str]]] = []
        intended: set[str] = set()
        for decision in decisions:
            if decision.number < self._book.next_decision or decision.is_observed:
                continue
            if not decision.orders:
                entries += self._changes.wanted(decision, intended, at_ns)
                continue
            groups.append((decision.number, [order.client_order_id for order in decision.orders]))
            intended |= {order.client_order_id for order in decision.orders}
            for order in decision.orders:
                intent = Intended(at_ns=at_ns, order=order, decision=decision.number, expires_ns=decision.expires_ns)
                entries.append(intent)
        self._journal.append(entries)
        self._book.next_decision = max(self._book.next_decision, self._decisions.number)
        return groups

    def want(self, entries: Sequence[OrderEntry]) -> None:
        """Entries of the desk's own; durable when it returns. Their intents leave before all others."""
        self._journal.append(entries)
        self._journal.sync()
        for entry in entries:
            if isinstance(entry, Intended):
                self._enqueue_own(entry.order.client_order_id)

    def _enqueue_own(self, order_id: str) -> None:
        self._own_groups -= 1
        self._enqueue(self._own_groups, [order_id])

    def _enqueue(self, number: int, order_ids: list[str]) -> None:
        """Orders that leave together. Only entries and lone exits wait for their turn and their time; the exits of an entry that
        is at the OMS already must reach it."""
        found = self._book.orders.get(order_ids[0])
        if found is None:
            return
        order, leads = found.order.request, found.order.request.leg not in PROTECTIVE_LEGS
        rank = self._priorities.index(order.strategy) if order.strategy in self._priorities else len(self._priorities)
        expires_ns = found.expires_ns if leads and found.expires_ns else NEVER_NS
        waiting = Waiting(
            urgency=0 if order.reduce_only else 1,
            rank=-1 if number < 0 else rank,
            since_ns=self._clock(),
            number=number,
            signal_id=order.signal_id,
            expires_ns=expires_ns,
        )
        self._groups[number] = order_ids
        out = self._queue.put(waiting)
        if out is not None:
            self._end(out.number, "rejected", QUEUE_FULL)

    # -- to the OMS --------------------------------------------------------------------------------------------------------

    def lapse(self) -> bool:
        """Ends what has waited too long, also while the OMS cannot be asked."""
        late = self._queue.lapse(self._clock())
        for one in late:
            self._end(one.number, "expired", WAITED_TOO_LONG)
        return bool(late)

    def idle_ms(self, at_most: int) -> int:
        """How long nothing need be sent, if nothing comes."""
        next_ns = self._queue.next_ns()
        return at_most if next_ns is None else max(1, min(at_most, -(-(next_ns - self._clock()) // 1_000_000)))

    def send(self, *, exits_only: bool = False) -> bool:
        """Sends what may go now. Raises OmsUnavailable: then what was under way is UNKNOWN."""
        taken = self._queue.take(self._clock(), BATCH_ORDERS_MAX)
        if exits_only:
            self._put_back([one for one in taken.ready if not one.is_exit])
            taken = Taken([one for one in taken.ready if one.is_exit], taken.expired)
        for one in taken.expired:
            self._end(one.number, "expired", WAITED_TOO_LONG)
        batch: list[int] = []
        count, now_ns = 0, self._clock()
        blocked = self._blocked() if taken.ready else set()
        for index, one in enumerate(taken.ready):
            self._drop_cancelled(one.number)
            orders = self._unsent(one.number)
            if count + len(orders) > BATCH_ORDERS_MAX and batch:
                self._put_back(taken.ready[index:])
                break
            if one.expires_ns <= now_ns:
                self._end(one.number, "expired", WAITED_TOO_LONG)
            elif not one.is_exit and not blocked.isdisjoint(("", *(order.symbol for order in orders))):
                self._end(one.number, "rejected", UNKNOWN_OUTCOME)
            elif orders:
                batch.append(one.number)
                count += len(orders)
            else:
                self._groups.pop(one.number, None)  # cancelled while they waited
        if batch:
            self._submit(batch)
        return bool(taken.ready or taken.expired)

    def _drop_cancelled(self, number: int) -> None:
        """Ends what was cancelled before it left, and the exits that depend on it."""
        for order_id in self._groups.get(number, ()):
            one = self._book.orders.get(order_id)
            if one is not None and one.order.state is OrderState.INTENT and (one.cancel or self._is_orphan(one)):
                self._own_event(one, "cancelled", one.why or "asked" if one.cancel else ENTRY_ENDED)

    def _blocked(self) -> set[str]:
        return {*self._book.index.unknown.values(), *self._book.contradicted}

    def _unsent(self, number: int) -> list[OrderRequest]:
        known = [self._book.orders.get(order_id) for order_id in self._groups.get(number, ())]
        return [one.order.request for one in known if one is not None and one.order.state is OrderState.INTENT]

    def _submit(self, numbers: list[int]) -> None:
        orders = [order for number in numbers for order in self._unsent(number)]
        order_ids = [order.client_order_id for order in orders]
        self._journal.append([Leaving(at_ns=time.time_ns(), client_order_ids=tuple(order_ids))])
        try:
            reports = self._oms.submit(orders)
        except OmsUnavailable:
            self._forget(numbers)  # what the OMS never had is grouped anew once it has said so
            self._tell([(order_id, Lost()) for order_id in order_ids])
            self._asking |= set(order_ids)
            raise
        except OmsRefused as refused:
            self._take_back(order_ids)
            self._refused(numbers, refused)
            return
        self._forget(numbers)
        self._tell([(report.client_order_id, self._answered(report)) for report in reports])
        self._asking |= self._book.index.unknown.keys()

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._groups[number]

    def _take_back(self, order_ids: Sequence[str]) -> None:
        """Nothing has happened to them: the OMS says so."""
        self._tell([(order_id, news) for order_id in order_ids for news in (Lost(), Absent())])

    def _refused(self, numbers: list[int], refused: OmsRefused) -> None:
        """Sends again what only the session was wrong of; else finds out by halves which of them the OMS does not take."""
        if refused.code in SESSION_OVER:
            self._enqueue_again(numbers)
            raise OmsUnavailable(str(refused))
        if len(numbers) == 1:
            log.error("decision %d: %s", numbers[0], refused)
            self._end(numbers[0], "rejected", f"oms_{refused.code}")
            return
        half = len(numbers) // 2
        try:
            self._submit(numbers[:half])
        except OmsUnavailable:
            self._enqueue_again(numbers[half:])  # they were taken back with the others, and nobody asks about them
            raise
        self._submit(numbers[half:])

    def _enqueue_again(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._enqueue(number, self._groups[number])

    def _put_back(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            self._queue.put(one)
            bucket = self._queue.exits if one.is_exit else self._queue.entries
            bucket.credit_ns = min(bucket.rate.span_ns, bucket.credit_ns + bucket.cost_ns)

    def tidy(self) -> bool:
        """Wants the end of what could still be filled though it should not: the entries and exits from before a close of all
        that was held, and the exits of a position that is gone. An OMS may do so by itself; then nothing is left to do here."""
        index = self._book.index
        if not index.touched:
            return False
        at_ns = time.time_ns()
        wanted = [
            CancelWanted(at_ns=at_ns, client_order_id=one.order.id)
            for worker in index.touched
            for one in index.of(worker)
            if not one.cancel and not closes_now(one) and self._is_left(one)
        ]
        self._journal.append(wanted)
        index.touched.clear()
        return bool(wanted)

    def _is_left(self, one: DeskOrder) -> bool:
        request = one.order.request
        if is_closed_behind(self._book, one):
            return True
        if request.leg == "exit":
            return one.order.is_known and not self._book.held(request.strategy, request.symbol)
        if request.leg not in PROTECTIVE_LEGS or not one.order.is_known:
            return False
        entry = self._book.find(request.bracket)
        return (entry is None or entry.is_final) and not self._book.held(request.strategy, request.symbol)

    def cancel(self) -> bool:
        """Cancels what is to be cancelled: here what never left, at the OMS the rest. Raises OmsUnavailable."""
        wanted = [self._book.orders[order_id] for order_id in self._book.index.cancelling]
        if not wanted:
            self._cancel_at.clear()
            self._uncancelled.clear()
            return False
        worked = False
        for one in [one for one in wanted if one.order.state is OrderState.INTENT and one.order.id not in self._asking]:
            self._own_event(one, "cancelled", one.why or "asked")
            worked = True
        now = time.monotonic()
        self._cancel_at = {order_id: at for order_id, at in self._cancel_at.items() if order_id in self._book.orders}
        self._uncancelled = {
            order_id: why for order_id, why in self._uncancelled.items() if order_id in self._cancel_at
        }
        for one in wanted:
            if one.order.is_known and not one.order.is_final and now >= self._cancel_at.get(one.order.id, 0.0):
                self._cancel_at[one.order.id] = now + CANCEL_AGAIN_S
                self._cancel(one.order.id)
                worked = True
        return worked

    def _cancel(self, order_id: str) -> None:
        """What is refused is asked again later; other orders do not wait for it."""
        try:
            report = self._oms.cancel(order_id)
        except OmsRefused as refused:
            if refused.code in SESSION_OVER:
                raise OmsUnavailable(str(refused)) from refused
            self._uncancelled[order_id] = f"order {order_id}: not cancelled: {refused}"
            log.error("%s; next try in %g s", self._uncancelled[order_id], CANCEL_AGAIN_S)
            return
        self._uncancelled.pop(order_id, None)
        if report.state is not OrderState.REJECTED:
            self._tell([(order_id, self._answered(report))])

    def modify(self) -> bool:
        """Changes at the OMS what strategies want changed. Raises OmsUnavailable."""
        return self._changes.turn()

    def resolve(self) -> bool:
        """Asks about orders whose outcome is not known. Raises OmsUnavailable."""
        self._asking = {order_id for order_id in self._asking if order_id in self._book.orders}
        if not self._asking or time.monotonic() < self._ask_at:
            return False
        order_ids = sorted(self._asking)
        self._ask_at = time.monotonic() + ASK_AGAIN_S
        reports = self._oms.query(order_ids)
        again: dict[int, list[str]] = {}
        for order_id, report in zip(order_ids, reports, strict=True):
            if not self._tell([(order_id, self._answered(report) if report is not None else Absent())]):
                self._asking.discard(order_id)  # asking does not help any more: it is a person's turn
                continue
            known = self._book.orders.get(order_id)
            if known is not None and known.order.state is OrderState.UNKNOWN:
                continue
            self._asking.discard(order_id)
            if known is not None and known.order.state is OrderState.INTENT:
                if self._is_orphan(known):
                    self._own_event(known, "cancelled", ENTRY_ENDED)
                elif known.decision == OWN:
                    self._enqueue_own(order_id)
                else:
                    again.setdefault(known.decision, []).append(order_id)
        for number, group in again.items():
            self._enqueue(number, sorted(group, key=self._leg_of))
        return True

    def _answered(self, report: OrderReport) -> News:
        """What an answer says of an order. One that ends it before all is told that it filled only says that the OMS has it: what
        protects those fills goes with an entry that has none, and the end is told behind them."""
        known = self._book.find(report.client_order_id)
        news = news_of_report(report)
        if known is None or not isinstance(news, Cancelled | Expired) or not report.filled.is_finite():
            return news
        return news if report.filled <= known.filled else Acknowledged(report.oms_order_id)

    def _is_orphan(self, one: DeskOrder) -> bool:
        """An exit whose entry is over and has filled nothing; a bracket is called by its entry's id."""
        request = one.order.request
        entry = self._book.find(request.bracket) if request.leg in PROTECTIVE_LEGS else None
        return entry is not None and entry.is_final and not entry.filled

    def _leg_of(self, order_id: str) -> bool:
        return self._book.orders[order_id].order.request.leg in PROTECTIVE_LEGS

    # -- from the OMS ------------------------------------------------------------------------------------------------------

    def take_events(self) -> bool:
        """Takes in what the OMS tells. Raises OmsUnavailable."""
        try:
            events = self._oms.events(self._book.next_event, EVENTS_MAX)
        except OmsRefused as refused:
            if refused.code == "ahead" and "" not in self._book.contradicted:
                self._journal.append([Contradicted(at_ns=time.time_ns(), symbol="", problem=str(refused))])
            elif refused.code != "ahead":
                raise OmsUnavailable(str(refused)) from refused
            self.is_drained = True
            return False
        self.is_drained = len(events) < EVENTS_MAX
        if events:
            self.happen(events)
        return bool(events)

    def events_known(self) -> int:
        """How many events the OMS knows of, for one that lost some. Raises OmsUnavailable."""
        low, high = 0, self._book.next_event
        while low < high:
            middle = (low + high + 1) // 2
            try:
                self._oms.events(middle, 1)
                low = middle
            except OmsRefused as refused:
                if refused.code != "ahead":
                    raise OmsUnavailable(str(refused)) from refused
                high = middle - 1
        return low

    def happen(self, events: Sequence[OmsEvent]) -> None:
        if self._journal.take_events(events):
            self._ring(self._journal.fills_offset)

    def _end(self, number: int, kind: OmsEventKind, reason: str) -> None:
        """Ends orders that never left, the first for the reason and the exits that depend on it with it."""
        group = [self._book.orders.get(order_id) for order_id in self._groups.pop(number, ())]
        for one in [one for one in group if one is not None and one.order.state is OrderState.INTENT]:
            if one.order.request.leg in PROTECTIVE_LEGS:
                self._own_event(one, "cancelled", ENTRY_ENDED)
            else:
                self._own_event(one, kind, reason)

    def _own_event(self, one: DeskOrder, kind: OmsEventKind, reason: str) -> None:
        self._own(one, kind, report_of(advance(one.order, _ENDS[kind](reason))))

    def _own(self, one: DeskOrder, kind: OmsEventKind, report: OrderReport) -> None:
        request = one.order.request
        event = OmsEvent(
            number=OWN,
            client=request.client,
            kind=kind,
            event_ns=max(self._event_ns(), request.event_ns),
            seq=-1,
            report=report,
            account=request.account,
            strategy=request.strategy,
            symbol=request.symbol,
        )
        self.happen([event])

    def _tell(self, told: Sequence[tuple[str, News]]) -> bool:
        """Notes what is known of orders now; False if some of it contradicts what was known."""
        at_ns, is_sound = time.time_ns(), True
        entries: list[OrderEntry] = []
        latest: dict[str, DeskOrder] = {}
        for order_id, news in told:
            known = latest.get(order_id) or self._book.orders.get(order_id)
            if known is None:
                continue
            try:
                after = advance(known.order, news)
            except IllegalTransitionError as error:
                is_sound = False
                symbol = known.order.request.symbol
                log.error("%s: %s", symbol, error)
                if symbol not in self._book.contradicted:
                    entries.append(Contradicted(at_ns=at_ns, symbol=symbol, problem=str(error)))
                continue
            if after is not known.order:
                latest[order_id] = DeskOrder(order=after, decision=known.decision, expires_ns=known.expires_ns)
                entries.append(Told(at_ns=at_ns, news=news, report=report_of(after)))
        self._journal.append(entries)
        return is_sound


# an intent too: what was noted of its sending may have been lost with the power
_MAYBE_SENT = (OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN)
