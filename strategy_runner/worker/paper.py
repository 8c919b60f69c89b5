"""Paper trading inside a worker that runs flat out: nobody can wait for an OMS there, so the worker fills its own orders.

The same orders are made of its signals, the same book fills them by the same model as the paper OMS does; so recorded history
gives the same fills through a feed, or read directly. Orders meet each record of their symbol before the strategy sees it, and
are made after the strategy has seen one: no order is filled by the record that caused it.

What is told of an order that was filled is told at once, what else follows (a rejection, say) at the symbol's next record; so a
strategy that answers every word with an order cannot keep the worker from reading on.
"""

from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from operator import attrgetter
from typing import Protocol

import msgspec
from msgspec.structs import replace

from strategy_runner.config.spec import PaperSpec
from strategy_runner.model.event import Quote
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent, OrderChange, OrderRequest, Side
from strategy_runner.model.position import ZERO, Position
from strategy_runner.model.private import PrivateEntry, PrivateEvent, encode_private, is_told, slot_of
from strategy_runner.model.record import Kind
from strategy_runner.model.session import is_day_off
from strategy_runner.model.signal import ORDERING, SignalBody
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.oms.fill_model import Band, MarketEvent, is_quiet, lone_price
from strategy_runner.oms.ledger import EXACT, Account, after_fill, place
from strategy_runner.oms.order_making import (
    as_exit,
    cancelled_by,
    changes_of,
    closing_side,
    merged,
    orders_of,
    quantity_to_close,
)
from strategy_runner.oms.paper_book import NO_TAPE, LoneFill, LoneFills, LoneOrder, PaperBook, market_price
from strategy_runner.oms.paper_state import BookState, Entry, PaperOrder
from strategy_runner.tape.logs import FRAME_BYTES, START

SIZES_KEPT = 64
DeskState = tuple[object, ...]  # values that pickle


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the strategy is told of an order, with the bytes for the fill log and the place where they begin in it."""

    event_ns: int
    entry: PrivateEntry
    payload: bytes
    offset: int

    def as_record(self) -> PrivateEvent:
        return PrivateEvent(self.event_ns, self.entry, slot_of(self.payload, self.offset, self.entry.number))


class Elsewhere(Protocol):
    """Who counts fills in the desk's place."""

    def count(self, filled: LoneFills) -> None: ...

    def end_counting(self) -> DeskState:
        """The state of a desk that has counted all of them."""
        ...


class PaperDesk:
    """One worker's orders, and what they become. `waits` while a record of its symbol may change anything; it does not where all
    its prices lie within `band`."""

    def __init__(self, spec: PaperSpec, key: WorkerKey, account: str) -> None:
        self._spec = spec
        self._rounded = lru_cache(maxsize=SIZES_KEPT)(spec.instrument.rounded_quantity)  # mostly the same one again
        self._key = key
        self._account = account
        self._legs: dict[str, OrderRequest] = {}
        self._final: dict[str, None] = {}  # exits to the market that took the place of what protected the position
        self._queue: list[OmsEvent] = []
        self._own = Account(client=key.client, account=account)
        self._place = place(key.strategy, key.symbol)
        self._folder = key.folder
        self._lone: LoneOrder | None = None
        self._filled: list[LoneFill] = []
        self._filled_by: MarketEvent | None = None
        self._elsewhere: Elsewhere | None = None
        self._ready: list[Told] = []
        self.held = ZERO
        self._seq = 0
        self.waits = False
        self.band: Band | None = None
        self.number = 0
        self.offset = START
        self._book = self._new_book(BookState(client=key.client))

    def submit(self, *bodies: SignalBody) -> None:
        """Makes the orders of signals of one record that passed, and changes those of earlier ones, in the order of a router's
        desk: exits, entries, cancellations, modifications."""
        if len(bodies) == 1 and self._stands_alone(bodies[0]):  # as mostly
            return
        final = self._final_exits()
        orders = sorted([body for body in bodies if body.action in ORDERING], key=self._is_entry)
        changes = sorted([body for body in bodies if body.action not in ORDERING], key=attrgetter("action"))
        exits = [body for body in orders if self._order(body)]
        if exits and self._lone is None:
            self._end_others(bodies[bodies.index(exits[-1]) + 1 :], changes, final)
        if changes:
            self._change(changes, final)

    def is_passed_by(self, event: MarketEvent) -> bool:
        """Whether the next record of the symbol changes nothing, though orders wait: it does not touch where they rest."""
        return self.band is not None and is_quiet(self.band, event)

    def fill_alone(self, event: MarketEvent) -> bool:
        """Whether the next record of the symbol fills an order that stands alone, and does nothing else. If so `held` is what is
        held then; whatever else a fill changes is counted later, for many of them at once (`tell_filled`)."""
        order, fills = self._lone, self._spec.fills
        if order is None:
            return False
        body, side, quantity = order.body, order.side, order.quantity
        caused_ns = body.cause.event_ns
        price = lone_price(side, quantity, caused_ns + fills.latency_ns, event, fills)
        if price is None:
            return False
        self.held = EXACT.add(self.held, quantity if side == "buy" else quantity.copy_negate())
        is_quote = type(event) is Quote
        self._filled.append(LoneFill(body.id, order.leg, side, quantity, caused_ns, event.event_ns, price, is_quote))
        self._filled_by = event
        self._seq += 1
        self._lone, self.waits = None, False
        return True

    def tell_filled(self) -> list[Told]:
        """What is told of the orders that `fill_alone` has filled since the last call; nothing where another process tells."""
        self._count_filled()
        ready, self._ready = self._ready, []
        return ready

    def count(self, filled: LoneFills) -> list[Told]:
        """Counts what `fill_alone` of this desk, or of its like in another process, has filled."""
        events, positions = self._book.fill_lone(
            filled, account=self._account, strategy=self._key.strategy, symbol=self._key.symbol
        )
        self._own = self._book.state.accounts[self._account]
        return [
            self._entry(event, position, one.signal_id, one.leg)
            for event, position, one in zip(events, positions, filled.fills, strict=True)
        ]

    def count_elsewhere(self, elsewhere: Elsewhere) -> DeskState:
        """Another process counts what `fill_alone` fills from now on, until an order needs the book. Gives the state that it goes
        on from. What was filled before must have been told."""
        lone, waits, self._lone = self._lone, self.waits, None
        state = self.state()
        self._lone, self.waits, self._elsewhere = lone, waits, elsewhere
        return state

    def come_back(self) -> None:
        """Counts by itself again. Raises what the other process has ended with."""
        if self._elsewhere is None:
            return
        self._count_filled()
        elsewhere, self._elsewhere = self._elsewhere, None
        lone, seq, held = self._lone, self._seq, self.held
        self.restore(elsewhere.end_counting())
        assert self.held == held, (self.held, held)
        self._lone, self._seq, self.waits = lone, seq, self.waits or lone is not None

    def meet(self, event: MarketEvent) -> Sequence[Told]:
        """What the next record of the symbol does to the orders; first what waited for it."""
        if self.fill_alone(event):
            return self.tell_filled()
        self._take_up_lone()
        self._seq += 1
        entry = self._book.apply(self._seq, event)
        heard = self.tell_filled()
        if entry is None and not self._queue:
            self.band = self._book.band(self._key.symbol)  # an order may have come to rest
            return heard
        news, self._queue = [*self._queue, *self._fold(entry)], []
        heard += [self._told(one) for one in news]
        self._look()
        return heard

    def state(self) -> DeskState:
        """Everything remembered."""
        self._take_up_lone()
        assert not self._ready, "what was filled is told before the state is kept"
        state = self._book.state
        return state, self._legs, self._final, self._queue, self._own, self._seq, self.number, self.offset

    def restore(self, state: DeskState) -> None:
        book, self._legs, self._final, self._queue, self._own, self._seq, self.number, self.offset = state  # type: ignore[assignment]  # as `state` gave them
        assert isinstance(book, BookState)
        self._lone = None
        own = self._own.positions.get(self._place)
        self.held = own.quantity if own else ZERO
        self._book = self._new_book(book)
        self._look()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _is_entry(self, body: SignalBody) -> bool:
        return as_exit(body, self.held, self._spec.instrument).action != "close"

    def _change(self, bodies: Sequence[SignalBody], final: Set[str]) -> None:
        """Modifications of one order at one record are one, as they leave a router's desk. The `final` exits stay as they are: a
        position is never without what protects it and without an exit."""
        self._take_up_lone()
        wished: dict[str, OrderChange] = {}
        for body in bodies:
            if body.action == "cancel":
                self._queue += self._fold(self._book.cancel([one for one in cancelled_by(body) if one not in final]))
                continue
            changes = [one for one in changes_of(body, self._spec.instrument) if one.client_order_id not in final]
            if not any(map(self._is_refused, changes)):
                wished |= {one.client_order_id: merged(wished.get(one.client_order_id), one) for one in changes}
        for change in wished.values():
            self._queue += self._fold(self._book.modify(change)[0])
        self._look()

    def _order(self, body: SignalBody) -> bool:
        """Whether it makes an exit to the market."""
        if self._stands_alone(body):
            assert self._lone is not None
            return self._lone.leg == "exit"
        body = as_exit(body, self.held, self._spec.instrument)
        if self._is_day_off(body):
            return False  # a router refuses it
        self._take_up_lone()
        return self._send(body)

    def _is_day_off(self, body: SignalBody) -> bool:
        """For an entry; an exit waits for the market."""
        return body.action != "close" and is_day_off(self._spec.instrument.hours, body.cause.event_ns)

    def _stands_alone(self, body: SignalBody) -> bool:
        """Most signals are one market order, which lives until the next record: it need not go into the book for that."""
        if self.waits or body.action not in ORDERING or body.terms is not None or self._book.state.orders:
            return False
        body = as_exit(body, self.held, self._spec.instrument)
        is_exit = body.action == "close"
        if not is_exit and (body.stop_loss is not None or body.take_profit is not None or self._is_day_off(body)):
            return False
        assert body.size is not None, "a signal that the worker passed has a size"
        quantity = self._rounded(body.size)
        if not quantity:
            return False
        side: Side = closing_side(body) if is_exit else "buy" if body.action == "buy" else "sell"
        order = LoneOrder(body, "exit" if is_exit else "entry", side, quantity)
        if not self._book.takes_lone(order, self.held):
            return False
        self._lone, self.waits = order, True
        return True

    def _new_book(self, state: BookState) -> PaperBook:
        return PaperBook(state, {self._key.symbol: self._spec.instrument}, self._spec.fills)

    def _send(self, body: SignalBody) -> bool:
        quantity = None
        if body.action == "close":
            assert body.size is not None, "a signal that the worker passed has a size"
            held = self.held if closing_side(body) == "sell" else -self.held
            closing = sum((one.order.remaining for one in self._closing()), ZERO)
            quantity = quantity_to_close(body.size, held, closing, self._spec.instrument)
            if quantity <= 0:
                return False  # nothing is left to exit, and a router refuses it
        requests = orders_of(body, account=self._account, instrument=self._spec.instrument, quantity=quantity)
        prices = (price for request in requests for price in (request.limit_price, request.stop_price))
        if any(price is not None and price <= 0 for price in prices):
            return False  # rounded to nothing, and a router refuses the signal
        self._legs.update((request.client_order_id, request) for request in requests)
        self._queue += self._fold(self._book.submit(requests))
        self._look()
        return body.action == "close" and _is_lasting(requests[0])

    def _closing(self) -> list[PaperOrder]:
        """The exits to the market that are under way."""
        open_ones = [one for one in self._book.state.orders.values() if not one.order.is_final]
        return [one for one in open_ones if _closes_now(one)]

    def _is_refused(self, change: OrderChange) -> bool:
        """More of an order is an order of its own, with exits of its own, and nothing of it or a price of nothing is none: a
        router refuses such a change of an open order, and all that comes with it."""
        known = self._book.state.orders.get(change.client_order_id)
        if known is None or known.order.is_final:
            return False
        is_sized = change.quantity is None or 0 < change.quantity <= known.order.quantity
        return not is_sized or any(one is not None and one <= 0 for one in (change.limit_price, change.stop_price))

    def _final_exits(self) -> Set[str]:
        """Those of earlier records."""
        found = {*self._final}
        if self._lone is not None and self._closes_all(self._lone):
            found.add(self._lone.id)
        return found

    def _closes_all(self, lone: LoneOrder) -> bool:
        return lone.leg == "exit" and lone.quantity >= abs(self.held)

    def _end_others(self, younger: Sequence[SignalBody], changes: Sequence[SignalBody], final: Set[str]) -> None:
        """Exits to the market of all that is held end what else is working, to enter or to leave, as a router's desk sees to; but
        not the orders of `younger` signals. An exit that one of the `changes` cancels closes nothing, and one that may end
        unfilled takes the place of nothing."""
        cancelled = {order_id for body in changes if body.action == "cancel" for order_id in cancelled_by(body)} - final
        lasting = [one.order for one in self._closing() if _is_lasting(one.order.request)]
        closing = [order for order in lasting if order.id not in cancelled]
        if sum((order.remaining for order in closing), ZERO) < abs(self.held):
            return
        self._final |= {order.id: None for order in closing}
        spared = {body.id for body in younger}
        working = [
            one.order for one in self._book.state.orders.values() if not (one.order.is_final or _closes_now(one))
        ]
        others = [order.id for order in working if order.request.signal_id not in spared]
        self._queue += self._fold(self._book.cancel(others))
        self._look()

    def _fold(self, entry: Entry | None) -> list[OmsEvent]:
        if entry is None:
            return []
        self._book.fold(entry)
        self._book.state.finished.clear()  # no signal comes twice, so nobody asks for an order that has ended
        return [replace(event, seq=NO_TAPE) for event in entry.events if is_told(event)]

    def _take_up_lone(self) -> None:
        """An order that stood alone goes into the book, as any other."""
        self.come_back()
        self._count_filled()
        if self._lone is not None:
            lone, self._lone = self._lone, None
            self._send(lone.body)
            if self._closes_all(lone):
                self._final[lone.id] = None

    def _count_filled(self) -> None:
        if self._filled_by is None:
            return
        filled = LoneFills(self._seq + 1, market_price(self._filled_by), self._filled)
        self._filled, self._filled_by = [], None
        if self._elsewhere is None:
            self._ready += self.count(filled)
        else:
            self._elsewhere.count(filled)

    def _told(self, event: OmsEvent) -> Told:
        if event.fill is not None:
            self._own = after_fill(self._own, event.fill, self._spec.instrument)
        assert event.report is not None, event
        request = self._legs[event.report.client_order_id]
        position = self._own.positions.get(self._place) or Position(
            client=self._key.client, account=self._account, strategy=self._key.strategy, symbol=self._key.symbol
        )
        self.held = position.quantity
        return self._entry(event, position, request.signal_id, request.leg)

    def _entry(self, event: OmsEvent, position: Position, signal_id: str, leg: str) -> Told:
        entry = PrivateEntry(self.number, self._folder, event, position, signal_id, leg)
        told = Told(event.event_ns, entry, encode_private(entry), self.offset)
        self.number += 1
        self.offset += FRAME_BYTES + len(told.payload)
        return told

    def _look(self) -> None:
        orders = self._book.state.orders
        self.waits = bool(self._queue) or any(not (one.waits or one.order.is_final) for one in orders.values())
        self.band = None if self._queue else self._book.band(self._key.symbol)
        if len(self._legs) > len(orders) + len(self._queue):
            told_of = {event.report.client_order_id for event in self._queue if event.report is not None}
            self._legs = {one: leg for one, leg in self._legs.items() if one in orders or one in told_of}
            self._final = {one: None for one in self._final if one in orders}


def _closes_now(one: PaperOrder) -> bool:
    request = one.order.request
    return request.leg == "exit" and request.type == "market"


def _is_lasting(request: OrderRequest) -> bool:
    """An exit to the market that works until it is filled."""
    return request.type == "market" and request.time_in_force == "gtc"


def fill_streams(streams: Iterable[Stream], symbol: str) -> set[Stream]:
    """Of a worker's streams those that its orders are filled from: the symbol's trades and quotes, else its finest bars."""
    own = [stream for stream in streams if stream.symbol == symbol]
    prints = {stream for stream in own if stream.kind in (Kind.TRADE, Kind.QUOTE)}
    if prints:
        return prints
    bars = [stream for stream in own if stream.kind is Kind.BAR]
    return set(sorted(bars, key=lambda stream: timeframe_ns(stream.timeframe))[:1])
