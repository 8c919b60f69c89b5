"""Totals: what a client's open orders and exposures add up to, kept as they change.

So a check costs the same with ten orders, workers or strategies as with ten thousand. Totals are no part of what is kept: who
reads a state back makes them again of its orders and exposures.
"""

from collections.abc import Mapping
from decimal import Context, Decimal

from strategy_runner.model.order import OrderState
from strategy_runner.risk.working import ZERO, Exposure, OpenOrder, worker_key

_EXACT = Context(prec=200)  # in which what was added can be taken away again, and nothing is left
_add, _less = _EXACT.add, _EXACT.subtract


class Working:
    """Of one worker: what its entries may buy and sell and their highest price, and what its exits are closing now."""

    __slots__ = ("_prices", "buys", "closing", "orders", "price", "sells")

    def __init__(self) -> None:
        self.orders = 0
        self.buys = self.sells = self.closing = self.price = ZERO
        self._prices: dict[Decimal, int] = {}

    def add(self, order: OpenOrder) -> None:
        self.orders += 1
        if order.is_entry:
            self._prices[order.price] = self._prices.get(order.price, 0) + 1
            self.price = max(self.price, order.price)
        self._move(order, order.remaining)

    def take_away(self, order: OpenOrder) -> None:
        self.orders -= 1
        if order.is_entry:
            left = self._prices[order.price] - 1
            if left:
                self._prices[order.price] = left
            else:
                del self._prices[order.price]
                if order.price == self.price:
                    self.price = max(self._prices, default=ZERO)
        self._move(order, -order.remaining)

    def _move(self, order: OpenOrder, quantity: Decimal) -> None:
        if order.is_closing:
            self.closing = _add(self.closing, quantity)
        elif order.is_entry and order.side == "buy":
            self.buys = _add(self.buys, quantity)
        elif order.is_entry:
            self.sells = _add(self.sells, quantity)


class Totals:
    """`entries` counts working entries and `unknown` by symbol the orders whose outcome is not known. `worths` by strategy and
    `worth` are of all that is exposed, `unpriced` counts what has no worth for want of a rate; `sizes` are by symbol. `gains` by
    strategy leave out `ungained` workers, for want of a rate. `places` has by symbol the workers with an exposure, in the order
    of their first."""

    def __init__(self, orders: Mapping[str, OpenOrder], exposures: Mapping[str, Exposure]) -> None:
        self.entries = self.unpriced = self.ungained = 0
        self.unknown: dict[str, int] = {}
        self.worth = ZERO
        self.worths: dict[str, Decimal] = {}
        self.sizes: dict[str, Decimal] = {}
        self.gains: dict[str, Decimal] = {}
        self.places: dict[str, list[str]] = {}
        self._working: dict[str, Working] = {}
        for order in orders.values():
            self.add_order(order)
        for key, exposure in exposures.items():
            self.put_exposure(key, None, exposure)

    def of(self, key: str) -> Working:
        """What is working of a worker."""
        return self._working.get(key) or Working()

    def add_order(self, order: OpenOrder) -> None:
        key = worker_key(order.strategy, order.symbol)
        working = self._working.get(key)
        if working is None:
            working = self._working[key] = Working()
        working.add(order)
        self.entries += order.is_entry
        if order.state is OrderState.UNKNOWN:
            self.unknown[order.symbol] = self.unknown.get(order.symbol, 0) + 1

    def take_order(self, order: OpenOrder) -> None:
        key = worker_key(order.strategy, order.symbol)
        working = self._working[key]
        working.take_away(order)
        if not working.orders:
            del self._working[key]
        self.entries -= order.is_entry
        if order.state is OrderState.UNKNOWN:
            left = self.unknown.pop(order.symbol) - 1
            if left:
                self.unknown[order.symbol] = left

    def put_exposure(self, key: str, before: Exposure | None, after: Exposure) -> None:
        """A worker comes to something else than before."""
        strategy, symbol = after.strategy, after.symbol
        if before is None:
            self.places.setdefault(symbol, []).append(key)
            self.gains.setdefault(strategy, ZERO)
            before = _NOTHING
        if before.worst != after.worst:
            self.sizes[symbol] = _add(self.sizes.get(symbol, ZERO), _less(after.worst, before.worst))
        self.unpriced += _is_unpriced(after) - _is_unpriced(before)
        change = _less(after.worth or ZERO, before.worth or ZERO)
        if change:
            self.worth = _add(self.worth, change)
            self.worths[strategy] = _add(self.worths.get(strategy, ZERO), change)
        self.ungained += (after.gain is None) - (before.gain is None)
        if after.gain != before.gain or before is _NOTHING:
            self.gains[strategy] = _add(self.gains[strategy], _less(after.gain or ZERO, before.gain or ZERO))


def counts_alike(before: OpenOrder, after: OpenOrder) -> bool:
    """Whether an order that has changed leaves all totals as they are: it was sent, or acknowledged."""
    unknown = OrderState.UNKNOWN
    is_same = (before.quantity, before.filled, before.price) == (after.quantity, after.filled, after.price)
    return is_same and before.state is not unknown and after.state is not unknown


def _is_unpriced(exposure: Exposure) -> bool:
    return exposure.worth is None and exposure.worst != 0


_NOTHING = Exposure(
    strategy="",
    symbol="",
    quantity=ZERO,
    buys=ZERO,
    sells=ZERO,
    working_price=ZERO,
    price=ZERO,
    worst=ZERO,
    worth=ZERO,
    gain=ZERO,
)
