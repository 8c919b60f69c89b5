"""Real recorded data gives the same signals in simulation and in historical mode, byte for byte, every time."""

import json
import time
from pathlib import Path

import pytest
from end_to_end.harness import Firm
from end_to_end.own_strategies import ANSWERING, LISTENER, LOCAL

from strategy_runner.model.signal import decode_body

SHORT = ("EURUSD",)  # beside the trades of BTC-USDT-PERP
ALL = ("SPY", "EURUSD", "BTC-USD")
STRATEGIES = {"momentum", "cross", "revert", "high", "low", "listener"}
CLIENT = """
routes = ["quantconnect"]

[accounts]
SPY = { venue = "arca", account = "acme-main" }
BTC-USDT-PERP = { venue = "binance", account = "acme-main" }
EURUSD = { venue = "oanda", account = "acme-main" }
BTC-USD = { venue = "coinbase", account = "acme-main" }
"""
# twice: the five minutes of BTC-USDT-PERP want shorter bars than the days of the others
SET = """
[[strategies]]
id = "momentum%(suffix)s"
strategy = "momentum_rider"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
params = { lookback_bars = 3, threshold = 0.0002, exit_after_bars = 4 }

[[strategies]]
id = "cross%(suffix)s"
strategy = "moving_average_crossover"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
params = { fast = 3, slow = 8 }
stop_loss_fraction = 0.01

[[strategies]]
id = "revert%(suffix)s"
strategy = "mean_reversion"
symbols = %(symbols)s
timeframe = "%(longer)s"
params = { window = 10, entry_z = 1.5, exit_z = 0.2 }

[[strategies]]
id = "high%(suffix)s"
strategy = "swing_high"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
models = [{ id = "one", confidence_threshold = 0.5, lookback_window = 10, weight = 1.0 }]
params = { lookback_bars = 4, exit_after_bars = 3 }

[[strategies]]
id = "low%(suffix)s"
strategy = "swing_low"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
models = [
    { id = "one", confidence_threshold = 0.5, lookback_window = 10, weight = 1.0 },
    { id = "two", confidence_threshold = 0.5, lookback_window = 10, weight = 2.0 },
]
params = { lookback_bars = 4, exit_after_bars = 3 }
take_profit_fraction = 0.02
"""
OWN = """
[[strategies]]
id = "listener"
strategy = "listener"
symbols = %(symbols)s
timeframe = "1m"
"""
TRADING = """
routes = ["oms"]

[accounts]
BTC-USD = { venue = "coinbase", account = "acme-main" }

[paper]
latency_ms = 500
slippage_ticks = 1
fees = { taker = 0.0001 }

[[strategies]]
id = "answering"
strategy = "answering"
symbols = ["BTC-USD"]
timeframe = "1m"
size = 1.0
stop_loss_fraction = 0.0005
take_profit_fraction = 0.0005

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "1m"
params = { fast = 3, slow = 8 }
size = 1.0
"""


@pytest.mark.parametrize("symbols", [SHORT, pytest.param(ALL, marks=pytest.mark.slow)], ids=["short", "all"])
def test_real_data_gives_the_same_bytes_in_simulation_and_historical_mode_every_time(
    firm: Firm, recorded_data: Path, symbols: tuple[str, ...]
) -> None:
    for kind in ("trades/SPY", "trades/BTC-USDT-PERP", "bars_1m/EURUSD", "bars_1m/BTC-USD"):
        assert (recorded_data / f"{kind}.parquet").is_file()
    long = {"suffix": "", "symbols": json.dumps(symbols), "timeframe": "1m", "longer": "5m"}
    short = {"suffix": "_short", "symbols": '["BTC-USDT-PERP"]', "timeframe": "2s", "longer": "5s"}
    listened = [
        symbol for symbol in (*symbols, "BTC-USDT-PERP") if (recorded_data / f"trades/{symbol}.parquet").exists()
    ]
    own = OWN % {"symbols": json.dumps(listened)}
    firm.write("clients/acme/client.toml", CLIENT + SET % long + SET % short + own)
    firm.write("clients/acme/strategies/listener.py", LISTENER)
    history = ("--history", recorded_data)

    runs: dict[str, str] = {}
    for hash_seed in ("1", "2"):
        began = time.monotonic()
        results = firm.run("backtest", "acme", *history, "-o", "json", environ={"PYTHONHASHSEED": hash_seed}).json()
        taken_s = time.monotonic() - began
        runs[f"backtest, PYTHONHASHSEED={hash_seed}"] = firm.bodies("acme")
        records, signals = (sum(result[what] for result in results) for what in ("records", "signals"))
        print(f"backtest: {len(results)} workers, {records} records, {signals} signals, {taken_s:.1f} s")
    for turn in ("first", "second"):
        began = time.monotonic()
        firm.run("start", "acme", "--mode", "simulation", *history, "--speed", 0)
        taken_s = time.monotonic() - began
        runs[f"{turn} simulation"] = firm.bodies("acme")
        rows = firm.status("acme")
        print(f"simulation: {len(rows)} processes, {rows['acme:router']['signals']} signals, {taken_s:.1f} s")
        firm.run("stop", "acme")

    expected = runs["backtest, PYTHONHASHSEED=1"]
    assert runs["backtest, PYTHONHASHSEED=2"] == expected
    assert runs["first simulation"] == runs["second simulation"]
    assert sorted(runs["first simulation"].splitlines()) == sorted(expected.splitlines())
    silent = [result["name"] for result in results if not result["signals"]]
    assert silent == [], "strategies that said nothing prove nothing"
    assert {
        name.partition(":")[2].partition(".")[0].removesuffix("_short") for name in map(str, names(results))
    } == STRATEGIES
    for result in results:
        worker = rows[result["name"]]
        assert (worker["records"], worker["signals"], worker["refusals"]) == (
            result["records"],
            result["signals"],
            result["refusals"],
        )


def test_a_time_that_a_strategy_takes_for_a_local_one_is_the_same_on_every_host(
    firm: Firm, recorded_data: Path
) -> None:
    own = OWN.replace("listener", "local") % {"symbols": '["EURUSD"]'}
    firm.write("clients/acme/client.toml", CLIENT + own)
    firm.write("clients/acme/strategies/local.py", LOCAL)
    bodies = []
    for zone in ("Asia/Kolkata", "America/New_York"):
        firm.run("backtest", "acme", "--history", recorded_data, environ={"TZ": zone})
        bodies.append(firm.bodies("acme"))
    assert bodies[0] == bodies[1]
    assert "12:30:00+00:00" in bodies[0]


@pytest.mark.parametrize("more", ["", ", trades=True, quotes=True"], ids=["", "reads what nobody recorded"])
def test_strategies_that_answer_their_fills_give_the_same_bytes_and_fills_in_both_modes(
    firm: Firm, recorded_data: Path, more: str
) -> None:
    """Orders of one that reads trades too waited for them for ever, where bars alone are recorded."""
    assert (recorded_data / "bars_1m/BTC-USD.parquet").is_file()
    firm.write("clients/acme/client.toml", TRADING)
    firm.write("clients/acme/strategies/answering.py", ANSWERING.replace("bars=True", f"bars=True{more}"))
    firm.run("backtest", "acme", "--history", recorded_data)
    historical = firm.bodies("acme"), fills(firm, "historical")
    firm.run("start", "acme", "--mode", "simulation", "--history", recorded_data, "--speed", 0)
    simulated = firm.bodies("acme"), fills(firm, "simulation")
    firm.run("stop", "acme")
    assert sorted(simulated[0].splitlines()) == sorted(historical[0].splitlines())
    assert simulated[1] == historical[1]
    assert len(historical[1]) == 2
    causes = [decode_body(line.encode()).cause.stream for line in historical[0].splitlines()]
    answers = sum(cause.endswith("/private") for cause in causes)
    print(f"{len(causes)} signals, {answers} of them answers to fills")
    assert answers > 20


def fills(firm: Firm, mode: str) -> dict[str, bytes]:
    """By worker, its fill log to the byte."""
    paths = (firm.root / "var/clients/acme" / mode / "workers").glob("*/fills.log")
    return {path.parent.name: path.read_bytes() for path in paths}


def names(results: list[dict[str, object]]) -> list[object]:
    return [result["name"] for result in results]
