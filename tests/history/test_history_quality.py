"""The quality gate: which rows may be traded on, and that every other row is counted once, under one name."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.history.columns import MISSING_NS
from strategy_runner.history.quality import END_NS, Example, Gate, QualityReport
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars, quotes, trades

NAN, INF = float("nan"), float("inf")
MINUTE = 60_000_000_000
STREAMS = {Kind.TRADE: trades("X"), Kind.QUOTE: quotes("X"), Kind.BAR: bars("X", "1m")}
Row = tuple[float, ...]


def gate_of(stream: Stream) -> Gate:
    return Gate(stream, MINUTE if stream.kind is Kind.BAR else 0, "bars_1m/X.parquet")


def feed(gate: Gate, rows: Sequence[Row]) -> list[bool]:
    width = {Kind.TRADE: 4, Kind.QUOTE: 5, Kind.BAR: 6}[gate._kind]
    ts = np.array([int(row[0]) for row in rows], dtype=np.int64)
    columns = [np.array([row[at] for row in rows], dtype=np.float64) for at in range(1, width)]
    return [bool(kept) for kept in gate.check(ts, columns)]


def judge(kind: Kind, *rows: Row) -> QualityReport:
    gate = gate_of(STREAMS[kind])
    feed(gate, rows)
    return gate.report


@pytest.mark.parametrize(
    "kind, row, rule",
    [
        (Kind.TRADE, (END_NS, 1.0, 1.0, 0.0), "implausible_time"),
        (Kind.QUOTE, (END_NS, 1.0, 2.0, 1.0, 1.0), "implausible_time"),
        (Kind.BAR, (END_NS, 1.0, 1.0, 1.0, 1.0, 0.0), "implausible_time"),
        (Kind.TRADE, (1, NAN, 1.0, 0.0), "not_finite"),
        (Kind.TRADE, (1, 1.0, INF, 0.0), "not_finite"),
        (Kind.TRADE, (MISSING_NS, 1.0, 1.0, 0.0), "not_finite"),
        (Kind.TRADE, (1, 0.0, 1.0, 0.0), "not_positive"),
        (Kind.TRADE, (1, -1.0, 1.0, 0.0), "not_positive"),
        (Kind.TRADE, (1, 1e16, 1.0, 0.0), "implausible_price"),
        (Kind.TRADE, (1, 1.0, 0.0, 1.0), "not_positive"),
        (Kind.QUOTE, (1, NAN, 2.0, 1.0, 1.0), "not_finite"),
        (Kind.QUOTE, (1, 1.0, 2.0, INF, 1.0), "not_finite"),
        (Kind.QUOTE, (1, 0.0, 2.0, 1.0, 1.0), "one_sided"),
        (Kind.QUOTE, (1, 1.0, 0.0, 1.0, 1.0), "one_sided"),
        (Kind.QUOTE, (1, -1.0, 2.0, 1.0, 1.0), "not_positive"),
        (Kind.QUOTE, (1, 1.0, 1e16, 1.0, 1.0), "implausible_price"),
        (Kind.QUOTE, (1, 2.1, 2.0, 1.0, 1.0), "crossed"),
        (Kind.QUOTE, (1, 1.0, 2.0, 1.0, -1.0), "negative_volume"),
        (Kind.BAR, (1, 2.0, 3.0, 1.0, NAN, 0.0), "not_finite"),
        (Kind.BAR, (1, 2.0, 3.0, 1.0, 2.0, INF), "not_finite"),
        (Kind.BAR, (1, 2.0, 3.0, 0.0, 2.0, 0.0), "not_positive"),
        (Kind.BAR, (1, 2.0, 1e300, 1.0, 2.0, 0.0), "implausible_price"),
        (Kind.BAR, (1, 2.0, 1.0, 3.0, 2.0, 0.0), "crossed"),
        (Kind.BAR, (1, 4.0, 3.0, 1.0, 2.0, 0.0), "crossed"),
        (Kind.BAR, (1, 2.0, 3.0, 1.0, 0.5, 0.0), "crossed"),
        (Kind.BAR, (1, 2.0, 3.0, 1.0, 2.0, -1.0), "negative_volume"),
    ],
)
def test_a_row_that_is_wrong_by_itself_is_dropped_under_the_name_of_its_rule(kind: Kind, row: Row, rule: str) -> None:
    report = judge(kind, row)
    assert report.counts == {rule: 1}
    assert report.kept == 0
    assert report.first[rule] == Example("bars_1m/X.parquet", 0, None if row[0] == MISSING_NS else int(row[0]))


@pytest.mark.parametrize(
    "kind, row",
    [
        (Kind.TRADE, (1, 1.0, 1.0, -1.0)),
        (Kind.TRADE, (END_NS - 1, 1.0, 1.0, -1.0)),
        (Kind.QUOTE, (1, 1.0, 2.0, NAN, NAN)),
        (Kind.QUOTE, (1, 2.0, 2.0, 1.0, 0.0)),  # locked, and a size of 0, are what an exchange may publish
        (Kind.BAR, (1, 1.0, 1.0, 1.0, 1.0, 0.0)),
        (Kind.BAR, (1, 1.0, 1.0, 1.0, 1.0, NAN)),  # a volume that nobody recorded
    ],
)
def test_a_sound_row_is_kept(kind: Kind, row: Row) -> None:
    report = judge(kind, row)
    assert (report.seen, report.kept, report.counts) == (1, 1, {})


def test_a_row_with_several_faults_has_one_reason() -> None:
    assert judge(Kind.QUOTE, (1, 0.0, -1.0, -1.0, 1.0)).counts == {"one_sided": 1}


def test_a_trade_may_repeat_a_quote_may_repeat_the_time_and_a_bar_neither() -> None:
    trade, quote, bar = (5, 1.0, 1.0, 1.0), (5, 1.0, 2.0, NAN, 1.0), (5, 2.0, 3.0, 1.0, 2.0, 1.0)
    assert judge(Kind.TRADE, trade, trade).kept == 2
    assert judge(Kind.QUOTE, quote, quote, (5, 1.0, 2.5, NAN, 1.0), quote).counts == {"duplicate": 1}
    assert judge(Kind.BAR, bar, (5, 2.0, 3.0, 1.0, 2.5, 1.0)).counts == {"duplicate": 1}


def test_a_row_is_late_against_the_last_one_kept_and_not_against_one_that_was_dropped() -> None:
    gate = gate_of(trades("X"))
    rows = [(10, 1.0, 1.0, 0.0), (99, NAN, 1.0, 0.0), (20, 1.0, 1.0, 0.0), (15, 1.0, 1.0, 0.0), (20, 1.0, 1.0, 0.0)]
    assert feed(gate, rows) == [True, False, True, False, True]
    assert gate.report.counts == {"not_finite": 1, "out_of_order": 1}
    assert gate.report.first["out_of_order"] == Example("bars_1m/X.parquet", 3, 15)


def test_gaps_are_counted_between_rows_that_are_kept_and_drop_nothing() -> None:
    def bar(minute: int, low: float = 1.0) -> Row:
        return (minute * MINUTE, 2.0, 3.0, low, 2.0, 1.0)

    report = judge(Kind.BAR, bar(1), bar(2), bar(3, low=NAN), bar(4), bar(10), bar(11))
    assert (report.gaps, report.missing_intervals, report.longest_gap_ns) == (2, 1 + 5, 6 * MINUTE)
    assert report.kept == 5
    assert report.summary().endswith("2 gaps (6 bars missing, longest 6 min)")
    away = judge(Kind.BAR, bar(1), bar(1 + 327 * 1440))
    assert away.summary() == "2 rows, 2 kept, 1 gap (470879 bars missing, longest 327 d)"


def test_row_numbers_of_the_file_are_used_where_they_are_given() -> None:
    gate = gate_of(trades("X"))
    one = np.ones(2)
    gate.check(np.array([7, 8]), [np.array([1.0, NAN]), one, one], rows=np.array([100, 200]))
    assert gate.report.first["not_finite"].row == 200


def test_reports_merge_and_keep_the_earlier_example() -> None:
    early, late = judge(Kind.TRADE, (1, NAN, 1.0, 0.0), (2, 1.0, 1.0, 0.0)), judge(Kind.TRADE, (3, NAN, 1.0, 0.0))
    both = early.merge(late)
    assert (both.seen, both.kept, both.counts) == (3, 1, {"not_finite": 2})
    assert both.first["not_finite"].ts == 1
    assert both.summary() == "3 rows, 1 kept, 2 not_finite"


numbers = st.sampled_from([NAN, INF, -1.0, 0.0, 1.0, 2.0, 3.0])
rows_of = {
    kind: st.lists(
        st.tuples(st.sampled_from([n * MINUTE for n in range(1, 7)] + [END_NS]), *[numbers] * width), max_size=40
    )
    for kind, width in ((Kind.TRADE, 3), (Kind.QUOTE, 4), (Kind.BAR, 5))
}
sound_prices = st.sampled_from([1.0, 2.0])
sound_rows = {
    Kind.TRADE: st.lists(st.tuples(st.integers(1, 9), sound_prices, sound_prices, st.just(0.0)), max_size=40),
    Kind.QUOTE: st.lists(
        st.tuples(st.integers(1, 4), st.just(1.0), sound_prices, st.just(NAN), sound_prices), max_size=40
    ),
    Kind.BAR: st.lists(
        st.tuples(st.integers(1, 9).map(lambda n: n * MINUTE), *[st.just(1.0)] * 4, st.just(0.0)), max_size=40
    ),
}
series = st.sampled_from(list(STREAMS)).flatmap(
    lambda kind: st.tuples(st.just(kind), rows_of[kind] | sound_rows[kind], st.lists(st.integers(0, 40), max_size=6))
)


@given(series)
def test_any_cutting_into_chunks_gives_the_same_rows_and_the_same_report(
    drawn: tuple[Kind, list[Row], list[int]],
) -> None:
    kind, rows, cuts = drawn
    whole, pieces = gate_of(STREAMS[kind]), gate_of(STREAMS[kind])
    expected = feed(whole, rows)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    found = [kept for start, end in pairwise(bounds) for kept in feed(pieces, rows[start:end])]
    assert found == expected
    assert pieces.report == whole.report


@given(series)
def test_the_vectorised_gate_agrees_with_one_that_looks_at_row_after_row(
    drawn: tuple[Kind, list[Row], list[int]],
) -> None:
    kind, rows, _ = drawn
    expected, last = [], None
    for row in rows:
        alone = judge(kind, row).kept == 1
        late = last is not None and row[0] < last[0]
        same = last is not None and (
            (kind is Kind.BAR and row[0] == last[0])
            or (kind is Kind.QUOTE and np.array_equal(np.array(row), np.array(last), equal_nan=True))
        )
        expected.append(alone and not late and not same)
        last = row if expected[-1] else last
    gate = gate_of(STREAMS[kind])
    assert feed(gate, rows) == expected
    assert gate.report.seen == gate.report.kept + sum(gate.report.counts.values())
