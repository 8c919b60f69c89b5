"""The order index: which of a desk's open orders somebody has to look at, found without walking over all of them.

It is made of the open orders and kept with them; it is no part of what a book is.
"""

from collections.abc import Iterable

import msgspec

from strategy_runner.model.order import OrderChange, OrderState
from strategy_runner.oms.order_machine import Order


class DeskOrder(msgspec.Struct, kw_only=True, gc=False):
    """`cancel` is set once it is to be cancelled, until it is over; `why` is the first reason given.
    `change` is how it is to be modified, until the OMS has said what it makes of that."""

    order: Order
    decision: int
    expires_ns: int
    cancel: bool = False
    why: str = ""
    change: OrderChange | None = None

    @property
    def worker(self) -> tuple[str, str]:
        return self.order.request.strategy, self.order.request.symbol


class OrderIndex:
    """`unknown` has the symbol of each order whose outcome is not known, `cancelling` those that are to be cancelled, both by id;
    `touched` the workers of whom something has changed since somebody looked. All are in the order in which it came about."""

    def __init__(self, orders: Iterable[DeskOrder]) -> None:
        self.unknown: dict[str, str] = {}
        self.cancelling: dict[str, None] = {}
        self.touched: dict[tuple[str, str], None] = {}
        self._of: dict[tuple[str, str], dict[str, DeskOrder]] = {}
        for one in orders:
            self.note(one)

    def of(self, worker: tuple[str, str]) -> list[DeskOrder]:
        """The open orders of a worker, the oldest first."""
        return list(self._of.get(worker, {}).values())

    def note(self, one: DeskOrder) -> None:
        """A new open order, or one that has changed."""
        order_id, worker = one.order.id, one.worker
        self._of.setdefault(worker, {})[order_id] = one
        self.touched[worker] = None
        if one.cancel:
            self.cancelling[order_id] = None
        if one.order.state is OrderState.UNKNOWN:
            self.unknown[order_id] = one.order.request.symbol
        else:
            self.unknown.pop(order_id, None)

    def drop(self, one: DeskOrder) -> None:
        """It is over."""
        order_id, worker = one.order.id, one.worker
        mine = self._of[worker]
        del mine[order_id]
        if not mine:
            del self._of[worker]
        self.touched[worker] = None
        self.cancelling.pop(order_id, None)
        self.unknown.pop(order_id, None)
