"""A desk's order book: every order that is not over, what was filled, and how far decisions and the OMS's events have come.

Pure: it is what the entries of the desk's journal made of it. The same entries in the same order make an equal book.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderState, Side, client_order_id
from strategy_runner.model.position import ZERO, Position
from strategy_runner.model.private import is_told
from strategy_runner.oms import order_machine
from strategy_runner.oms.ledger import Account, after_fill, after_funding, place
from strategy_runner.oms.order_machine import (
    Acknowledged,
    IllegalTransitionError,
    News,
    Order,
    Sent,
    advance,
    new_order,
    news_of_event,
)
from strategy_runner.oms.order_making import merged
from strategy_runner.oms.paper_state import instrument_of
from strategy_runner.risk.working import PROTECTIVE_LEGS
from strategy_runner.router.order_entry import (
    OWN,
    Acted,
    CancelWanted,
    Compared,
    Contradicted,
    Flattened,
    Happened,
    Heard,
    Intended,
    Leaving,
    Modified,
    ModifyWanted,
    OrderEntry,
    Scope,
    Settled,
    Told,
)
from strategy_runner.router.order_index import DeskOrder, OrderIndex
from strategy_runner.router.testimony import fault_of

FINISHED_KEPT = 2_000  # for what comes late
CLOSING_LEGS = ("exit", "flatten")
EVERY_DECISION = 1 << 62  # of what was under way when an earlier version wrote it down
LATE_FILL = "it had ended with its entry, which was filled after all"
_SENT = Sent()


class Flattening(msgspec.Struct, frozen=True):
    """It concerns the orders of decisions `below` this number; what strategies want after it is none of its business."""

    scope: Scope
    rounds: int = 0
    below: int = EVERY_DECISION


class LostStop(msgspec.Struct, frozen=True):
    """The stop loss of this worker has ended, and protects nothing: the OMS rejected it, or its entry was filled too late."""

    order_id: str
    scope: Scope
    reason: str


class OrderBook(msgspec.Struct, kw_only=True, dict=True):
    """`entries` counts what was taken in, `fills` the entries of the fill log that are in it. `orders` by id, with the last so
    many that are over in `finished`; `accounts` by name; `contradicted` says of a symbol what cannot be true; `flattening` by
    the operator's action, as `reconciling`, which says whether it accepts. `closings` has by worker the last decision that
    closed all it held, once the OMS has its exit. `instruments` has by symbol what its money was last counted with.
    `unprotected` has by worker the lost stop of what it holds or is entering, until that is over or an action makes it flat;
    `ended_stops` by id each that ended in whatever way before what it was to protect, until that is over. `venues` has by worker
    where its last entry went; what it holds lies there."""

    client: str
    entries: int = 0
    next_decision: int = 0
    next_event: int = 0
    fills: int = 0
    acted: int = 0
    orders: dict[str, DeskOrder] = {}
    finished: dict[str, Order] = {}
    accounts: dict[str, Account] = {}
    contradicted: dict[str, str] = {}
    flattening: dict[int, Flattening] = {}
    reconciling: dict[int, bool] = {}
    closings: dict[str, int] = {}
    instruments: dict[str, Instrument] = {}
    unprotected: dict[str, LostStop] = {}
    ended_stops: dict[str, Order] = {}
    venues: dict[str, str] = {}

    def __post_init__(self) -> None:
        self.__dict__["index"] = OrderIndex(self.orders.values())

    @property
    def index(self) -> OrderIndex:
        """No field: neither kept nor compared."""
        index: OrderIndex = self.__dict__["index"]
        return index

    def find(self, order_id: str) -> Order | None:
        known = self.orders.get(order_id)
        return known.order if known else self.finished.get(order_id)

    def in_state(self, *states: OrderState) -> list[DeskOrder]:
        return [one for one in self.orders.values() if one.order.state in states]

    def position(self, account: str, strategy: str, symbol: str) -> Position:
        held = self.accounts.get(account)
        found = held.positions.get(place(strategy, symbol)) if held else None
        return found or Position(client=self.client, account=account, strategy=strategy, symbol=symbol)

    def positions(self) -> Iterator[Position]:
        for account in self.accounts.values():
            yield from account.positions.values()

    def held(self, strategy: str, symbol: str) -> Decimal:
        """The signed quantity over all accounts; a worker has one."""
        key = place(strategy, symbol)
        found = (account.positions.get(key) for account in self.accounts.values())
        return sum((one.quantity for one in found if one is not None), ZERO)


def fold(book: OrderBook, entry: OrderEntry, instruments: Mapping[str, Instrument]) -> None:
    """Changes the book by its next entry. `instruments` are for entries of earlier versions, which do not say what they were
    counted with.

    Raises IllegalTransitionError for news that may not follow (see `problem_of`).
    """
    match entry:
        case Intended():
            order_id = entry.order.client_order_id
            if book.find(order_id) is None:
                one = DeskOrder(order=new_order(entry.order), decision=entry.decision, expires_ns=entry.expires_ns)
                book.orders[order_id] = one
                book.index.note(one)
                if not entry.order.reduce_only:
                    book.venues[".".join(one.worker)] = entry.order.venue
            book.next_decision = max(book.next_decision, entry.decision + 1)
        case Leaving():
            for order_id in entry.client_order_ids:
                _advance(book, order_id, _SENT)
        case Told():
            _advance(book, entry.report.client_order_id, entry.news)
            _forget_what_is_over(book)
        case Happened():
            _happen(book, entry, instruments)
        case Heard():
            book.next_event = entry.next_event
        case CancelWanted():
            known = book.orders.get(entry.client_order_id)
            if known is not None:
                known.cancel = True
                known.why = known.why or entry.reason
                book.index.note(known)
        case ModifyWanted():
            known = book.orders.get(entry.change.client_order_id)
            if known is not None:
                known.change = merged(known.change, entry.change)
            book.next_decision = max(book.next_decision, entry.decision + 1)
        case Modified():
            _modify(book, entry)
        case Contradicted():
            book.contradicted[entry.symbol] = entry.problem
        case Acted():
            book.acted = max(book.acted, entry.action)
            if entry.flatten is not None:
                book.flattening[entry.action] = Flattening(entry.flatten, below=book.next_decision)
                book.unprotected = {
                    worker: lost
                    for worker, lost in book.unprotected.items()
                    if not entry.flatten.covers(lost.scope.strategy, lost.scope.symbol)
                }
            if entry.reconcile is not None:
                book.reconciling[entry.action] = entry.reconcile
        case Flattened():
            flattening = book.flattening.pop(entry.action)
            if not entry.is_over:
                book.flattening[entry.action] = msgspec.structs.replace(flattening, rounds=flattening.rounds + 1)
        case Compared():
            book.reconciling.pop(entry.action)
        case Settled():
            book.contradicted.clear()
            book.next_event = book.next_event if entry.next_event is None else entry.next_event
    book.entries += 1


def problem_of(book: OrderBook, event: OmsEvent, instruments: Mapping[str, Instrument]) -> str:
    """Why an event cannot be true, "" if it can: then the risk record, which follows the journal, can count it too."""
    if event.client != book.client:
        return f"event {event.number}: expected one of {book.client}, found one of {event.client}"
    fault = fault_of(event)
    if fault:
        return f"event {event.number}: {fault}"
    fill = event.fill
    if fill is not None:
        is_known = fill.symbol in book.instruments or fill.symbol in instruments
        if not is_known or fill.quantity <= 0:
            return f"event {event.number}: expected a fill that can be counted, found {fill}"
        if book.find(fill.client_order_id) is None and event.number != OWN:
            return (
                f"event {event.number}: expected a fill of an order that was sent, found one of {fill.client_order_id}"
            )
    if event.amount is not None and not _is_payable(book, event):
        return f"event {event.number}: expected a payment on a position, found {event}"
    news = news_of_event(event)
    known = book.find(order_of(event))
    if news is None or known is None:
        return ""
    asked, named = known.request, (event.account, event.strategy, event.symbol)
    if (fill is not None or is_told(event)) and named != (asked.account, asked.strategy, asked.symbol):
        names = f"{asked.account} {asked.strategy} {asked.symbol}"
        return (
            f"event {event.number}: expected one of {names}, as the order {known.id} is, found one of {' '.join(named)}"
        )
    if fill is not None and fill.fill_id in known.fills:
        return f"event {event.number}: expected a new fill of {known.id}, found one that was told before: {fill}"
    try:
        advance(known, news)
    except IllegalTransitionError as error:
        return str(error)
    return ""


def closes_now(one: DeskOrder) -> bool:
    """Whether it is an exit to the market; one that waits for a price closes nothing yet."""
    return one.order.request.leg in CLOSING_LEGS and one.order.request.type == "market"


def is_final_exit(book: "OrderBook", one: DeskOrder) -> bool:
    """Whether an exit to the market has taken the place of what protected the position, with others or alone: that ends once the
    OMS has it, and a position would be without both if its strategy took it back."""
    worker = ".".join(one.worker)
    return closes_now(one) and one.order.is_known and one.decision <= book.closings.get(worker, OWN)


def is_closed_behind(book: OrderBook, one: DeskOrder) -> bool:
    """Whether a later signal has closed all that was held, and this order with it."""
    return one.decision != OWN and one.decision < book.closings.get(".".join(one.worker), OWN)


def left_of(book: OrderBook, stop: Order) -> Decimal:
    """How much of what a stop loss was to protect its entry has filled, and neither exit of it has closed."""
    entry = book.find(stop.request.bracket)
    target = book.find(client_order_id(stop.request.signal_id, "take_profit"))
    entered = entry.filled if entry else stop.quantity
    return entered - stop.filled - (target.filled if target else ZERO)


def money_symbol(event: OmsEvent) -> str:
    """The symbol whose instrument an event's money is counted with, "" if it moves none."""
    if event.fill is not None:
        return event.fill.symbol
    return event.symbol if event.amount is not None else ""


def is_stale(book: OrderBook, event: OmsEvent) -> bool:
    """Whether an event only says that the OMS has an order, which its answer has said before."""
    if event.kind != "acknowledged" or event.client != book.client or event.number == OWN:
        return False
    news, known = news_of_event(event), book.find(order_of(event))
    return isinstance(news, Acknowledged) and known is not None and advance(known, news) is known


def order_of(event: OmsEvent) -> str:
    """The id of the order that an event tells of, "" for one of no order."""
    if event.fill is not None:
        return event.fill.client_order_id
    return event.report.client_order_id if event.report is not None else ""


def _happen(book: OrderBook, entry: Happened, instruments: Mapping[str, Instrument]) -> None:
    event = entry.event
    book.fills = max(book.fills, entry.fills)
    if event.number != OWN:
        book.next_event = event.number + 1
    if not entry.counts:
        return
    if entry.instrument is not None:
        book.instruments[entry.instrument.symbol] = entry.instrument
    news = news_of_event(event)
    if event.fill is not None:
        _note_late_fill(book, event.fill)
    if news is not None:
        _advance(book, order_of(event), news)
    account = _account_after(book, event, instruments)
    if account is not None:
        before = book.held(event.strategy, event.symbol)
        book.accounts[event.account] = account
        book.index.touched[event.strategy, event.symbol] = None
        if before * book.held(event.strategy, event.symbol) < 0:
            _note_turn(book, (event.strategy, event.symbol), "sell" if before > 0 else "buy")
    _forget_what_is_over(book)


def _account_after(book: OrderBook, event: OmsEvent, instruments: Mapping[str, Instrument]) -> Account | None:
    """None if the event moves nothing."""
    symbol = money_symbol(event)
    if not symbol:
        return None
    account = book.accounts.get(event.account) or Account(client=book.client, account=event.account)
    instrument = book.instruments.get(symbol) or instrument_of(instruments, book.client, symbol)
    if event.fill is not None:
        return after_fill(account, event.fill, instrument)
    assert event.amount is not None
    return after_funding(account, event.strategy, symbol, instrument.currency, event.amount)


def _is_payable(book: OrderBook, event: OmsEvent) -> bool:
    account = book.accounts.get(event.account)
    return account is not None and place(event.strategy, event.symbol) in account.positions


def _advance(book: OrderBook, order_id: str, news: News) -> None:
    """News of an order that was put away changes what is kept of it; of one that nobody knows, nothing."""
    known = book.orders.get(order_id)
    if known is None:
        finished = book.finished.get(order_id)
        if finished is not None:
            book.finished[order_id] = advance(finished, news)
        return
    was_known, known.order = known.order.is_known, advance(known.order, news)
    if known.order.is_known and not was_known and (known.order.filled or not known.order.is_final):
        _note_closing(book, known)
    if known.order.is_final:
        del book.orders[order_id]
        book.index.drop(known)
        book.finished[order_id] = known.order
        while len(book.finished) > FINISHED_KEPT:
            del book.finished[next(iter(book.finished))]
        if known.order.state is not OrderState.FILLED and known.order.request.leg == "stop_loss":
            book.ended_stops[order_id] = known.order
        if known.order.state is OrderState.REJECTED and known.order.request.leg == "stop_loss":
            book.unprotected[".".join(known.worker)] = LostStop(
                order_id, Scope(*known.worker), f"the OMS rejected it: {known.order.reason or 'no reason given'}"
            )
    else:
        book.index.note(known)


def _note_late_fill(book: OrderBook, fill: Fill) -> None:
    """An entry is filled whose stop has ended or is to end, as an OMS may tell it of one that is being cancelled, or is over: the
    stop protects that no more. It is to end too once a close of all that was held is known."""
    entry = book.find(fill.client_order_id)
    if entry is None or entry.request.leg != "entry" or not entry.request.bracket:
        return
    stop_id = client_order_id(entry.request.signal_id, "stop_loss")
    working, stop = book.orders.get(stop_id), book.find(stop_id)
    is_open = working is not None and not (working.cancel or is_closed_behind(book, working))
    if stop is not None and not is_open and left_of(book, stop) + fill.quantity > 0:
        book.ended_stops[stop_id] = stop
        _lose(book, stop)


def _note_turn(book: OrderBook, worker: tuple[str, str], side: Side) -> None:
    """A position was turned by a fill of this side: exits of that side have nothing left to reduce, nor is the rest of an entry
    wanted that they protected. An exit of an entry that has still to begin stays."""
    for one in book.index.of(worker):
        request = one.order.request
        entry = book.find(request.bracket) if request.leg in PROTECTIVE_LEGS else None
        if request.reduce_only and request.side == side and not closes_now(one) and (entry is None or entry.filled):
            for ending in filter(None, (one, book.orders.get(request.bracket))):
                ending.cancel = True
                book.index.note(ending)


def _lose(book: OrderBook, stop: Order) -> None:
    """Unless its worker is being made flat already, or is to be."""
    worker = stop.request.strategy, stop.request.symbol
    if not any(one.scope.covers(*worker) for one in book.flattening.values()):
        book.unprotected.setdefault(".".join(worker), LostStop(stop.id, Scope(*worker), LATE_FILL))


def _forget_what_is_over(book: OrderBook) -> None:
    """A worker that holds nothing and is entering nothing needs no stop; nor does an entry of which nothing is left."""
    for worker, lost in list(book.unprotected.items()):
        strategy, symbol = lost.scope.strategy, lost.scope.symbol
        is_entering = any(not one.order.request.reduce_only for one in book.index.of((strategy, symbol)))
        if not is_entering and not book.held(strategy, symbol):
            del book.unprotected[worker]
    for order_id, kept in list(book.ended_stops.items()):
        stop = book.find(order_id) or kept
        held = book.held(stop.request.strategy, stop.request.symbol)
        protects = held < 0 if stop.request.side == "buy" else held > 0
        is_entered = stop.request.bracket not in book.orders
        if is_entered and not (protects and left_of(book, stop) > 0):
            del book.ended_stops[order_id]


def _modify(book: OrderBook, entry: Modified) -> None:
    known = book.orders.get(entry.change.client_order_id)
    if known is None:
        return
    if known.change == entry.change:
        known.change = None
    if entry.is_made:
        _advance(book, known.order.id, order_machine.Modified(entry.change))


def _note_closing(book: OrderBook, one: DeskOrder) -> None:
    """Exits that close together all that is held do so as one of them would; one that is to be cancelled closes nothing, and one
    that may end unfilled takes the place of nothing."""
    if one.cancel or not _is_lasting_exit(one):
        return
    request = one.order.request
    known = [other for other in book.index.of(one.worker) if other.order.is_known and not other.cancel]
    others = [other for other in known if other is not one and _is_lasting_exit(other)]
    closed = sum((other.order.remaining for other in others), one.order.quantity)
    if closed >= abs(book.held(request.strategy, request.symbol)):
        worker = f"{request.strategy}.{request.symbol}"
        decisions = [one.decision, *(other.decision for other in others)]
        book.closings[worker] = max(*decisions, book.closings.get(worker, OWN))


def _is_lasting_exit(one: DeskOrder) -> bool:
    return closes_now(one) and one.order.request.time_in_force == "gtc"
