"""From nothing to a running client with a strategy of its own: what new-client and new-strategy make works as it is."""

import subprocess
import sys

from cli.clients import CROSSOVER
from end_to_end.harness import Firm, assert_one_message, clean_environment, until
from end_to_end.recordings import write_market

OWN = """
[[strategies]]
id = "own"
strategy = "breakout"
symbols = ["BTC-USD"]
timeframe = "10s"
params = { lookback_bars = 5, exit_after_bars = 3 }
"""


def test_a_new_client_and_a_new_strategy_work_as_they_are(firm: Firm) -> None:
    made = firm.run("new-client", "acme").lines + firm.run("new-strategy", "acme", "breakout").lines
    folder = firm.root / "clients" / "acme"
    expected = ["client.toml", "strategies", "strategies/breakout.py", "strategies/test_breakout.py"]
    assert made == [str(folder / name) for name in expected]
    config = folder / "client.toml"
    config.write_text(config.read_text().replace('timeframe = "1m"', 'timeframe = "10s"') + OWN)
    assert firm.run("check", "acme").err == "ok: acme\n"

    write_market(firm.root / "history", "BTC-USD", seed=5, seconds=3_600, per_second=2)
    results = firm.run("backtest", "acme", "--history", firm.root / "history", "-o", "json").json()
    said = {result["name"]: result["signals"] for result in results}
    assert said.keys() == {"acme:crossover_v1.BTC-USD", "acme:own.BTC-USD"} and min(said.values()) > 2, said

    assert firm.run("start", "acme").err.endswith("ready: 4 processes\n")
    states = {name: row["trading_state"] for name, row in firm.status().items()}
    assert states == {
        "market:feed": "publishing",
        "monitor:watchdog": "watching",
        "acme:router": "routing",
        "acme:crossover_v1.BTC-USD": "trading",
        "acme:own.BTC-USD": "trading",
    }
    until(lambda: firm.bodies("acme:own"), "a signal of the own strategy")


def test_the_test_beside_a_new_strategy_passes_and_can_fail(firm: Firm) -> None:
    firm.run("new-client", "acme")
    firm.run("new-strategy", "acme", "breakout")
    folder = firm.root / "clients" / "acme" / "strategies"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(None), cwd=firm.root, check=False
    )
    assert ran.returncode == 0 and "2 passed" in ran.stdout, ran.stdout
    firm.edit("clients/acme/strategies/breakout.py", "bar.close > self._highs.value", "bar.close < self._highs.value")
    ran = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(None), cwd=firm.root, check=False
    )
    assert ran.returncode == 1 and "failed" in ran.stdout, ran.stdout


def test_names_that_are_taken_or_no_names_are_refused_and_nothing_is_overwritten(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    firm.run("new-strategy", "acme", "breakout")
    refused = {
        ("new-client", "acme"): "expected a name that is free",
        ("new-client", "all"): "found 'all'",
        ("new-client", "../acme"): "found '../acme'",
        ("new-strategy", "acme", "breakout"): "expected a name that is free",
        ("new-strategy", "acme", "swing_high"): "which is built in",
        ("new-strategy", "acne", "breakout"): "strategy-runner new-client acne makes it",
    }
    before = {path: path.read_bytes() for path in (firm.root / "clients").rglob("*") if path.is_file()}
    for ran, word in zip(firm.run_all(*refused), refused.values(), strict=True):
        assert_one_message(ran, 2, word)
    assert {path: path.read_bytes() for path in (firm.root / "clients").rglob("*") if path.is_file()} == before
