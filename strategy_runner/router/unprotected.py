"""Unprotected positions: what a worker holds whose stop loss has ended, though it was to protect that, with nothing in its place.

An OMS may end a stop that nobody here asked it to end, or a close that had taken the place of one. People are told of it, and
nothing is done: whoever ended the stop may have had a reason, and may be about to close what it protected.
"""

import logging
import time
from decimal import Decimal

import msgspec

from strategy_runner.model.position import ZERO
from strategy_runner.router.order_book import OrderBook, closes_now, left_of
from strategy_runner.router.order_index import DeskOrder

LOOK_TWICE_S = 1.0  # an OMS may tell the end of a stop before the fill that it ended for

log = logging.getLogger(__name__)


class Unprotected(msgspec.Struct, frozen=True):
    """So much of what a worker holds; `why` says what became of the stop loss that was to protect it."""

    strategy: str
    symbol: str
    quantity: Decimal
    why: str

    @property
    def worker(self) -> str:
        return f"{self.strategy}.{self.symbol}"

    def __str__(self) -> str:
        return f"{self.worker} holds {self.quantity.normalize():f} without a stop loss: {self.why}"


class Watch:
    """Of one life of the desk. `found` is what has stood for a moment."""

    def __init__(self) -> None:
        self.found: tuple[Unprotected, ...] = ()
        self._suspected: tuple[Unprotected, ...] = ()
        self._since = 0.0

    def turn(self, book: OrderBook) -> None:
        """To be asked while all that the OMS has told is in the book."""
        seen, now = unprotected(book), time.monotonic()
        if seen != self._suspected:
            self._suspected, self._since = seen, now
        if seen == self.found or (seen and now < self._since + LOOK_TWICE_S):
            return
        for one in seen:
            if one not in self.found:
                log.error("unprotected: %s", one)
        self.found = seen


def unprotected(book: OrderBook) -> tuple[Unprotected, ...]:
    """By worker. What is being closed is not, nor what another stop watches."""
    whys: dict[tuple[str, str], str] = {}
    bare: dict[tuple[str, str], Decimal] = {}
    for kept in book.ended_stops.values():
        stop = book.find(kept.id) or kept
        worker = stop.request.strategy, stop.request.symbol
        bare[worker] = bare.get(worker, ZERO) + left_of(book, stop)
        whys[worker] = f"order {stop.id} was {stop.state.value}" + (f": {stop.reason}" if stop.reason else "")
    found = []
    for worker, left in bare.items():
        if any(one.scope.covers(*worker) for one in book.flattening.values()):
            continue
        held = book.held(*worker)
        out = "sell" if held > 0 else "buy"
        leaving = [one for one in book.index.of(worker) if one.order.request.side == out]
        quantity = min(left, abs(held) - sum((_watched(book, one) for one in leaving), ZERO))
        if quantity > 0:
            found.append(Unprotected(*worker, quantity, whys[worker]))
    return tuple(found)


def _watched(book: OrderBook, one: DeskOrder) -> Decimal:
    """By a stop, of a strategy's own exit too, until it is over, but no more than the entry of a stop loss has filled; by an exit
    to the market unless it is to be cancelled."""
    request, remaining = one.order.request, one.order.remaining
    if closes_now(one):
        return ZERO if one.cancel else remaining
    if not request.reduce_only or request.stop_price is None:
        return ZERO
    return min(remaining, max(left_of(book, one.order), ZERO)) if request.leg == "stop_loss" else remaining
