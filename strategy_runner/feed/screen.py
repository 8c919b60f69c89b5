"""The screen: which rows of a live source may touch the tape, and a count of every row that may not.

A row looks sound, or it is dropped: nothing is repaired but a time that is a little late, and the count says so. Recorded
history meets such rules when it is imported and read (history/quality.py); but it may be older than the year 2000, and no
late row of it is moved. The 1st, 2nd, 4th, 8th ... row of a symbol and reason is told, so that a broken source does not fill
the log.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import get_args

from strategy_runner.feed.sources.interface import Raw
from strategy_runner.model.record import PRICE_MAX, Kind

EARLIEST_NS = 946_684_800_000_000_000  # 2000-01-01
AHEAD_NS_MAX = 86_400_000_000_000
LEAP_NS_MAX = 60_000_000_000
LATE_NS_MAX = 1_000_000_000

REASONS = {
    "malformed": "not a symbol, a kind, a time and five values",
    "unknown": "a symbol or kind that nobody asked for, or a bar of a symbol whose bars are made of its trades or quotes",
    "no_number": "a time or value of another type",
    "not_finite": "a missing or infinite number where one is needed",
    "not_positive": "a price of 0 or less, or a trade of nothing",
    "implausible_price": "a price above 1e15",
    "crossed": "bid above ask, or a bar whose prices contradict each other",
    "negative_volume": "a size or volume below 0",
    "implausible_time": "a time before the year 2000 or more than a day ahead",
    "leap": "more than a minute ahead of the clock and of its series, and no second row agrees with it",
    "out_of_order": "more than a second older than the last row of its series",
    "duplicate": "a quote or bar that is the last one again",
    "late": "up to a second older than the last row of its series: kept, at that row's time",
}
_TRADE, _QUOTE, _BAR, _GAP = int(Kind.TRADE), int(Kind.QUOTE), int(Kind.BAR), int(Kind.GAP)

log = logging.getLogger(__name__)

Series = tuple[str, int]
_FIELDS = len(get_args(Raw))


class Screen:
    """`last_ns` is the event time of the last row kept, by symbol and kind."""

    def __init__(self, last_ns: Mapping[Series, int]) -> None:
        self.last_ns = dict(last_ns)
        self.counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[Series, Raw] = {}
        self._leapt_ns: dict[Series, int] = {}

    @property
    def dropped(self) -> int:
        return sum(count for (_, reason), count in self.counts.items() if reason != "late")

    def note(self, row: Raw) -> None:
        """A row that is on the tape."""
        series = row[0], row[1]
        self.last_ns[series] = row[2]
        self._last[series] = row

    def judge(self, rows: Iterable[Raw], bases: Mapping[str, Kind], now_ns: int) -> list[Raw]:
        """The rows that may be kept, in their order; `bases` are the symbols asked for, each with the kind of series that all
        else is made of, `now_ns` the feed's clock."""
        kept = []
        for row in rows:
            if not _is_row(row):
                self._count("?", "malformed", row)
                continue
            reason, sound = _fault_of(row, bases, now_ns), row
            if not reason and row[1] != _GAP:
                sound, reason = (row, "leap") if self._leaps(row, now_ns) else self._in_order(row)
            if reason:
                self._count(row[0], reason, row)
                continue
            if row[1] != _GAP:
                self.note(sound)
            kept.append(sound)
        return kept

    def _leaps(self, row: Raw, now_ns: int) -> bool:
        """Whether a row is ahead alone. Kept, it would put all that follow out of order; but two in a row that agree are
        believed, for then it is the clock of this host that is behind."""
        series, event_ns = (row[0], row[1]), row[2]
        first_ns = self._leapt_ns.pop(series, None)
        if event_ns <= max(now_ns, self.last_ns.get(series, 0)) + LEAP_NS_MAX:
            return False
        if first_ns is not None and abs(event_ns - first_ns) <= LEAP_NS_MAX:
            return False
        self._leapt_ns[series] = event_ns
        return True

    def _in_order(self, row: Raw) -> tuple[Raw, str]:
        """The row, a late one at the time of the last, and why it is dropped, if it is."""
        series = row[0], row[1]
        before_ns = self.last_ns.get(series, 0)
        if row[1] == _BAR and row[2] <= before_ns:  # its time is its place: it cannot be moved
            return row, "duplicate" if row[2] == before_ns else "out_of_order"
        if row[2] < before_ns - LATE_NS_MAX:
            return row, "out_of_order"
        if self._repeats(row, self._last.get(series)):
            return row, "duplicate"
        if row[2] < before_ns:
            self._count(row[0], "late", row)
            return (row[0], row[1], before_ns, *row[3:]), ""
        return row, ""

    def _repeats(self, row: Raw, last: Raw | None) -> bool:
        """A quote that says what the last one did. Equal trades are real."""
        return row[1] == _QUOTE and last is not None and row[2] == last[2] and repr(row[3:7]) == repr(last[3:7])

    def _count(self, symbol: str, reason: str, row: Raw) -> None:
        self.counts[symbol, reason] += 1
        count = self.counts[symbol, reason]
        if count & (count - 1) == 0:
            log.warning("%s: %s (%s): row %s, no. %d of this kind", symbol, reason, REASONS[reason], row, count)


def _is_row(row: object) -> bool:
    """A source is another's code: what it gives has the form of a row, or it does not."""
    return isinstance(row, tuple) and len(row) == _FIELDS and isinstance(row[0], str) and isinstance(row[1], int)


def _fault_of(row: Raw, bases: Mapping[str, Kind], now_ns: int) -> str:
    """The first rule that a row breaks by itself, or ""."""
    symbol, kind, event_ns, v0, v1, v2, v3, v4 = row
    if symbol not in bases or (kind == _BAR and bases[symbol] is not Kind.BAR):
        return "unknown"
    if not isinstance(event_ns, int) or not all(isinstance(value, float) for value in row[3:]):
        return "no_number"
    if not EARLIEST_NS <= event_ns <= now_ns + AHEAD_NS_MAX:
        return "implausible_time"
    if kind == _TRADE:
        return _fault_of_trade(v0, v1, v2)
    if kind == _QUOTE:
        return _fault_of_quote(v0, v1, v2, v3)
    if kind == _BAR:
        return _fault_of_bar(v0, v1, v2, v3, v4)
    if kind == _GAP:
        return "" if math.isfinite(v0) and math.isfinite(v1) and v0 >= 0 else "not_finite"
    return "unknown"


def _fault_of_trade(price: float, size: float, side: float) -> str:
    if not (math.isfinite(price) and math.isfinite(size) and math.isfinite(side)):
        return "not_finite"
    if price <= 0 or size <= 0:
        return "not_positive"
    return "implausible_price" if price > PRICE_MAX else ""


def _fault_of_quote(bid: float, ask: float, bid_size: float, ask_size: float) -> str:
    """A size that is NaN was not published."""
    if not (math.isfinite(bid) and math.isfinite(ask)) or math.isinf(bid_size) or math.isinf(ask_size):
        return "not_finite"
    if bid <= 0 or ask <= 0:
        return "not_positive"
    if max(bid, ask) > PRICE_MAX:
        return "implausible_price"
    if bid > ask:
        return "crossed"
    return "negative_volume" if bid_size < 0 or ask_size < 0 else ""


def _fault_of_bar(open_: float, high: float, low: float, close: float, volume: float) -> str:
    """A volume that is NaN was not recorded."""
    if not all(map(math.isfinite, (open_, high, low, close))) or math.isinf(volume):
        return "not_finite"
    if min(open_, high, low, close) <= 0:
        return "not_positive"
    if max(open_, high, low, close) > PRICE_MAX:
        return "implausible_price"
    if not low <= min(open_, close) <= max(open_, close) <= high:
        return "crossed"
    return "negative_volume" if volume < 0 else ""
