"""A market that nobody can hear twice: a live source, whose records after a fault are not those that a fault took.

That is what exposes a missing gate: where lost records come back equal, a signal sent too early looks right afterwards.
Some of its rows are bad, as those of a real source are. Its time is its own, whatever the host's clock is set to.
"""

import math
import random
import time
from collections.abc import Iterable
from pathlib import Path

from strategy_runner.feed.sources.interface import Raw, Sleep, Source
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, trades

ROWS_MAX = 100  # of one look; what a feed missed is gone
WAIT_S = 0.004
BAD_SHARE = 0.02  # of all rows
_TRADE, _QUOTE = int(Kind.TRADE), int(Kind.QUOTE)


class RestlessMarket:
    """Trades and quotes of every symbol asked for, `per_s` of each symbol, at the wall clock's pace. Never the same again."""

    rewinds = False

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._luck = random.Random()
        self._prices: dict[str, float] = {}
        self._next_ns = _now_ns()

    def base(self, symbol: str) -> Stream:
        return trades(symbol)

    def known_ns(self, symbol: str) -> None:
        return None

    def add(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            self._prices.setdefault(symbol, round(self._luck.uniform(50.0, 150.0), 2))

    def next_ns(self) -> int | None:
        return None

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        sleep(min(timeout_s, WAIT_S), None)

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        if not self._prices:
            return []
        rows: list[Raw] = []
        now_ns, luck = _now_ns(), self._luck
        symbols, step_ns = list(self._prices), int(1e9 / (self._per_s * len(self._prices)))
        self._next_ns = max(self._next_ns, now_ns - ROWS_MAX * step_ns)  # what is older was missed
        while self._next_ns <= now_ns and len(rows) < min(limit, ROWS_MAX):
            symbol = luck.choice(symbols)
            price = max(1.0, round(self._prices[symbol] * (1.0 + luck.gauss(0.0, 0.0004)), 4))
            self._prices[symbol] = price
            if luck.random() < 0.8:
                size = round(luck.lognormvariate(0.0, 1.0), 4) or 0.0001
                rows.append((symbol, _TRADE, self._next_ns, price, size, luck.choice((-1.0, 1.0)), 0.0, 0.0))
            else:
                bid, ask = round(price - 0.01, 4), round(price + 0.01, 4)
                rows.append(
                    (symbol, _QUOTE, self._next_ns, bid, ask, luck.uniform(0.1, 5.0), luck.uniform(0.1, 5.0), 0.0)
                )
            self._next_ns += step_ns
            if luck.random() < BAD_SHARE:
                rows.append(_spoilt(rows[-1], luck))
        return rows

    def findings(self) -> list[str]:
        return []

    def state(self) -> dict[str, float]:
        return dict(self._prices)

    def restore(self, state: dict[str, float]) -> None:
        self._prices = dict(state)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def _spoilt(row: Raw, luck: random.Random) -> Raw:
    """The same row as no market can have meant it."""
    symbol, kind, event_ns, v0, *rest = row
    bad = luck.choice((math.nan, math.inf, -math.inf, 0.0, -v0))
    return luck.choice(
        (
            (symbol, kind, event_ns, bad, *rest),
            (symbol, kind, luck.choice((0, -event_ns, event_ns - 3_600 * 10**9, 2 * event_ns)), v0, *rest),
            ("NOBODY", kind, event_ns, v0, *rest),
            (symbol, 77, event_ns, v0, *rest),
        )
    )


def ended_by(file: Path, source: Source) -> Source:
    """The source, which gives nothing any more once there is such a file. What its records led to goes on."""
    take, next_ns = source.take, source.next_ns
    source.take = lambda limit, until_ns: [] if file.exists() else take(limit, until_ns)  # type: ignore[method-assign]
    source.next_ns = lambda: None if file.exists() else next_ns()  # type: ignore[method-assign]
    return source
