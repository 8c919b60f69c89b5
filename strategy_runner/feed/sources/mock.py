"""The mock source: seeded trades and quotes that wander through regimes. The same seed gives the same records, always.

Each symbol is a chain of blocks; the numbers of a block come from a generator seeded by seed, symbol and block number, so
the state to remember is a price and two counters.
"""

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from strategy_runner.config.spec import MockSpec
from strategy_runner.feed.sources.interface import Raw, Sleep
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, quotes, trades

BLOCK_STEPS = 600
_DEFAULT_PRICE = 100.0


class Regime(NamedTuple):
    """How a price moves for one block: per-step drift and deviation as fractions of the price, pull back to its start."""

    name: str
    drift: float
    deviation: float
    pull: float
    spread: float


REGIMES = (
    Regime("quiet", 0.0, 0.00002, 0.01, 0.00005),
    Regime("range", 0.0, 0.00012, 0.03, 0.0001),
    Regime("trend_up", 0.00003, 0.0001, 0.0, 0.0001),
    Regime("trend_down", -0.00003, 0.0001, 0.0, 0.0001),
    Regime("volatile", 0.0, 0.0005, 0.005, 0.0004),
    Regime("reversal", 0.00006, 0.00015, 0.0, 0.0002),
)


class _Walk:
    """One symbol's chain of blocks."""

    def __init__(self, symbol: str, spec: MockSpec, start_ns: int) -> None:
        self.symbol = symbol
        self.start_ns = start_ns
        self.block = 0
        self.step = 0
        self.price = dict(spec.prices).get(symbol, _DEFAULT_PRICE)
        self._spec = spec
        self._step_ns = 1e9 / (spec.trades_per_s + spec.quotes_per_s)
        self._digits = max(0, 5 - math.ceil(math.log10(self.price)))
        self._rows: Iterator[Raw] | None = None
        self._next: Raw | None = None
        self._end_price = self.price

    @property
    def next_ns(self) -> int:
        return self._look()[2]

    def take(self) -> Raw:
        row, self._next = self._look(), None
        self.step += 1
        if self.step == BLOCK_STEPS:
            self.block, self.step, self.price, self._rows = self.block + 1, 0, self._end_price, None
        return row

    def _look(self) -> Raw:
        """The next row. Each is made when it is its turn: blocks of all symbols begin at once, and would be made at once."""
        if self._next is None:
            if self._rows is None:
                self._rows = islice(self._block_rows(), self.step, None)
            self._next = next(self._rows)
        return self._next

    def _block_rows(self) -> Iterator[Raw]:
        spec, step_ns, digits = self._spec, self._step_ns, self._digits
        rng = random.Random(f"{spec.seed}/{self.symbol}/{self.block}")
        regime = rng.choice(REGIMES)
        trade_share = spec.trades_per_s / (spec.trades_per_s + spec.quotes_per_s)
        anchor = price = self.price
        first_step = self.block * BLOCK_STEPS
        for step in range(BLOCK_STEPS):
            turned = -1.0 if regime.name == "reversal" and step > BLOCK_STEPS // 2 else 1.0
            price *= (
                1.0 + turned * regime.drift + rng.gauss(0.0, regime.deviation) + regime.pull * (anchor / price - 1.0)
            )
            self._end_price = price
            event_ns = self.start_ns + int((first_step + step + 0.9 * rng.random()) * step_ns)
            half_spread = max(price * regime.spread / 2.0, 10.0**-digits)
            if rng.random() < trade_share:
                side = 1.0 if rng.random() < 0.5 else -1.0
                size = round(rng.lognormvariate(0.0, 1.0), 4) or 0.0001
                price_paid = round(price + side * half_spread, digits)
                yield self.symbol, int(Kind.TRADE), event_ns, price_paid, size, side, 0.0, 0.0
            else:
                bid, ask = round(price - half_spread, digits), round(price + half_spread, digits)
                sizes = round(rng.uniform(0.1, 5.0), 3), round(rng.uniform(0.1, 5.0), 3)
                yield self.symbol, int(Kind.QUOTE), event_ns, bid, ask, *sizes, 0.0


class MockSource:
    """All symbols' walks, merged by event time and then by symbol."""

    rewinds = True

    def __init__(self, spec: MockSpec, *, now_ns: int) -> None:
        """`now_ns` is where event time begins if the settings leave it open; it is part of the state."""
        self._spec = spec
        self._start_ns = spec.start_ns or now_ns
        self._walks: dict[str, _Walk] = {}
        self._queue: list[tuple[int, str]] = []
        self._taken = 0
        self._last_ns = self._start_ns

    def base(self, symbol: str) -> Stream:
        return trades(symbol) if self._spec.trades_per_s else quotes(symbol)

    def known_ns(self, symbol: str) -> None:
        return None

    def add(self, symbols: Iterable[str]) -> None:
        for symbol in sorted(set(symbols) - self._walks.keys()):
            self._carry(_Walk(symbol, self._spec, self._last_ns))

    def next_ns(self) -> int | None:
        if not self._queue or (self._spec.records and self._taken >= self._spec.records):
            return None
        return self._queue[0][0]

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        sleep(timeout_s, None)

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        if self._spec.records:
            limit = min(limit, self._spec.records - self._taken)
        rows: list[Raw] = []
        queue, walks = self._queue, self._walks
        while queue and len(rows) < limit and queue[0][0] <= until_ns:
            event_ns, symbol = queue[0]
            walk = walks[symbol]
            rows.append(walk.take())
            self._last_ns = event_ns
            heapq.heapreplace(queue, (walk.next_ns, symbol))
        self._taken += len(rows)
        return rows

    def findings(self) -> list[str]:
        return []

    def state(self) -> dict[str, object]:
        walks = {walk.symbol: [walk.start_ns, walk.block, walk.step, walk.price] for walk in self._walks.values()}
        return {"start_ns": self._start_ns, "last_ns": self._last_ns, "taken": self._taken, "walks": walks}

    def restore(self, state: dict) -> None:  # type: ignore[type-arg]  # plain data as `state` wrote it
        self._start_ns, self._last_ns, self._taken = state["start_ns"], state["last_ns"], state["taken"]
        self._walks, self._queue = {}, []
        for symbol, (start_ns, block, step, price) in state["walks"].items():
            walk = _Walk(symbol, self._spec, start_ns)
            walk.block, walk.step, walk.price = block, step, price
            self._carry(walk)

    def _carry(self, walk: _Walk) -> None:
        self._walks[walk.symbol] = walk
        heapq.heappush(self._queue, (walk.next_ns, walk.symbol))
