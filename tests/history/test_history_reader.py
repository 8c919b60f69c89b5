"""Reading a recorded series in blocks."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.errors import ConfigurationError, StateError, UsageError
from strategy_runner.history.catalog import Series, all_series, find_series, series_of
from strategy_runner.history.columns import Times, Values
from strategy_runner.history.engine import sql_text
from strategy_runner.history.quality import END_NS
from strategy_runner.history.reader import CHUNK_ROWS, read_series
from strategy_runner.model.stream import bars, quotes, trades

MINUTE = 60_000_000_000
Whole = tuple[Times, tuple[Values, ...]]


def write(series: Series, query: str, options: str = "") -> Series:
    series.path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as engine:
        engine.execute(f"COPY ({query}) TO {sql_text(str(series.path))} (FORMAT parquet {options})")
    return series


def read_all(
    series: Series, from_ns: int = 0, to_ns: int = 0, chunk_rows: int = 65_536, *, ahead: bool = False
) -> Whole:
    blocks = list(read_series(series, from_ns, to_ns, chunk_rows, ahead=ahead))
    if not blocks:
        return np.empty(0, dtype=np.int64), ()
    columns = zip(*(block.values for block in blocks), strict=True)
    return np.concatenate([block.ts for block in blocks]), tuple(np.concatenate(column) for column in columns)


def some_trades(folder: Path, times: list[int], unsound: frozenset[int] = frozenset()) -> Series:
    """Trades at the times, each with its own price; those at the `unsound` positions have a size of 0."""
    rows = ", ".join(
        f"({ts}::BIGINT, {position + 1}.0::DOUBLE, {0 if position in unsound else 1}.0::DOUBLE, '')"
        for position, ts in enumerate(times)
    )
    return write(series_of(folder, "trades", "X"), f"SELECT * FROM (VALUES {rows}) AS rows(ts, price, size, side)")


def test_blocks_carry_the_values_in_the_order_of_the_tape(tmp_path: Path) -> None:
    series = write(
        series_of(tmp_path, "trades", "X"),
        "SELECT * FROM (VALUES (1::BIGINT, 'buy', 5.0, 2.0), (2, 'sell', 5.5, 3), (2, '', 6.0, 4), (3, NULL, 6.0, 4))"
        " AS rows(ts, side, price, size)",
    )
    [block] = read_series(series)
    assert block.stream == trades("X")
    assert block.ts.dtype == np.int64
    assert [column.dtype for column in block.values] == [np.float64] * 3
    price, size, side = (column.tolist() for column in block.values)
    assert (price, size, side) == ([5.0, 5.5, 6.0, 6.0], [2.0, 3.0, 4.0, 4.0], [1.0, -1.0, 0.0, 0.0])


def test_a_missing_number_is_nan_and_a_missing_time_is_counted(tmp_path: Path) -> None:
    series = write(
        series_of(tmp_path, "quotes", "X"),
        "SELECT * FROM (VALUES (1::BIGINT, 1.0, 2.0, NULL, 7.0), (NULL, 1.0, 2.0, 1.0, 1.0), (3, NULL, 2.0, 1.0, 1.0))"
        " AS rows(ts, bid, ask, bid_size, ask_size)",
    )
    reader = read_series(series)
    [block] = reader
    assert block.stream == quotes("X")
    assert np.isnan(block.values[2]).tolist() == [True]
    assert reader.report.counts == {"not_finite": 2}
    assert reader.report.first["not_finite"].row == 1


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000, 300_000])
def test_rows_come_in_the_order_of_the_file_whatever_the_chunk(tmp_path: Path, chunk_rows: int) -> None:
    count = 2_000 if chunk_rows < 1000 else 300_000
    query = f"SELECT 1000 + i // 3 AS ts, i + 1.0 AS price, 1.0 AS size, '' AS side FROM range({count}) AS t(i)"
    series = write(series_of(tmp_path, "trades", "X"), query, ", ROW_GROUP_SIZE 122880")
    reader = read_series(series, chunk_rows=chunk_rows)
    blocks = list(reader)
    assert max(len(block) for block in blocks) <= chunk_rows
    assert np.array_equal(np.concatenate([block.values[0] for block in blocks]), np.arange(1.0, count + 1))
    assert reader.rows_done == reader.rows_total == count


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    from_ns=st.integers(0, 30),
    length=st.integers(1, 30),
    open_end=st.booleans(),
    chunk_rows=st.integers(1, 10),
    unsound=st.frozensets(st.integers(0, 39), max_size=20),
)
def test_a_window_gives_the_rows_that_the_whole_gives_there(
    tmp_path_factory: pytest.TempPathFactory,
    times: list[int],
    from_ns: int,
    length: int,
    open_end: bool,
    chunk_rows: int,
    unsound: frozenset[int],
) -> None:
    series = some_trades(tmp_path_factory.mktemp("history"), times, unsound)
    to_ns = 0 if open_end else from_ns + length
    ts, values = read_all(series)
    inside = (ts >= from_ns) & ((ts < to_ns) | (to_ns == 0))
    found_ts, found = read_all(series, from_ns, to_ns, chunk_rows)
    assert found_ts.tolist() == ts[inside].tolist()
    assert (found[0].tolist() if found else []) == (values[0][inside].tolist() if values else [])


def test_a_window_without_rows_gives_no_block_and_ends(tmp_path: Path) -> None:
    reader = read_series(some_trades(tmp_path, [10, 20]), 11, 20)
    assert list(reader) == []
    assert reader.report.seen == 0
    assert reader.rows_done == reader.rows_total == 2


def test_an_unsound_row_behind_the_window_neither_ends_nor_enters_it(tmp_path: Path) -> None:
    reader = read_series(some_trades(tmp_path, [10, 99, 20, 30, 21], frozenset({1})), 10, 30)
    assert [ts for block in reader for ts in block.ts.tolist()] == [10, 20]
    assert (reader.report.seen, reader.report.counts) == (2, {})


def test_a_time_that_means_no_end_neither_ends_a_series_nor_a_window_of_it(tmp_path: Path) -> None:
    series = some_trades(tmp_path, [10, END_NS, 20, 30, 40])
    for to_ns in (0, 35):
        reader = read_series(series, 0, to_ns, chunk_rows=2)
        assert [ts for block in reader for ts in block.ts.tolist()][:3] == [10, 20, 30]
    assert read_all(series)[0].tolist() == [10, 20, 30, 40]


def test_rows_that_fail_the_gate_are_counted_and_never_handed_out(tmp_path: Path) -> None:
    reader = read_series(some_trades(tmp_path, [10, 20, 15, 30]), chunk_rows=2)
    assert [ts for block in reader for ts in block.ts.tolist()] == [10, 20, 30]
    assert reader.report.counts == {"out_of_order": 1}
    assert reader.report.first["out_of_order"].place == "trades/X.parquet"


def test_a_reader_can_be_left_early(tmp_path: Path) -> None:
    with read_series(some_trades(tmp_path, [1, 2, 3, 4]), chunk_rows=2) as reader:
        assert next(reader).ts.tolist() == [1, 2]
        assert reader.rows_done == 2
    assert list(reader) == []


def test_a_path_with_the_marks_of_a_pattern_names_one_file(tmp_path: Path) -> None:
    for other in ("a'1{}xy", "a'[1]{}xy"):
        some_trades(tmp_path / other, [5])
    assert read_all(some_trades(tmp_path / "a'[1]{}*?", [7]))[0].tolist() == [7]


@pytest.mark.parametrize("kind", ["UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "BIGINT", "FLOAT", "DECIMAL(9, 2)"])
def test_a_number_may_be_of_any_type(tmp_path: Path, kind: str) -> None:
    query = f"SELECT 1::BIGINT AS ts, 7::{kind} AS price, 100::{kind} AS size, 'buy' AS side"
    _, columns = read_all(write(series_of(tmp_path, "trades", "X"), query))
    assert [column.tolist() for column in columns] == [[7.0], [100.0], [1.0]]


@pytest.mark.parametrize(
    "query, message",
    [
        ("SELECT 1::BIGINT AS ts, 1.0 AS price, 1.0 AS size", "side: expected a column of text"),
        ("SELECT 1.0 AS ts, 1.0 AS price, 1.0 AS size, '' AS side", "ts: expected a column of int64 nanoseconds"),
        ("SELECT now() AS ts, 1.0 AS price, 1.0 AS size, '' AS side", "found TIMESTAMP WITH TIME ZONE"),
        (
            "SELECT 1::BIGINT AS ts, 'x' AS price, 1.0 AS size, '' AS side",
            "price: expected a column of numbers, found VARCHAR",
        ),
    ],
)
def test_a_file_of_another_form_is_named_with_what_it_has(tmp_path: Path, query: str, message: str) -> None:
    series = write(series_of(tmp_path, "trades", "X"), query)
    with pytest.raises(ConfigurationError, match=r"X\.parquet") as caught:
        read_series(series)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1 but no more", b"ts,price\n"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "X.parquet"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"X\.parquet: expected a readable Parquet file"):
        read_series(Series(trades("X"), path, 0))


def test_damage_at_the_start_of_the_rows_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    query = "SELECT i + 1 AS ts, random() + 1 AS price, random() + 1 AS size, '' AS side FROM range(100000) AS t(i)"
    series = write(series_of(tmp_path, "trades", "X"), query, ", COMPRESSION zstd")
    content = bytearray(series.path.read_bytes())
    content[4:200] = b"\xff" * 196
    series.path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"X\.parquet: rows from 0: expected readable rows"):
        list(read_series(series))


def test_an_empty_window_and_an_empty_chunk_are_refused(tmp_path: Path) -> None:
    series = some_trades(tmp_path, [1])
    with pytest.raises(UsageError, match="expected an end after the start"):
        read_series(series, 10, 10)
    with pytest.raises(UsageError, match="chunk_rows: expected at least 1"):
        read_series(series, chunk_rows=0)


_PEAK = """
import sys
from pathlib import Path
from strategy_runner.history.catalog import series_of
from strategy_runner.history.reader import read_series
rows = sum(len(block) for block in read_series(series_of(Path(sys.argv[1]), "bars_1s", sys.argv[2])))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(rows, int(peak) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks_mb = {}
    for symbol, count in (("SHORT", 1_000_000), ("LONG", 3_000_000)):
        query = (
            f"SELECT 1 + i * 1000000000 AS ts, 2.0 AS open, 3 + random() AS high, 1 - random() / 2 AS low, "
            f"2 + random() AS close, random() AS volume FROM range({count}) AS t(i)"
        )
        write(series_of(tmp_path, "bars_1s", symbol), query, ", ROW_GROUP_SIZE 122880")
        command = [sys.executable, "-c", _PEAK, str(tmp_path), symbol]
        rows, peaks_mb[symbol] = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
        assert rows == count
    # the two million rows more are 96 MB in numpy
    assert peaks_mb["LONG"] - peaks_mb["SHORT"] < 48


def test_every_recorded_series_is_read_to_the_end_with_its_own_count_of_rows(recorded_data: Path) -> None:
    dropped = {}
    for series in all_series(recorded_data):
        reader = read_series(series)
        kept = sum(len(block) for block in reader)
        with duckdb.connect() as engine:
            counted = engine.execute(f"SELECT count(*) FROM '{series.path}'").fetchone()
        assert counted == (reader.report.seen,)
        assert kept == reader.report.kept
        dropped[series.stream.name] = reader.report.counts
    assert dropped["GCZ13/trade"] == {"not_positive": 167}
    assert dropped["BTC-USD.BITSTAMP2011/trade"] == {"not_positive": 1}
    assert not any(counts for name, counts in dropped.items() if "/bar." in name)


def test_gaps_of_recorded_bars_are_those_of_its_notes(recorded_data: Path) -> None:
    gaps = {}
    for symbol in ("AAPL", "EURUSD", "BTC-USD", "XRP-ETH"):
        reader = read_series(series_of(recorded_data, "bars_1m", symbol))
        assert sum(len(block) for block in reader) == reader.report.seen
        gaps[symbol] = (reader.report.gaps, reader.report.longest_gap_ns // MINUTE)
    day = 24 * 60
    assert gaps == {
        "AAPL": (203, 2 * day + 8 * 60 + 1),
        "EURUSD": (274, 2 * day + 1),
        "BTC-USD": (96, 328 * day + 1),
        "XRP-ETH": (676, 9),
    }


def test_minute_bars_of_recorded_gold_trades_are_the_recorded_ones_but_for_prints_of_size_0(
    recorded_data: Path,
) -> None:
    ts, (price, size, _) = read_all(find_series(recorded_data, "GCZ13").base)
    closes, starts = np.unique(ts // MINUTE * MINUTE + MINUTE, return_index=True)
    bar_ts, (open_, high, low, close, volume) = read_all(series_of(recorded_data, "bars_1m", "GCZ13"))
    assert np.array_equal(closes, bar_ts)
    built = {
        "open": price[starts] == open_,
        "high": np.maximum.reduceat(price, starts) == high,
        "low": np.minimum.reduceat(price, starts) == low,
        "close": price[np.append(starts[1:], len(ts)) - 1] == close,
        "volume": np.add.reduceat(size, starts) == volume,
    }
    # The gate drops 167 prints of size 0; with them every price of the 2691 bars is equal.
    assert {name: int((~equal).sum()) for name, equal in built.items()} == {
        "open": 0,
        "high": 4,
        "low": 1,
        "close": 1,
        "volume": 2,
    }


def test_minute_bars_of_recorded_euro_quotes_are_the_recorded_minute_bars(recorded_data: Path) -> None:
    ts, (bid, ask, bid_size, _) = read_all(series_of(recorded_data, "quotes", "EURUSD"))
    assert np.isnan(bid_size).all()
    closes, starts = np.unique(ts // MINUTE * MINUTE + MINUTE, return_index=True)
    series = series_of(recorded_data, "bars_1m", "EURUSD")
    assert series.stream == bars("EURUSD", "1m")
    bar_ts, (open_, high, low, _, _) = read_all(series, int(closes[0]), int(closes[-1]) + 1)
    assert np.array_equal(closes, bar_ts)
    assert np.allclose((bid[starts] + ask[starts]) / 2, open_, rtol=1e-12, atol=0)
    highs = (np.maximum.reduceat(bid, starts) + np.maximum.reduceat(ask, starts)) / 2
    lows = (np.minimum.reduceat(bid, starts) + np.minimum.reduceat(ask, starts)) / 2
    assert np.allclose(highs, high, rtol=1e-12, atol=0)
    assert np.allclose(lows, low, rtol=1e-12, atol=0)


def test_reading_ahead_gives_the_same_rows_from_a_small_block_on_and_may_end_early(tmp_path: Path) -> None:
    rows = "SELECT range AS ts, 1.0 + range % 7 AS price, 1.0 + range % 3 AS size, 'buy' AS side FROM range(600000)"
    series = write(series_of(tmp_path, "trades", "X"), rows)
    (ts, values), (ts_ahead, values_ahead) = (
        read_all(series, 100_000, 590_000, ahead=is_ahead) for is_ahead in (False, True)
    )
    assert len(ts) == 490_000
    assert np.array_equal(ts, ts_ahead)
    assert all(np.array_equal(*columns) for columns in zip(values, values_ahead, strict=True))
    with read_series(series, chunk_rows=4 * CHUNK_ROWS, ahead=True) as reader:
        assert len(next(reader)) == CHUNK_ROWS
    with pytest.raises(StopIteration):
        next(reader)


@pytest.mark.parametrize("rows", [150_000, 300_000, 400_000])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_file_that_takes_the_place_of_the_one_being_read_ends_the_reading(
    tmp_path: Path, rows: int, ahead: bool
) -> None:
    """`import --replace` beside a run gave it the beginning of one market and the rest of another."""
    series = series_of(tmp_path, "trades", "X")
    query = "SELECT range AS ts, {}.0 AS price, 1.0 AS size, 'buy' AS side FROM range({})"
    write(series, query.format(1, 300_000))
    write(series_of(tmp_path / "new", "trades", "X"), query.format(2, rows))
    found: set[float] = set()
    with read_series(series, ahead=ahead) as reader:
        found |= set(next(reader).values[0].tolist())
        (tmp_path / "new" / "trades" / "X.parquet").replace(series.path)
        with pytest.raises(StateError, match=r"X\.parquet: expected the file that reading began with, found another"):
            for block in reader:
                found |= set(block.values[0].tolist())
    assert found == {1.0}
