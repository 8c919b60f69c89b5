"""Dirty recordings: what is wrong in them is counted, reported and never traded on, and nothing crashes."""

import re
from pathlib import Path

from end_to_end.harness import Firm, assert_one_message

LEAN_QUOTES = ("--columns", "ts=0,bid=1,bid_size=2,ask=3,ask_size=4", "--scale", "10000", "--zone", "America/New_York")
# file: (kind, symbol, how its columns are to be read, rows, rows kept, gaps)
DIRTY = {
    "freqtrade-UNITTEST_BTC-1m.json": (
        "bars_1m",
        "BTC-USD",
        ("--columns", "ts=0,open=1,high=2,low=3,close=4,volume=5", "--time", "ms", "--stamp", "open"),
        (13_681, 13_681, 538),
    ),
    "gct-binance-btcusdt-trades-20201116.csv.gz": (
        "trades",
        "BTC-USDT",
        ("--columns", "ts=0,price=1,size=2,side=3", "--time", "s"),
        (1_000, 1_000, 0),
    ),
    "histdata-eurusd-ticks-20200101.csv.gz": (
        "quotes",
        "EURUSD",
        ("--columns", "ts=0,bid=1,ask=2", "--time", "%Y%m%d %H%M%S%f", "--zone", "UTC-5"),
        (9_500, 9_500, 0),
    ),
    "lean-ibm-quote-ticks-20131007.csv.gz": (
        "quotes",
        "IBM",
        (*LEAN_QUOTES, "--time", "ms-of-day:2013-10-07"),
        (109_067, 0, 0),
    ),
}
CLIENT = """
[accounts]
%(accounts)s

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = [%(symbols)s]
timeframe = "%(timeframe)s"
params = { fast = 2, slow = 5 }

[[strategies]]
id = "revert"
strategy = "mean_reversion"
symbols = [%(symbols)s]
timeframe = "%(timeframe)s"
params = { window = 5, entry_z = 1.2 }
"""
POISON = "987654"


def client(*symbols: str, timeframe: str) -> str:
    accounts = "\n".join(f'{symbol} = {{ venue = "somewhere", account = "acme-main" }}' for symbol in symbols)
    return CLIENT % {"accounts": accounts, "symbols": ", ".join(map(repr, symbols)), "timeframe": timeframe}


def test_recorded_dirt_is_imported_with_its_counts_and_runs_in_both_modes(firm: Firm, recorded_data: Path) -> None:
    history = firm.root / "history"
    commands = [
        ("import", recorded_data / "dirty" / name, "--history", history, "--kind", kind, "--symbol", symbol, *columns)
        for name, (kind, symbol, columns, _) in DIRTY.items()
    ]
    imported = firm.run_all(*((*command, "-o", "json") for command in commands))
    for ran, (name, (_, _, _, expected)) in zip(imported, DIRTY.items(), strict=True):
        report = ran.json()
        assert (report["seen"], report["kept"], report["gaps"]) == expected, name
    symbols = sorted(symbol for _, symbol, _, _ in DIRTY.values())
    firm.write("clients/acme/client.toml", client(*symbols, timeframe="1m"))
    results, bodies = run_both(firm, history)
    quality = {series: report for result in results for series, report in result["quality"].items()}
    assert quality["IBM/quote"]["counts"] == {"one_sided": 109_067}
    assert {result["signals"] for result in results if result["name"].endswith("IBM")} == {0}
    assert all(result["signals"] for result in results if result["name"].endswith((".BTC-USD", ".EURUSD")))
    assert '"symbol":"IBM"' not in bodies


def test_rows_of_every_fault_are_counted_and_reach_no_strategy(firm: Firm) -> None:
    history = firm.root / "history"
    sound = [f"{minute * 60},{price},{price + 1},{price - 1},{price},5" for minute, price in walk(200)]
    faulty = {
        20: f"1200,{POISON},{POISON},{POISON},{POISON},5",  # again, at the time of the row before
        40: f"60,{POISON},{POISON},{POISON},{POISON},5",  # back in time
        60: f"3630,{POISON},1,{POISON},2,5",  # high below low
        80: f"4830,nan,{POISON},1,{POISON},5",
        100: f"6030,{POISON},{POISON},0,{POISON},5",
        120: f"7230,{POISON},{POISON},{POISON},{POISON},-1",
        140: f"8430,{POISON},many,{POISON}",
        160: f"9630,inf,{POISON},1,{POISON},5",
    }
    del sound[170:180]  # ten minutes without a bar
    for place, row in sorted(faulty.items(), reverse=True):
        sound.insert(place, row)
    source = firm.write("made.csv", "\n".join(sound) + "\n")
    columns = ("--columns", "ts=0,open=1,high=2,low=3,close=4,volume=5", "--time", "s")
    target = ("--history", history, "--kind", "bars_1m", "--symbol", "MADE")
    ran = firm.run("import", source, *target, *columns)
    counts = {line.split()[0]: line.split()[1] for line in ran.lines}
    assert counts == {
        "what": "count",
        "rows": "198",
        "sound": "190",
        "duplicate": "1",
        "out_of_order": "1",
        "crossed": "1",
        "not_finite": "2",
        "not_positive": "1",
        "negative_volume": "1",
        "unparsable": "1",
        "gaps": "1",
    }
    first = {line.split()[0]: line.split(maxsplit=2)[2] for line in ran.lines[3:-1]}
    assert first["unparsable"] == "made.csv row 147"
    assert re.fullmatch(r"made\.csv row 21, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.0{9}Z", first["duplicate"])
    assert ran.err == f"wrote {history}/bars_1m/MADE.parquet\n"
    assert firm.run("import", source, *target, *columns, code=2).err.startswith("error: ")

    firm.write("clients/acme/client.toml", client("MADE", timeframe="1m"))
    results, bodies = run_both(firm, history)
    assert {result["records"] for result in results} == {190}
    assert {result["quality"]["MADE/bar.1m"]["kept"] for result in results} == {190}
    assert all(result["signals"] > 5 for result in results)
    assert POISON not in bodies


def run_both(firm: Firm, history: Path) -> tuple[list[dict], str]:  # type: ignore[type-arg]  # JSON as it came
    """Results of a backtest, and the bodies, which a simulation gives as well; the feed tells what it left out."""
    results = firm.run("backtest", "acme", "--history", history, "-o", "json").json()
    bodies = firm.bodies("acme")
    firm.run("start", "acme", "--mode", "simulation", "--history", history, "--speed", 0)
    assert sorted(firm.bodies("acme").splitlines()) == sorted(bodies.splitlines())
    told = firm.run("logs", "market:feed", "-n", 100).out
    for result in results:
        for series, report in result["quality"].items():
            line = next(line for line in told.splitlines() if f"quality of {series}: " in line)
            assert f"{report['seen']} rows, {report['kept']} kept" in line
            assert all(f"{count} {rule}" in line for rule, count in report["counts"].items())
    return results, bodies


def walk(minutes: int) -> list[tuple[int, int]]:
    """Prices that turn often enough for every strategy to speak."""
    return [(minute, 100 + (minute * minute) % 17) for minute in range(1, minutes + 1)]


def test_a_mapping_that_makes_no_sense_is_told_and_nothing_is_written(firm: Firm) -> None:
    source = firm.write("made.csv", "60,1,2,1,1,5\n")
    sound = {
        "--history": firm.root / "history",
        "--kind": "bars_1m",
        "--symbol": "MADE",
        "--columns": "ts=0,open=1,high=2,low=3,close=4,volume=5",
        "--time": "s",
    }
    wrong = {
        ("--time", "moonphase"): ["time: expected s, ms", "moonphase"],
        ("--columns", "ts=0,open=1"): ["columns", "close"],
        ("--zone", "Mars/Olympus"): ["Mars/Olympus"],
        ("--kind", "candles"): ["expected trades, quotes or bars_<timeframe>", "'candles'"],
        ("--symbol", "../../etc"): ["../../etc"],
    }
    asked = [
        ("import", source, *(word for pair in {**sound, **dict([fault])}.items() for word in pair)) for fault in wrong
    ]
    for ran, words in zip(firm.run_all(*asked), wrong.values(), strict=True):
        assert_one_message(ran, 2, *words)
    assert list(firm.root.rglob("*.parquet")) == []
