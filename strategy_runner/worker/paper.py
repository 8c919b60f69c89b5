"""Paper trading inside a worker that runs flat out: nobody can wait for an OMS there, so the worker fills its own orders.

The same orders are made of its signals, the same book fills them by the same model as the paper OMS does; so recorded history
gives the same fills through a feed, or read directly. Orders meet each record of their symbol before the strategy sees it, and
are made after the strategy has seen one: no order is filled by the record that caused it.

What is told of an order that was filled is told at once, what else follows (a rejection, say) at the symbol's next record; so a
strategy that answers every word with an order cannot keep the worker from reading on.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from strategy_runner.config.spec import PaperSpec
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent, OrderRequest
from strategy_runner.model.position import Position
from strategy_runner.model.private import PrivateEntry, PrivateEvent, encode_private, is_told, slot_of
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import SignalBody
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.oms.fill_model import MarketEvent
from strategy_runner.oms.ledger import Account, after_fill, place
from strategy_runner.oms.order_making import orders_of
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_state import BookState, Entry
from strategy_runner.tape.logs import FRAME_BYTES, START

_NO_TAPE = -1


class PaperDesk:
    """One worker's orders, and what they become. `waits` while a record of its symbol would change anything."""

    def __init__(self, spec: PaperSpec, key: WorkerKey, account: str) -> None:
        self._spec = spec
        self._key = key
        self._account = account
        self._legs: dict[str, OrderRequest] = {}
        self._queue: list[OmsEvent] = []
        self._own = Account(client=key.client, account=account)
        self._seq = 0
        self.waits = False
        self.number = 0
        self.offset = START
        self._book = self._new_book(BookState(client=key.client))

    def submit(self, body: SignalBody) -> None:
        """Makes the orders of a signal that passed."""
        requests = orders_of(body, account=self._account, instrument=self._spec.instrument)
        self._legs.update((request.client_order_id, request) for request in requests)
        self._queue += self._fold(self._book.submit(requests))
        self._look()

    def meet(self, event: MarketEvent) -> list[tuple[PrivateEvent, bytes]]:
        """What the next record of the symbol does to the orders, with the bytes for the fill log; first what waited for it."""
        self._seq += 1
        entry = self._book.apply(self._seq, event)
        if entry is None and not self._queue:
            return []
        news, self._queue = [*self._queue, *self._fold(entry)], []
        told = [self._told(one) for one in news]
        self._look()
        return told

    def state(self) -> tuple[object, ...]:
        """Everything remembered, as values that pickle."""
        state = self._book.state
        return state, self._legs, self._queue, self._own, self._seq, self.number, self.offset

    def restore(self, state: tuple[object, ...]) -> None:
        book, self._legs, self._queue, self._own, self._seq, self.number, self.offset = state  # type: ignore[assignment]  # as `state` gave them
        assert isinstance(book, BookState)
        self._book = self._new_book(book)
        self._look()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _new_book(self, state: BookState) -> PaperBook:
        return PaperBook(state, {self._key.symbol: self._spec.instrument}, self._spec.fills)

    def _fold(self, entry: Entry | None) -> list[OmsEvent]:
        if entry is None:
            return []
        self._book.fold(entry)
        self._book.state.finished.clear()  # no signal comes twice, so nobody asks for an order that has ended
        return [replace(event, seq=_NO_TAPE) for event in entry.events if is_told(event)]

    def _told(self, event: OmsEvent) -> tuple[PrivateEvent, bytes]:
        if event.fill is not None:
            self._own = after_fill(self._own, event.fill, self._spec.instrument)
        key = self._key
        held = self._own.positions.get(place(key.strategy, key.symbol)) or Position(
            client=key.client, account=self._account, strategy=key.strategy, symbol=key.symbol
        )
        assert event.report is not None, event
        request = self._legs[event.report.client_order_id]
        entry = PrivateEntry(self.number, key.folder, event, held, request.signal_id, request.leg)
        payload = encode_private(entry)
        told = PrivateEvent(event.event_ns, entry, slot_of(payload, self.offset, self.number))
        self.number += 1
        self.offset += FRAME_BYTES + len(payload)
        return told, payload

    def _look(self) -> None:
        orders = self._book.state.orders
        self.waits = bool(self._queue) or any(not (one.waits or one.order.is_final) for one in orders.values())
        if len(self._legs) > len(orders) + len(self._queue):
            told_of = {event.report.client_order_id for event in self._queue if event.report is not None}
            self._legs = {one: leg for one, leg in self._legs.items() if one in orders or one in told_of}


def fill_streams(streams: Iterable[Stream], symbol: str) -> set[Stream]:
    """Of a worker's streams those that its orders are filled from: the symbol's trades and quotes, else its finest bars."""
    own = [stream for stream in streams if stream.symbol == symbol]
    prints = {stream for stream in own if stream.kind in (Kind.TRADE, Kind.QUOTE)}
    if prints:
        return prints
    bars = [stream for stream in own if stream.kind is Kind.BAR]
    return set(sorted(bars, key=lambda stream: timeframe_ns(stream.timeframe))[:1])
