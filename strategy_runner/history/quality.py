"""The quality gate: which rows of a recorded series may be traded on, and a count of every row that may not.

A rule looks at a row alone or at the rows kept before it, never at how the file was cut into chunks, so the result is
the same for any chunk size. Rules apply in the order of RULES and the first that fails names the row.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from strategy_runner.config.times import duration, moment
from strategy_runner.history.columns import MISSING_NS, Mask, Times, Values
from strategy_runner.model.counted import counted
from strategy_runner.model.record import PRICE_MAX, Kind
from strategy_runner.model.stream import Stream

IMPLAUSIBLE_TIME = "implausible_time"  # in the year 2099 or later; when it is imported, more than a day ahead
NOT_FINITE = "not_finite"  # NaN or infinity in a column that is needed; a quote's sizes and a bar's volume may be NaN
ONE_SIDED = "one_sided"  # a quote with 0 for bid or ask: nobody stands there
NOT_POSITIVE = "not_positive"  # price <= 0, or the size of a trade <= 0
IMPLAUSIBLE_PRICE = "implausible_price"  # above 1e15: garbage that is a number, and more than accounts can count
CROSSED = "crossed"  # bid above ask; high below low; open or close outside [low, high]
NEGATIVE_VOLUME = "negative_volume"  # volume of a bar or a size of a quote below 0
OUT_OF_ORDER = "out_of_order"  # earlier than the last row kept
DUPLICATE = "duplicate"  # bar: time of the last one kept; quote: equal to it in every column; equal trades are real
UNPARSABLE = "unparsable"  # could not be read at all: only an import meets this

RULES = (
    IMPLAUSIBLE_TIME,
    NOT_FINITE,
    ONE_SIDED,
    NOT_POSITIVE,
    IMPLAUSIBLE_PRICE,
    CROSSED,
    NEGATIVE_VOLUME,
    OUT_OF_ORDER,
    DUPLICATE,
)
_CODES = {rule: code for code, rule in enumerate(RULES, start=1)}
_OK = 0

# No clock: what is read of a file must not depend on when it is read. One row from here on, such as those that stand for "no
# end", would make all that follow it out of order.
END_NS = 4_070_908_800_000_000_000  # 2099-01-01


class Example(msgspec.Struct, frozen=True):
    """The first row a rule met. `row` counts from 0 in Parquet (file_row_number), in text it is the line from 1.

    `ts` is None where no time could be read.
    """

    place: str
    row: int
    ts: int | None

    def told(self) -> str:
        """For a person."""
        return f"{self.place} row {self.row}" + ("" if self.ts is None else f", {moment(self.ts)}")


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate saw: seen = kept + all counts. `gaps` counts pauses longer than one bar; nothing is dropped for one.

    `missing_intervals` is the number of bars absent in those gaps, `longest_gap_ns` the longest time between two rows
    kept, of any kind.
    """

    seen: int = 0
    kept: int = 0
    counts: dict[str, int] = {}
    gaps: int = 0
    missing_intervals: int = 0
    longest_gap_ns: int = 0
    first: dict[str, Example] = {}

    def merge(self, later: "QualityReport") -> "QualityReport":
        """Both together; where both have an example of a rule, the earlier report's stays."""
        rules = [rule for rule in (UNPARSABLE, *RULES) if rule in self.counts or rule in later.counts]
        return QualityReport(
            seen=self.seen + later.seen,
            kept=self.kept + later.kept,
            counts={rule: self.counts.get(rule, 0) + later.counts.get(rule, 0) for rule in rules},
            gaps=self.gaps + later.gaps,
            missing_intervals=self.missing_intervals + later.missing_intervals,
            longest_gap_ns=max(self.longest_gap_ns, later.longest_gap_ns),
            first={**later.first, **self.first},
        )

    def summary(self) -> str:
        """One line for people."""
        parts = [f"{counted(self.seen, 'row')}, {self.kept} kept"]
        parts += [f"{count} {rule}" for rule, count in self.counts.items()]
        if self.gaps:
            longest = duration(self.longest_gap_ns)
            parts.append(
                f"{counted(self.gaps, 'gap')} ({counted(self.missing_intervals, 'bar')} missing, longest {longest})"
            )
        return ", ".join(parts)


class Gate:
    """Judges one series in file order, chunk after chunk. `place` names the file in the examples of the report; a sound row
    lies before `end_ns`."""

    def __init__(self, stream: Stream, interval_ns: int, place: str = "", end_ns: int = END_NS) -> None:
        self._kind = stream.kind
        self._interval_ns = interval_ns
        self._place = place
        self._end_ns = end_ns
        self._seen = self._kept = 0
        self._counts: dict[str, int] = {}
        self._first: dict[str, Example] = {}
        self._gaps = self._missing_intervals = self._longest_gap_ns = 0
        # A duplicate equals the row kept before it, so the last row in order stands for the last one kept.
        self._last: tuple[float, ...] = ()
        self._last_ns: int | None = None

    @property
    def report(self) -> QualityReport:
        return QualityReport(
            seen=self._seen,
            kept=self._kept,
            counts={rule: self._counts[rule] for rule in RULES if rule in self._counts},
            gaps=self._gaps,
            missing_intervals=self._missing_intervals,
            longest_gap_ns=self._longest_gap_ns,
            first={rule: self._first[rule] for rule in RULES if rule in self._first},
        )

    def check(self, ts: Times, columns: Sequence[Values], rows: Times | None = None) -> Mask:
        """Which rows to keep. `columns` are in the tape's order of values; `rows` are row numbers, else they are counted."""
        if self._all_sound(ts, columns):
            self._measure_gaps(ts)
            self._seen += len(ts)
            self._kept += len(ts)
            self._note_last(ts, columns, -1)
            return np.ones(len(ts), dtype=np.bool_)
        codes = value_faults(self._kind, ts, columns, self._end_ns)
        in_order = self._refuse_late(ts, codes)
        kept = self._refuse_duplicates(ts, columns, codes, in_order)
        self._measure_gaps(ts[kept])
        self._tally(ts, codes, rows)
        if len(in_order):
            self._note_last(ts, columns, int(in_order[-1]))
        keep: Mask = codes == _OK
        return keep

    def _all_sound(self, ts: Times, columns: Sequence[Values]) -> bool:
        """Whether no rule can meet any of the rows: asked with a third of the comparisons, as nearly all chunks are so.

        Each comparison is false for NaN; a bound on one number bounds those that were compared with it.
        """
        if not len(ts) or ts[0] == MISSING_NS:
            return False
        if self._kind is Kind.BAR:
            open_, high, low, close, volume = columns
            sound = (
                (low > 0) & (open_ >= low) & (close >= low) & (high >= open_) & (high >= close) & (high <= PRICE_MAX)
            )
            sound &= (volume >= 0) & (volume < np.inf)
            later = ts[1:] > ts[:-1]
        elif self._kind is Kind.TRADE:
            price, size, side = columns
            sound = (price > 0) & (price <= PRICE_MAX) & (size > 0) & (size < np.inf) & np.isfinite(side)
            later = ts[1:] >= ts[:-1]
        else:
            return False
        first_is_later = self._last_ns is None or ts[0] > self._last_ns
        return bool(first_is_later and later.all() and ts[-1] < self._end_ns and sound.all())

    def _note_last(self, ts: Times, columns: Sequence[Values], at: int) -> None:
        self._last_ns, self._last = int(ts[at]), tuple(float(column[at]) for column in columns)

    def _refuse_late(self, ts: Times, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
        """Marks rows earlier than the last kept: what is kept never goes back, so that is the running maximum."""
        sound = np.flatnonzero(codes == _OK)
        if not len(sound):
            return sound
        times = ts[sound]
        latest = np.maximum.accumulate(times)
        if self._last_ns is not None:
            latest = np.maximum(latest, self._last_ns)
        late = times < latest
        codes[sound[late]] = _CODES[OUT_OF_ORDER]
        return sound[~late]

    def _refuse_duplicates(
        self, ts: Times, columns: Sequence[Values], codes: npt.NDArray[np.uint8], in_order: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.intp]:
        if self._kind is Kind.TRADE or not len(in_order):
            return in_order
        same = _repeats(ts[in_order], self._last_ns)
        if self._kind is Kind.QUOTE:
            for index, column in enumerate(columns):
                same &= _repeats(column[in_order], self._last[index] if self._last else None)
        codes[in_order[same]] = _CODES[DUPLICATE]
        return in_order[~same]

    def _measure_gaps(self, kept_ts: Times) -> None:
        if self._last_ns is not None:
            kept_ts = np.concatenate((np.array([self._last_ns], dtype=np.int64), kept_ts))
        pauses = np.diff(kept_ts)
        if not len(pauses):
            return
        self._longest_gap_ns = max(self._longest_gap_ns, int(pauses.max()))
        if self._interval_ns:
            long = pauses[pauses > self._interval_ns]
            self._gaps += len(long)
            self._missing_intervals += int((long // self._interval_ns - 1).sum())

    def _tally(self, ts: Times, codes: npt.NDArray[np.uint8], rows: Times | None) -> None:
        per_code = np.bincount(codes, minlength=len(RULES) + 1)
        for rule, code in _CODES.items():
            if per_code[code]:
                self._counts[rule] = self._counts.get(rule, 0) + int(per_code[code])
                if rule not in self._first:
                    at = int(np.argmax(codes == code))
                    row = self._seen + at if rows is None else int(rows[at])
                    self._first[rule] = Example(self._place, row, None if ts[at] == MISSING_NS else int(ts[at]))
        self._seen += len(codes)
        self._kept += int(per_code[_OK])


def value_faults(kind: Kind, ts: Times, columns: Sequence[Values], end_ns: int = END_NS) -> npt.NDArray[np.uint8]:
    """For each row 0, or the code of the first rule it breaks by itself, whatever stands before it."""
    faults = _faults(kind, columns)
    faults[NOT_FINITE] |= ts == MISSING_NS
    faults[IMPLAUSIBLE_TIME] = ts >= end_ns
    codes = np.zeros(len(ts), dtype=np.uint8)
    for rule in reversed(RULES):
        if rule in faults:
            codes[faults[rule]] = _CODES[rule]
    return codes


def _faults(kind: Kind, columns: Sequence[Values]) -> dict[str, Mask]:
    if kind is Kind.TRADE:
        return _trade_faults(*columns)
    if kind is Kind.QUOTE:
        return _quote_faults(*columns)
    assert kind is Kind.BAR, f"history holds trades, quotes and bars, not {kind.name}"
    return _bar_faults(*columns)


def _trade_faults(price: Values, size: Values, side: Values) -> dict[str, Mask]:
    return {
        NOT_FINITE: ~(np.isfinite(price) & np.isfinite(size) & np.isfinite(side)),
        NOT_POSITIVE: (price <= 0) | (size <= 0),
        IMPLAUSIBLE_PRICE: price > PRICE_MAX,
    }


def _quote_faults(bid: Values, ask: Values, bid_size: Values, ask_size: Values) -> dict[str, Mask]:
    return {
        NOT_FINITE: ~(np.isfinite(bid) & np.isfinite(ask)) | np.isinf(bid_size) | np.isinf(ask_size),
        ONE_SIDED: (bid == 0) | (ask == 0),
        NOT_POSITIVE: (bid < 0) | (ask < 0),
        IMPLAUSIBLE_PRICE: np.maximum(bid, ask) > PRICE_MAX,
        CROSSED: bid > ask,
        NEGATIVE_VOLUME: (bid_size < 0) | (ask_size < 0),
    }


def _bar_faults(open_: Values, high: Values, low: Values, close: Values, volume: Values) -> dict[str, Mask]:
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    return {
        NOT_FINITE: ~finite | np.isinf(volume),
        NOT_POSITIVE: (open_ <= 0) | (high <= 0) | (low <= 0) | (close <= 0),
        IMPLAUSIBLE_PRICE: np.maximum(np.maximum(open_, high), np.maximum(low, close)) > PRICE_MAX,
        CROSSED: (high < low) | (open_ < low) | (open_ > high) | (close < low) | (close > high),
        NEGATIVE_VOLUME: volume < 0,
    }


def _repeats(column: Times | Values, before: float | None) -> Mask:
    """Which entries equal the one before; `before` stands before the first, None means nothing does. NaN equals NaN."""
    same = np.zeros(len(column), dtype=np.bool_)
    same[1:] = (column[1:] == column[:-1]) | ((column[1:] != column[1:]) & (column[:-1] != column[:-1]))
    if before is not None:
        same[0] = bool(column[0] == before) or bool(column[0] != column[0] and before != before)
    return same
