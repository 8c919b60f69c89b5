"""Importing foreign files: made by hand, with every defect, and the recorded ones as they came from their sources."""

import gzip
import json
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from strategy_runner.errors import UsageError
from strategy_runner.history.catalog import find_series, series_of
from strategy_runner.history.importing import import_file
from strategy_runner.history.mapping import ImportMapping
from strategy_runner.history.quality import QualityReport
from strategy_runner.history.reader import read_series

BARS = "ts=0,open=1,high=2,low=3,close=4,volume=5"
TRADES = "ts=0,price=1,size=2"
QUOTES = "ts=0,bid=1,ask=2"
DEEP = "[" * 200_000 + "]" * 200_000
MINUTE = 60_000_000_000
Make = Callable[..., QualityReport]


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000) * 1_000


def stored(folder: Path, kind: str, symbol: str = "X") -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        return engine.execute(f"SELECT * FROM '{series_of(folder, kind, symbol).path}'").fetchall()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Imports lines of text as symbol X into tmp_path/history."""

    def imported(
        kind: str, lines: list[str], *, batch_rows: int = 65_536, name: str = "in.csv", **mapping: str
    ) -> QualityReport:
        source = tmp_path / name
        source.write_text("\n".join(lines) + "\n")
        parsed = ImportMapping.parse(**mapping)
        return import_file(source, tmp_path / "history", kind, "X", parsed, batch_rows=batch_rows)

    return imported


@pytest.mark.parametrize("batch_rows", [1, 3, 65_536])
def test_every_defect_is_counted_kept_in_the_file_and_never_handed_out(
    make: Make, tmp_path: Path, batch_rows: int
) -> None:
    report = make(
        "bars_1m",
        [
            "1,2,3,1,2,5",
            "2,2,3,1,2,5",
            "2,2,3,1,2,6",  # line 3: the time of the one before
            "1,2,3,1,2,5",  # line 4: back in time
            "3,2,1,3,2,5",  # line 5: high below low
            "4,nan,3,1,2,5",  # line 6
            "5,,3,1,2,5",  # line 7: a missing number is NaN, not 0
            "6,2,3,0,2,5",  # line 8: price 0
            "7,2,3,1,2,-5",  # line 9
            "8,2,3,1",  # line 10: ragged
            "",
            "9,2,three,1,2,5",  # line 12
            "noon,2,3,1,2,5",  # line 13
            "10,2,3,1,2,5,6",  # line 14: ragged the other way
            "10,1_0,30,1,2,5",  # line 15
            "10,2,3,1,2,5",
        ],
        columns=BARS,
        time="s",
        batch_rows=batch_rows,
    )
    assert report.counts == {
        "unparsable": 5,
        "not_finite": 2,
        "not_positive": 1,
        "crossed": 1,
        "negative_volume": 1,
        "out_of_order": 1,
        "duplicate": 1,
    }
    assert (report.seen, report.kept) == (15, 3)
    assert {rule: example.row for rule, example in report.first.items()} == {
        "unparsable": 10,
        "not_finite": 6,
        "not_positive": 8,
        "crossed": 5,
        "negative_volume": 9,
        "out_of_order": 4,
        "duplicate": 3,
    }
    assert len(stored(tmp_path / "history", "bars_1m")) == 10
    reader = read_series(find_series(tmp_path / "history", "X").base)
    assert [int(ts) for block in reader for ts in block.ts] == [1_000_000_000, 2_000_000_000, 10_000_000_000]
    assert reader.report.kept == report.kept
    assert {**reader.report.counts, "unparsable": 5} == report.counts


def test_quotes_that_cross_repeat_or_have_one_side_are_counted(make: Make) -> None:
    lines = ["1,1.0,1.1,5", "1,1.0,1.1,5", "2,1.2,1.1,5", "3,0,1.1,5", "4,1.0,1.1,"]
    report = make("quotes", lines, columns=QUOTES + ",bid_size=3", time="ms")
    assert report.counts == {"one_sided": 1, "crossed": 1, "duplicate": 1}
    assert report.kept == 2


def test_a_header_names_columns_and_quoted_fields_and_a_byte_order_mark_are_read(make: Make, tmp_path: Path) -> None:
    lines = ['\ufefftime,"last price",qty,taker', '"1.5","1,0",2,B', '"2.25",7.5,1,S', "3,8,1,?"]
    report = make(
        "trades", lines, columns="ts=time,price=last price,size=qty,side=taker", time="s", sides="b=buy,s=sell"
    )
    assert report.counts == {"unparsable": 1}
    assert stored(tmp_path / "history", "trades") == [(2_250_000_000, 7.5, 1.0, "sell"), (3_000_000_000, 8.0, 1.0, "")]


def test_a_stray_quote_costs_one_row_and_not_the_rest_of_the_file(make: Make) -> None:
    assert make("trades", ['1,"5,1', "2,5,1", "3,5,1"], columns=TRADES, time="s").counts == {"unparsable": 1}


def test_a_stray_first_line_does_not_decide_how_wide_the_file_is(make: Make) -> None:
    report = make("trades", ["# exported by somebody", "1,5,1", "2,5,1"], columns=TRADES, time="s")
    assert (report.kept, report.counts) == (2, {"unparsable": 1})
    assert report.first["unparsable"].row == 1


@pytest.mark.parametrize(
    "time, zone, written, expected",
    [
        ("s", "UTC", "1381132800", "2013-10-07 08:00:00"),
        ("s", "UTC", "1381132800.25", "2013-10-07 08:00:00.25"),
        ("ms", "UTC", "1381132800001", "2013-10-07 08:00:00.001"),
        ("us", "UTC", "1381132800000001", "2013-10-07 08:00:00.000001"),
        ("ns", "UTC", "1381132800000001000", "2013-10-07 08:00:00.000001"),
        ("ms-of-day:2013-10-07", "America/New_York", "14400054", "2013-10-07 08:00:00.054"),
        ("ms-of-day:2013-12-07", "America/New_York", "14400054", "2013-12-07 09:00:00.054"),
        ("%Y%m%d %H%M%S%f", "UTC-5", "20200101 170000065", "2020-01-01 22:00:00.065"),
        ("%Y-%m-%d %H:%M", "UTC+5:30", "2020-01-01 05:30", "2020-01-01 00:00:00"),
        ("%d.%m.%Y %H:%M:%S", "Europe/Berlin", "01.07.2020 02:00:00", "2020-07-01 00:00:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "UTC", "2020-07-01T02:00:00+0200", "2020-07-01 00:00:00"),
    ],
)
def test_a_stamp_is_read_to_the_nanosecond_in_its_zone(
    make: Make, tmp_path: Path, time: str, zone: str, written: str, expected: str
) -> None:
    make("trades", [f"{written},5,1"], columns=TRADES, time=time, zone=zone)
    assert stored(tmp_path / "history", "trades")[0][0] == ns(expected)


@pytest.mark.parametrize("stamp", ["", "1_000", "1e999999999", "99999999999999999999", "0x10", "NaN", "-", "²"])
def test_a_stamp_that_is_no_time_makes_its_row_unparsable(make: Make, stamp: str) -> None:
    assert make("trades", [f"{stamp},5,1", "7,5,1"], columns=TRADES, time="s").counts == {"unparsable": 1}


def test_a_time_that_is_still_to_come_is_counted_and_left_out_of_the_file(make: Make, tmp_path: Path) -> None:
    """A reader has no clock, and would take it for sound on a later day."""
    now_s = int(datetime.now(UTC).timestamp())
    day_s = 86_400
    lines = [f"{ts},5,1" for ts in (0, 10, now_s + 2 * day_s, 20, 4_102_444_800, now_s + day_s // 2)]
    report = make("trades", lines, columns=TRADES, time="s")
    assert (report.seen, report.kept, report.counts) == (6, 4, {"implausible_time": 2})
    assert report.first["implausible_time"].row == 3
    assert [row[0] // 1_000_000_000 for row in stored(tmp_path / "history", "trades")] == [
        0,
        10,
        20,
        now_s + day_s // 2,
    ]


def test_nanoseconds_do_not_pass_through_a_float(make: Make, tmp_path: Path) -> None:
    make("trades", ["1381132800000000001,5,1"], columns=TRADES, time="ns")
    assert stored(tmp_path / "history", "trades")[0][0] == 1381132800000000001


def test_an_hour_that_summer_time_repeats_goes_back_visibly(make: Make) -> None:
    lines = ["2020-10-25 02:30,5,1", "2020-10-25 02:59,5,1", "2020-10-25 02:00,5,1", "2020-10-25 03:00,5,1"]
    report = make("trades", lines, columns=TRADES, time="%Y-%m-%d %H:%M", zone="Europe/Berlin")
    assert report.counts == {"out_of_order": 1}


def test_a_bar_stamped_at_its_open_is_moved_to_its_close_and_prices_are_scaled(make: Make, tmp_path: Path) -> None:
    make("bars_5m", ["60,20000,30000,10000,25000,7"], columns=BARS, time="s", stamp="open", scale="10000")
    assert stored(tmp_path / "history", "bars_5m") == [(60_000_000_000 + 5 * MINUTE, 2.0, 3.0, 1.0, 2.5, 7.0)]


def test_bid_and_ask_bars_become_their_mean(make: Make, tmp_path: Path) -> None:
    columns = "ts=0,bid_open=1,bid_high=2,bid_low=3,bid_close=4,ask_open=5,ask_high=6,ask_low=7,ask_close=8,volume=none"
    make("bars_1m", ["60,2,3,1,2,4,5,3,4"], columns=columns, time="s")
    ((*prices, volume),) = stored(tmp_path / "history", "bars_1m")
    assert prices == [60_000_000_000, 3.0, 4.0, 2.0, 3.0]
    assert volume is None, "not recorded, which is not 0"


def test_another_delimiter_is_stated(make: Make) -> None:
    assert make("trades", ["1\t5\t1"], columns=TRADES, time="s", delimiter="tab").kept == 1


def test_json_rows_that_are_broken_lack_a_key_or_hold_something_else_are_counted(make: Make, tmp_path: Path) -> None:
    lines = [
        '{"t": 1, "info": {"price": "5.5"}, "q": 2, "m": true}',
        '{"t": 2, "info": {"price": ',
        '{"t": 3, "info": {}, "q": 2, "m": true}',
        '{"t": 4, "info": {"price": [5]}, "q": 2, "m": true}',
        '{"t": true, "info": {"price": 5}, "q": 2, "m": true}',
        '{"t": 6, "info": {"price": null}, "q": 2, "m": false}',
    ]
    columns = "ts=t,price=info.price,size=q,side=m"
    report = make(
        "trades", lines, columns=columns, time="ms", sides="true=sell,false=buy", name="in.jsonl", batch_rows=4
    )
    assert report.counts == {"unparsable": 4, "not_finite": 1}
    assert report.first["unparsable"].row == 2
    assert stored(tmp_path / "history", "trades")[0] == (1_000_000, 5.5, 2.0, "sell")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"columns": "ts=0,open=1,high=2"}, "found no low, close, volume"),
        ({"columns": BARS + ",colour=6"}, "colour: expected one of"),
        ({"columns": BARS.replace("volume", "volum")}, "volum: expected one of .*; did you mean volume?"),
        ({"columns": BARS + ",bid_open=6"}, "expected ts, bid_open, "),
        ({"columns": "ts=0,ts=1"}, "ts: expected once, found twice"),
        ({"columns": "ts"}, "expected NAME=REFERENCE pairs"),
        ({"columns": BARS.replace("volume=5", "volume=6")}, r"in.csv: columns: volume=6: expected an index below 6"),
        ({"time": "min"}, "time: expected s, ms, us, ns"),
        ({"time": "%Q"}, "time: expected .*'%Q'"),
        ({"time": "ms-of-day:2013-13-01"}, "time: expected ms-of-day:YYYY-MM-DD"),
        ({"zone": "America/NewYork"}, "zone: expected an IANA name .* did you mean America/New_York?"),
        ({"zone": "../UTC"}, "zone: expected an IANA name"),
        ({"stamp": "middle"}, "stamp: expected one of open, close, found 'middle'"),
        ({"scale": "0"}, "scale: expected a number above 0, found '0'"),
        ({"scale": "inf"}, "scale: expected a number above 0"),
        ({"sides": "B=long"}, "sides: expected one of buy, sell, found 'long'"),
        ({"delimiter": ";;"}, "delimiter: expected one character or tab"),
        ({"member": "a.csv"}, "member: expected none for a file that is no .zip"),
    ],
)
def test_a_wrong_statement_is_refused_with_what_was_expected(
    make: Make, tmp_path: Path, given: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make("bars_1m", ["60,2,3,1,2,5"], **{"columns": BARS, "time": "s", **given})
    assert not list((tmp_path / "history").glob("*/*"))


def test_a_name_the_file_does_not_have_is_refused_with_the_names_it_has(make: Make) -> None:
    with pytest.raises(UsageError, match="price=prise: expected a column of the file, found time, price, size"):
        make("trades", ["time,price,size", "1,2,3"], columns="ts=time,price=prise,size=size", time="s")
    with pytest.raises(UsageError, match="price=p: expected it in the rows, found t, info"):
        make("trades", ['{"t": 1, "info": {}}'], columns="ts=t,price=p,size=info", time="s", name="in.jsonl")


def test_a_name_that_two_columns_have_is_no_reference_and_an_index_is(make: Make, tmp_path: Path) -> None:
    """Of adjusted prices and those that were paid, say: the first was taken."""
    lines = ["ts,price,price,size", "1,100,50,3"]
    with pytest.raises(
        UsageError, match="price=price: expected one column of that name, found 2; state its index from 0"
    ):
        make("trades", lines, columns="ts=ts,price=price,size=size", time="s")
    assert make("trades", lines, columns="ts=ts,price=2,size=size", time="s").kept == 1
    assert stored(tmp_path / "history", "trades") == [(1_000_000_000, 50.0, 3.0, "")]


def test_a_kind_a_symbol_and_an_open_stamp_that_make_no_sense_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kind: expected trades, quotes or bars_<timeframe>"):
        make("candles", ["1,2,3"], columns=TRADES, time="s")
    with pytest.raises(UsageError, match="stamp: expected close for a trade"):
        make("trades", ["1,2,3"], columns=TRADES, time="s", stamp="open")
    mapping = ImportMapping.parse(columns=TRADES, time="s")
    for symbol in ("../X", "X\n", ""):
        with pytest.raises(UsageError, match="symbol: expected"):
            import_file(tmp_path / "in.csv", tmp_path, "trades", symbol, mapping)


def test_a_file_of_which_no_row_can_be_read_is_refused_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none among 2; look at row 1 first"):
        make("trades", ["a,2,3", "b,2,3"], columns=TRADES, time="s")
    with pytest.raises(UsageError, match="expected rows, found none"):
        make("trades", [""], columns=TRADES, time="s")
    assert not list((tmp_path / "history").glob("*/*"))


def test_an_existing_series_is_replaced_only_when_told_and_whole(make: Make, tmp_path: Path) -> None:
    make("trades", ["1,2,3"], columns=TRADES, time="s")
    with pytest.raises(UsageError, match="expected no file there yet, found one; --replace"):
        make("trades", ["2,2,3"], columns=TRADES, time="s")
    mapping = ImportMapping.parse(columns=TRADES, time="s")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(b"2,2,3\n" * 100_000)[:-9])
    with pytest.raises(UsageError, match="expected a whole compressed file"):
        import_file(tmp_path / "bad.csv.gz", tmp_path / "history", "trades", "X", mapping, replace=True)
    assert stored(tmp_path / "history", "trades") == [(1_000_000_000, 2.0, 3.0, "")]
    import_file(tmp_path / "in.csv", tmp_path / "history", "trades", "X", mapping, replace=True)
    assert stored(tmp_path / "history", "trades") == [(2_000_000_000, 2.0, 3.0, "")]


def test_a_member_of_a_zip_must_be_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.csv", "1,2,3\n")
        archive.writestr("b.csv", "2,2,3\n")
    for member in ("", "*.csv", "c.csv"):
        with pytest.raises(UsageError, match=r"one member, found '.*', which is . of: a.csv, b.csv"):
            mapping = ImportMapping.parse(columns=TRADES, time="s", member=member)
            import_file(tmp_path / "in.zip", tmp_path, "trades", "X", mapping)
    mapping = ImportMapping.parse(columns=TRADES, time="s", member="b.*")
    assert import_file(tmp_path / "in.zip", tmp_path, "trades", "X", mapping).kept == 1


@pytest.mark.parametrize("content", ['{"a": 1}', "[[1,2,3],", "[1,2,3] x", ""])
def test_a_json_file_that_is_no_whole_array_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(UsageError, match=r"in\.json: expected one JSON array"):
        import_file(tmp_path / "in.json", tmp_path, "trades", "X", ImportMapping.parse(columns=TRADES, time="s"))


def test_a_file_that_does_not_exist_or_has_another_ending_is_refused(tmp_path: Path) -> None:
    mapping = ImportMapping.parse(columns=TRADES, time="s")
    (tmp_path / "in.xlsx").touch()
    for name, message in (("no.csv", "expected a file, found nothing"), ("in.xlsx", "expected a file ending in .csv")):
        with pytest.raises(UsageError, match=message):
            import_file(tmp_path / name, tmp_path, "trades", "X", mapping)


def test_a_line_without_end_is_one_unparsable_row(make: Make) -> None:
    report = make("trades", ["1,2,3", "9" * 3_000_000, "2,2,3"], columns=TRADES, time="s")
    assert (report.kept, report.counts) == (2, {"unparsable": 1})
    assert report.first["unparsable"].row == 2


def test_a_row_nested_too_deeply_is_one_unparsable_row(make: Make) -> None:
    report = make("trades", ["[1, 2, 3]", DEEP, "[2, 2, 3]"], columns="ts=0,price=1,size=2", time="s", name="in.jsonl")
    assert (report.kept, report.counts) == (2, {"unparsable": 1})
    assert report.first["unparsable"].row == 2


def test_an_array_with_a_row_nested_too_deeply_is_no_array_of_rows_or_has_one_unparsable_row(make: Make) -> None:
    """From Python 3.14 on msgspec comes over it, since its own calls alone count for how deep it is."""
    array, mapping = [f"[[1, 2, 3], {DEEP}]"], {"columns": "ts=0,price=1,size=2", "time": "s", "name": "in.json"}
    if sys.version_info < (3, 14):
        with pytest.raises(UsageError, match="expected one JSON array with a row an element"):
            make("trades", array, **mapping)
    else:
        report = make("trades", array, **mapping)
        assert (report.kept, report.counts) == (1, {"unparsable": 1})


@pytest.mark.parametrize("name", ["\u00b2", "\u0663", "1" * 5_000])
def test_what_only_looks_like_an_index_is_the_name_of_a_column(make: Make, name: str) -> None:
    columns = f"ts={name},price=price,size=size"
    with pytest.raises(UsageError, match="expected a column of the file"):
        make("trades", ["time,price,size", "7,5,1"], columns=columns, time="s")
    assert make("trades", [f"{name},price,size", "7,5,1"], columns=columns, time="s").kept == 1


UNITTEST = {"columns": BARS, "time": "ms", "stamp": "open"}
LEAN_BARS = {"columns": BARS, "stamp": "open"}


def dirty(data: Path, folder: Path, name: str, kind: str, **mapping: str) -> QualityReport:
    source = data / "dirty" / name
    return import_file(source, folder, kind, "X", ImportMapping.parse(**mapping), replace=True)


def test_dirty_json_bars_have_the_gaps_of_their_notes(recorded_data: Path, tmp_path: Path) -> None:
    report = dirty(recorded_data, tmp_path, "freqtrade-UNITTEST_BTC-1m.json", "bars_1m", **UNITTEST)
    assert (report.seen, report.kept, report.gaps, report.missing_intervals) == (13_681, 13_681, 538, 717)
    first = json.loads((recorded_data / "dirty" / "freqtrade-UNITTEST_BTC-1m.json").read_bytes())[0]
    assert stored(tmp_path, "bars_1m")[0] == (first[0] * 1_000_000 + MINUTE, *first[1:])


@pytest.mark.parametrize(
    "columns, time, sides",
    [
        ("ts=timestamp,price=price,size=amount,side=side", "ms", "buy=buy,sell=sell"),
        ("ts=info.T,price=info.p,size=info.q,side=info.m", "ms", "true=sell,false=buy"),
        ("ts=datetime,price=info.p,size=amount,side=side", "%Y-%m-%dT%H:%M:%S.%fZ", "buy=buy,sell=sell"),
    ],
)
def test_dirty_nested_json_trades_are_the_recorded_trades(
    recorded_data: Path, tmp_path: Path, columns: str, time: str, sides: str
) -> None:
    name = "freqtrade-XRP_OLD-trades.json.gz"
    report = dirty(recorded_data, tmp_path, name, "trades", columns=columns, time=time, sides=sides)
    assert (report.seen, report.kept) == (12_477, 12_477)
    assert stored(tmp_path, "trades") == stored(recorded_data, "trades", "XRP-ETH")


def test_dirty_trades_with_whole_second_stamps_are_all_kept(recorded_data: Path, tmp_path: Path) -> None:
    name = "gct-binance-btcusdt-trades-20201116.csv.gz"
    report = dirty(recorded_data, tmp_path, name, "trades", columns=TRADES + ",side=3", time="s")
    assert (report.seen, report.kept, report.counts) == (1000, 1000, {})
    rows = stored(tmp_path, "trades")
    assert len({row[0] for row in rows}) == 1000 - 854
    assert {row[3] for row in rows} == {""}


def test_dirty_ticks_of_a_fixed_zone_open_the_year_at_22_utc(recorded_data: Path, tmp_path: Path) -> None:
    name = "histdata-eurusd-ticks-20200101.csv.gz"
    report = dirty(recorded_data, tmp_path, name, "quotes", columns=QUOTES, time="%Y%m%d %H%M%S%f", zone="UTC-5")
    assert (report.seen, report.kept) == (9500, 9500)
    [*blocks] = read_series(find_series(tmp_path, "X").base)
    assert int(blocks[0].ts[0]) == ns("2020-01-01 22:00:00.065")
    spreads = np.concatenate([block.values[1] - block.values[0] for block in blocks])
    assert (round(float(np.median(spreads)), 5), round(float(spreads.max()), 5)) == (0.00003, 0.00072)


def test_dirty_bid_and_ask_bars_become_mid_bars_with_their_gaps(recorded_data: Path, tmp_path: Path) -> None:
    columns = "ts=0,bid_open=1,bid_high=2,bid_low=3,bid_close=4,ask_open=6,ask_high=7,ask_low=8,ask_close=9,volume=none"
    mapping = {"columns": columns, "time": "ms-of-day:2011-03-07", "zone": "UTC-5", "stamp": "open"}
    report = dirty(recorded_data, tmp_path, "lean-fxcm-eurusd-20110307.csv.gz", "bars_1m", **mapping)
    assert (report.seen, report.kept, report.gaps) == (1435, 1435, 5)
    first = stored(tmp_path, "bars_1m")[0]
    assert first[0] == ns("2011-03-07 05:01:00")
    assert first[1] == pytest.approx((1.39743 + 1.39752) / 2, rel=1e-12)


def test_the_contracts_of_a_dirty_zip_are_imported_one_by_one(recorded_data: Path, tmp_path: Path) -> None:
    name, rows = "lean-gc-all-contracts-20131007-trade.zip", {}
    mapping = {**LEAN_BARS, "time": "ms-of-day:2013-10-07"}
    for month in ("1310", "1311", "1402", "1404", "1406", "1408", "1410", "1412", "1512", "1312"):
        report = dirty(recorded_data, tmp_path, name, "bars_1m", **mapping, member=f"*_20{month}.csv")
        assert report.kept == report.seen
        rows[month] = report.seen
    assert sum(rows.values()) == 1500
    assert rows["1408"] == rows["1512"] == 1
    december = [bar for bar in stored(recorded_data, "bars_1m", "GCZ13") if bar[0] <= ns("2013-10-08")]
    assert stored(tmp_path, "bars_1m") == december


def test_dirty_quotes_with_one_side_are_counted_row_for_row_and_none_is_handed_out(
    recorded_data: Path, tmp_path: Path
) -> None:
    mapping = {
        "columns": "ts=0,bid=1,bid_size=2,ask=3,ask_size=4",
        "time": "ms-of-day:2013-10-07",
        "zone": "America/New_York",
        "scale": "10000",
    }
    report = dirty(recorded_data, tmp_path, "lean-ibm-quote-ticks-20131007.csv.gz", "quotes", **mapping)
    assert (report.seen, report.kept, report.counts) == (109_067, 0, {"one_sided": 109_067})
    assert report.first["one_sided"].ts == ns("2013-10-07 08:00:00.054")
    assert list(read_series(find_series(tmp_path, "X").base)) == []


def test_the_two_days_of_a_dirty_zip_are_one_day_twice(recorded_data: Path, tmp_path: Path) -> None:
    name, days = "lean-nifty50-20190101-two-days-in-one.zip", ("2019-01-01", "2019-01-02")
    mapping = {**LEAN_BARS, "time": "ms-of-day:2019-01-01", "zone": "Asia/Kolkata"}
    with pytest.raises(UsageError, match=r"which is 2 of: 20190102_nifty_minute_trade.csv, 20190101_nifty"):
        dirty(recorded_data, tmp_path, name, "bars_1m", **mapping)
    rows = []
    for day in days:
        stated = {**mapping, "time": f"ms-of-day:{day}", "member": f"{day.replace('-', '')}*"}
        assert dirty(recorded_data, tmp_path, name, "bars_1m", **stated).kept == 378
        rows.append(np.array(stored(tmp_path, "bars_1m")))
    assert np.array_equal(rows[0][:, 1:], rows[1][:, 1:])
    assert set(rows[1][:, 0] - rows[0][:, 0]) == {24 * 60 * MINUTE}
    recorded = [bar for bar in stored(recorded_data, "bars_1m", "NIFTY50") if bar[0] < ns("2019-01-02")]
    assert rows[0].tolist() == [[float(entry) for entry in bar] for bar in recorded]
