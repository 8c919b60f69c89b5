"""The order index: kept as orders change, it is what the open orders would make of it."""

import random
from decimal import Decimal
from typing import Any

from oms.paper_build import INSTRUMENTS, fill, request

from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.order_machine import (
    Acknowledged,
    Cancelled,
    Expired,
    IllegalTransitionError,
    Lost,
    News,
    Rejected,
    Sent,
    advance,
    report_of,
)
from strategy_runner.router.order_book import OrderBook, fold
from strategy_runner.router.order_entry import CancelWanted, Happened, Intended, OrderEntry, Told
from strategy_runner.router.order_index import OrderIndex

NEWS: list[News] = [Sent(), Acknowledged("a"), Cancelled("c"), Rejected("r"), Expired("e"), Lost()]
STEPS = ["intend", "intend", "cancel", "fill", *NEWS]


def entry_of(book: OrderBook, name: str, step: Any) -> OrderEntry | None:
    """None for what may not follow."""
    number = int(name)
    if step == "intend":
        order = request(name, strategy=f"s{number % 3}", symbol="XF"[number % 2], quantity=2)
        return Intended(at_ns=0, order=order, decision=book.entries)
    if step == "cancel":
        return CancelWanted(at_ns=0, client_order_id=name)
    known = book.orders.get(name)
    if known is None:
        return None
    asked = known.order.request
    if step == "fill":
        part = fill(name, book.entries, strategy=asked.strategy, symbol=asked.symbol, quantity=Decimal(1))
        event = OmsEvent(
            number=book.next_event,
            client="acme",
            kind="fill",
            event_ns=0,
            seq=0,
            fill=part,
            account="main",
            strategy=asked.strategy,
            symbol=asked.symbol,
        )
        return Happened(at_ns=0, event=event, fills=0)
    try:
        return Told(at_ns=0, news=step, report=report_of(advance(known.order, step)))
    except IllegalTransitionError:
        return None


def test_an_index_that_was_kept_equals_one_that_is_made_anew() -> None:
    luck, book = random.Random(7), OrderBook(client="acme")
    for number in range(600):
        name = luck.choice([*book.orders, str(number)]) if len(book.orders) < 8 else luck.choice(list(book.orders))
        entry = entry_of(book, name, luck.choice(STEPS))
        if entry is not None:
            fold(book, entry, INSTRUMENTS)
        kept, anew = book.index, OrderIndex(book.orders.values())
        assert (kept.unknown, kept.cancelling, kept._of) == (anew.unknown, anew.cancelling, anew._of)
        assert anew.touched.keys() <= kept.touched.keys()
    assert len(book.finished) > 50
