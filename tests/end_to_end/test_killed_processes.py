"""kill -9 of feed, router and workers during a simulation: at its end everything is as if nothing had happened."""

import random
from pathlib import Path
from typing import Any

import pytest
from end_to_end.harness import Firm, until
from end_to_end.own_strategies import LISTENER
from end_to_end.recordings import write_market

from strategy_runner.tape.logs import read_log

SYMBOLS = ("BTC-USD", "ETH-USD")
MARKET_SECONDS = 1_200
SPEED = 80  # fifteen seconds: long enough, also on a busy machine, to kill every process once it has run for a second
KILLS = ("market:feed", "acme:router", "worker", "worker", "acme:router", "market:feed", "worker")
CLIENT = """
routes = ["quantconnect"]

[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "2s"
params = { fast = 2, slow = 5 }

[[strategies]]
id = "low"
strategy = "swing_low"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "5s"
models = [
    { id = "one", confidence_threshold = 0.5, lookback_window = 5, weight = 1.0 },
    { id = "two", confidence_threshold = 0.5, lookback_window = 5, weight = 2.0 },
]
params = { lookback_bars = 3, exit_after_bars = 3 }

[[strategies]]
id = "listener"
strategy = "listener"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "1m"
"""
# all that does not say when or in which life of a process something was written
COLUMNS = """number, signal_id, verdict, reason, refused_by, strategy, symbol, action, size, entry_price, stop_loss,
    confidence, strength, event_ns, cause_stream, cause_ordinal, seq, mode, generation, n, reasons, body"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    for seed, symbol in enumerate(SYMBOLS):
        write_market(folder, symbol, seed=seed, seconds=MARKET_SECONDS, per_second=5)
    return folder


@pytest.fixture(scope="module")
def undisturbed(history: Path) -> dict[str, Any]:
    with Firm() as firm:
        bring_client(firm)
        simulate(firm, history, 0)
        found = everything(firm)
    assert len(found["bodies"].splitlines()) > 200, "too few signals to prove anything"
    assert len(found["csv"]) == len(SYMBOLS)
    return found


def test_kills_in_turn_change_no_signal_no_row_and_no_csv_line(
    firm: Firm, history: Path, undisturbed: dict[str, Any], luck: random.Random
) -> None:
    bring_client(firm)
    simulate(firm, history, SPEED, "--no-wait")
    killed = []
    for name in KILLS:
        workers = sorted(known for known in until(firm.pids, "processes") if "." in known)
        victim = luck.choice(workers) if name == "worker" else name
        # one that has not run for a second is started again after a pause, and the run would be over too soon
        until(lambda victim=victim: firm.states().get(victim) == "RUNNING", f"{victim} running")  # type: ignore[misc]
        firm.await_new_pid(victim, firm.kill(victim))
        killed.append(victim)
    assert not has_ended(firm), "all kills must come before the end; lower SPEED"
    compare_at_the_end(firm, undisturbed, killed)


def test_kills_of_everything_while_it_starts_change_nothing_either(
    firm: Firm, history: Path, undisturbed: dict[str, Any], luck: random.Random
) -> None:
    bring_client(firm)
    simulate(firm, history, 0, "--no-wait")
    victims = sorted(until(firm.pids, "processes"))
    luck.shuffle(victims)
    killed = {victim: firm.kill(victim) for victim in victims}
    for victim, pid in killed.items():
        firm.await_new_pid(victim, pid)
    compare_at_the_end(firm, undisturbed, victims)


def bring_client(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CLIENT)
    firm.write("clients/acme/strategies/listener.py", LISTENER)


def simulate(firm: Firm, history: Path, speed: float, *more: str) -> None:
    firm.run("start", "acme", "--mode", "simulation", "--history", history, "--speed", speed, *more)


def compare_at_the_end(firm: Firm, undisturbed: dict[str, Any], killed: list[str]) -> None:
    until(lambda: has_ended(firm), "the end of the simulation")
    firm.run("down")  # lets the sinks have what was decided last
    disturbed = everything(firm)
    for what, expected in undisturbed.items():
        assert disturbed[what] == expected, f"{what} differ after kills of {killed}"


def has_ended(firm: Firm) -> bool:
    rows = firm.status()
    followers = [row for row in rows.values() if not row["name"].endswith((":router", ":watchdog"))]
    return all(row["trading_state"] == "finished" for row in followers)


def everything(firm: Firm) -> dict[str, Any]:
    """What a client has of a run, in all the places where it may look."""
    folder = firm.home.client_state("acme", "simulation") / "quantconnect"
    return {
        "bodies": firm.bodies("acme"),
        "rows": firm.run("sql", "acme", f"SELECT {COLUMNS} FROM signals ORDER BY number", "-o", "json").out,
        "models": firm.run("sql", "acme", "SELECT * FROM signal_models ORDER BY ALL", "-o", "json").out,
        "csv": {path.name: path.read_text() for path in sorted(folder.rglob("*.csv"))},
        "dead letters": list(read_log(firm.home.router("acme", "simulation") / "dead_letters.log")),
    }
