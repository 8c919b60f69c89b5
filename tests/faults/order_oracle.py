"""The oracle of orders: every book that is kept of a client's orders, laid side by side, and arithmetic over the fills alone.

Each order of an accepted decision is one intent of the desk and one order at the OMS, or none there if the desk ended it before
it left; each event the worker is told of stands once in the desk's journal, once in the fill log, and has one record on the
tape; cash and positions are what the fills come to, whoever is asked.
"""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
from faults.verdict import Verdict

from strategy_runner.config.spec import RouterSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.fill import Fill
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent, OrderRequest, OrderState
from strategy_runner.model.private import PrivateEntry, Slot, decode_private, is_told, slot_of
from strategy_runner.model.signal import decode_body
from strategy_runner.model.stream import private
from strategy_runner.monitor.checks_orders import check_orders, check_protection
from strategy_runner.monitor.checks_records import check_records
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.oms.paper_state import Entry, fold
from strategy_runner.risk.state import worker_key
from strategy_runner.router import order_book
from strategy_runner.router.audit_check import sizes, verify
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.lost_stops import WHO as LOST_STOP
from strategy_runner.router.operator_log import read_actions
from strategy_runner.router.order_book import OrderBook
from strategy_runner.router.order_entry import OWN, Contradicted, Happened, Intended, OrderEntry
from strategy_runner.router.order_journal import order_log, read_orders
from strategy_runner.router.risk_record import read_risk
from strategy_runner.tape.logs import START, LogReader, read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.genesis import read_geneses

ON_THEIR_WAY = (OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN)
ECHO = "echo"  # the strategy that says how often it was told of fills
ANSWERED = 3  # each so many fills
_encode = msgspec.json.Encoder().encode


class Books:
    """What stands on the disk of one client's orders. `told` has where the frame of each entry of the fill log begins."""

    def __init__(self, router: RouterSpec, book: Path, decisions: list[Decision]) -> None:
        assert router.oms is not None
        self.router = router
        self.book = book
        self.decisions = decisions
        self.wanted = {order.client_order_id: order for one in decisions for order in one.orders}
        self.desk: list[OrderEntry] = [entry for _, entry in read_orders(order_log(Path(router.folder)))]
        self.wanted |= self._exits_of_lost_stops()
        self.told = list(_frames(Path(router.oms.fills)))
        self.entries = [msgspec.msgpack.decode(raw, type=Entry) for raw in _log(book / "orders.log")]
        self.events = [event for entry in self.entries for event in entry.events]
        self.slots = list(_slots(router))

    def _exits_of_lost_stops(self) -> dict[str, OrderRequest]:
        """What the router asked for itself, by actions in the operator log."""
        asked = {one.number for one in read_actions(Path(self.router.folder).parent) if one.who == LOST_STOP}
        intents = [one.order for one in self.desk if isinstance(one, Intended) and one.order.leg == "flatten"]
        return {one.client_order_id: one for one in intents if int(one.signal_id.split("/")[1]) in asked}

    @property
    def fills(self) -> list[Fill]:
        return [event.fill for event in self.events if event.fill is not None]

    @property
    def happened(self) -> list[OmsEvent]:
        """What the desk has taken in, in its order."""
        return [entry.event for entry in self.desk if isinstance(entry, Happened) and entry.counts]

    def desk_book(self) -> OrderBook:
        made = OrderBook(client=self.router.client)
        for entry in self.desk:
            order_book.fold(made, entry, self.router.instruments)
        return made


def unsettled(books: Books) -> str:
    """What is still on its way between the books, "" once nothing is."""
    made = books.desk_book()
    intents = [entry.order.client_order_id for entry in books.desk if isinstance(entry, Intended)]
    intended = sum(order_id in books.wanted for order_id in intents)
    moving = made.in_state(*ON_THEIR_WAY)
    for what, is_open in (
        (f"{intended} intents of {len(books.wanted)} orders", intended < len(books.wanted)),
        (f"{len(moving)} orders whose outcome is open", bool(moving)),
        (f"{made.next_event} events taken in of {len(books.events)}", made.next_event < len(books.events)),
        (f"{len(books.slots)} records of {len(books.told)} entries", len(books.slots) < len(books.told)),
    ):
        if is_open:
            return what
    return ""


def judge_orders(verdict: Verdict, books: Books) -> None:
    """Of a home that was stopped cleanly with everything settled."""
    verdict.orders += len(books.wanted)
    verdict.fills += len(books.fills)
    _judge_intents(verdict, books)
    _judge_events(verdict, books)
    _judge_records(verdict, books)
    _judge_money(verdict, books)
    _judge_answers(verdict, books)
    _judge_trails(verdict, books)


def _judge_intents(verdict: Verdict, books: Books) -> None:
    client = books.router.client
    wanted = {order_id: _encode(order) for order_id, order in books.wanted.items()}
    intents = [entry.order for entry in books.desk if isinstance(entry, Intended)]
    verdict.compare(f"{client} intents", wanted, map(_named, intents))
    ended = {event.report.client_order_id for event in books.happened if event.number == OWN and event.report}
    sent = {order_id: raw for order_id, raw in wanted.items() if order_id not in ended}
    ages: dict[tuple[str, int], OrderRequest] = {}
    for entry in books.entries:
        for paper in entry.orders:
            ages.setdefault((paper.order.id, paper.age), paper.order.request)
    verdict.compare(f"{client} orders at the OMS", sent, map(_named, ages.values()))


def _judge_events(verdict: Verdict, books: Books) -> None:
    client = books.router.client
    for number, event in enumerate(books.events):
        if event.number != number:
            verdict.note(f"{client} OMS: expected event {number}, found {event.number}")
            break
    fill_ids = [fill.fill_id for fill in books.fills]
    verdict.compare(f"{client} fills at the OMS", dict.fromkeys(fill_ids, b""), ((one, b"") for one in fill_ids))
    happened = [event for event in books.happened if is_told(event)]
    own = {_key(event): _encode(event) for event in happened if event.number == OWN}
    theirs = {_key(event): _encode(event) for event in books.events if is_told(event)}
    verdict.compare(f"{client} order journal", own | theirs, ((_key(event), _encode(event)) for event in happened))
    told = ((_key(entry.event), _encode(entry.event)) for _, _, entry in books.told)
    verdict.compare(f"{client} fill log", own | theirs, told)
    for entry in books.desk:
        if isinstance(entry, Contradicted):
            verdict.note(f"{client} order journal: expected news that can be true, found {entry.problem}")


def _judge_records(verdict: Verdict, books: Books) -> None:
    """One record on the tape for each entry of the fill log, in their order, on the stream of the worker it concerns."""
    expected = {
        str(entry.number): _record(entry.worker, slot_of(payload, offset, entry.number))
        for offset, payload, entry in books.told
    }
    records = sorted(books.slots)
    found = [(str(int(slot.number)), _record(worker, slot)) for _, worker, slot in records]
    verdict.compare(f"{books.router.client} private records", expected, found)
    if [number for number, _ in found] != sorted(expected, key=int):
        verdict.note(f"{books.router.client}: expected private records in the order of the fill log")


def _judge_money(verdict: Verdict, books: Books) -> None:
    """Quantities and cash, from the fills at the OMS alone, against everybody who counts them."""
    router, held = books.router, defaultdict[tuple[str, str], Decimal](Decimal)
    opening = Decimal(100_000)  # the default of [paper] and [risk]
    cash = defaultdict[str, Decimal](Decimal)
    for fill in books.fills:
        bought = fill.quantity if fill.side == "buy" else -fill.quantity
        held[fill.strategy, fill.symbol] += bought
        cash[fill.account] -= bought * fill.price * router.instruments[fill.symbol].multiplier + fill.fee
    running = defaultdict[str, Decimal](Decimal)
    for _, _, entry in books.told:
        fill_told = entry.event.fill
        if fill_told is not None:
            running[entry.worker] += fill_told.quantity if fill_told.side == "buy" else -fill_told.quantity
        if entry.position.quantity != running[entry.worker]:
            verdict.note(
                f"{router.client} fill log: entry {entry.number}: expected a position of {running[entry.worker]}, "
                f"found {entry.position.quantity}"
            )
            break
    journal = PaperJournal(books.book, router.client)
    for unread in journal.unread():
        fold(journal.state, unread, router.instruments)
    journal.close()
    accounts = journal.state.accounts
    desk = books.desk_book()
    risk = read_risk(Path(router.folder), router.client, router.mode)
    for (strategy, symbol), quantity in held.items():
        place = f"{strategy}/{symbol}"
        at_oms = sum((one.positions[place].quantity for one in accounts.values() if place in one.positions), Decimal(0))
        at_risk = risk.books[worker_key(strategy, symbol)].quantity if risk else None
        for whose, found in (
            ("the OMS", at_oms),
            ("the desk", desk.held(strategy, symbol)),
            ("the fill log", running[f"{strategy}.{symbol}"]),
            ("risk", at_risk),
        ):
            if found != quantity:
                verdict.note(f"{router.client} {place}: expected {quantity} by its fills, found {found} at {whose}")
    for account, change in cash.items():
        found_cash = sum(accounts[account].cash.values())
        if found_cash != opening + change:
            verdict.note(f"{router.client} {account}: expected cash of {opening + change}, found {found_cash}")


def _judge_answers(verdict: Verdict, books: Books) -> None:
    """A strategy that answers each third fill has said so once for each third fill that its fill log holds."""
    said: dict[str, list[str]] = defaultdict(list)
    for decision in books.decisions:
        body = decode_body(decision.body)
        if body.strategy == ECHO and body.reasons[0].startswith("answer"):
            said[f"{ECHO}.{body.symbol}"].append(body.reasons[0].partition(" fills")[0])
    fills = defaultdict[str, int](int)
    for _, _, entry in books.told:
        fills[entry.worker] += entry.event.fill is not None
    for worker in books.router.workers:
        is_echo = worker.startswith(f"{ECHO}.")
        if (
            is_echo and len(read_geneses(Path(books.router.workers_folder) / worker)) == 1
        ):  # it counts from its beginning
            expected = [f"answer: {count}" for count in range(ANSWERED, fills[worker] + 1, ANSWERED)]
            verdict.answers += len(expected)
            if said[worker] != expected:
                verdict.note(f"{worker}: expected answers {expected[-3:]} at last, found {said[worker][-3:]}")


def _judge_trails(verdict: Verdict, books: Books) -> None:
    state = Path(books.router.folder).parent
    verified = verify(state, sizes(state))
    if not verified.is_whole:
        verdict.note(f"{books.router.client} audit log: expected a whole one, found {verified}")
    client, instruments = books.router.client, books.router.instruments
    found = check_orders(state, books.book, client) + check_protection(state, client, instruments)
    for finding in found + check_records(state, router_runs=False):
        if finding.level != "ok":
            verdict.note(f"doctor: {finding}")


# -- reading -----------------------------------------------------------------------------------------------------------


def decisions_of(router: RouterSpec) -> list[Decision]:
    reader, found = DecisionReader(decision_log(Path(router.folder))), []
    while decisions := reader.read():
        found += decisions
    reader.close()
    return found


def _frames(path: Path) -> Iterator[tuple[int, bytes, PrivateEntry]]:
    """(where its frame begins, payload, entry) of a fill log."""
    reader, begin, before = LogReader(path), START, -1
    try:
        while reader.offset != before:
            before = reader.offset
            for end, payload in reader.read():
                yield begin, payload, decode_private(payload)
                begin = end
    finally:
        reader.close()


def _log(path: Path) -> Iterator[bytes]:
    return read_log(path) if path.exists() else iter(())


def _slots(router: RouterSpec) -> Iterator[tuple[int, str, Slot]]:
    """(seq, worker, slot) of the client's private records."""
    reader = TapeReader(Path(router.market.tape))
    try:
        for worker in router.workers:
            stream_id = reader.find(private(WorkerKey.parse(f"{router.client}:{worker}")))
            position = 0
            while stream_id is not None and position < reader.entries(stream_id):
                seqs = reader.seqs(stream_id, position, reader.entries(stream_id))
                position += len(seqs)
                for seq in seqs:
                    yield seq, worker, Slot(*reader.fields(seq, stream_id)[8:12])
    finally:
        reader.close()


def _named(order: OrderRequest) -> tuple[str, bytes]:
    return order.client_order_id, _encode(order)


def _record(worker: str, slot: Slot) -> bytes:
    return f"{worker} {slot}".encode()


def _key(event: OmsEvent) -> str:
    if event.number != OWN:
        return str(event.number)
    assert event.report is not None
    return f"own {event.report.client_order_id}"
