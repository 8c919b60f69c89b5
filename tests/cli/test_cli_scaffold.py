"""From nothing to a running client with a strategy of its own: what new-client and new-strategy make works as it is."""

import subprocess
import sys

from cli.clients import CROSSOVER
from cli.terminal import raw
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


ODD = """
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class OddParams(Params, frozen=True):
    fails: bool = False


class Odd(Strategy):
    Params = OddParams
    inputs = Inputs(bars=True)

    def on_bar(self, bar):
        if self.params.fails:
            raise ValueError("\\x1b[2Jgone")
        self.buy("\\x1b[2Jgone\\nodum:other.SPY close \\x9b31m accepted")
"""

ODD_CLIENT = """
mode = "mock"
routes = []

[accounts]
BTC-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "odd"
strategy = "odd"
symbols = ["BTC-USD"]
timeframe = "10s"
"""


def test_what_a_strategy_says_moves_no_cursor_and_begins_no_line(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ODD_CLIENT)
    firm.write("clients/acme/strategies/odd.py", ODD)
    write_market(firm.root / "history", "BTC-USD", seed=5, seconds=60, per_second=2)
    firm.run("backtest", "acme", "--history", firm.root / "history")
    names = firm.run("signals", "acme", "-o", "name").lines
    said = firm.run("signals", "acme").lines
    assert len(said) == 1 + len(names) > 2
    told = "\\x1b[2Jgone\\nodum:other.SPY close \\x9b31m accepted"
    assert said[1].endswith(told)
    assert f"  {told}" in firm.run("explain", names[0]).lines
    assert "\x1b[2J" not in raw(firm, 200, "signals", "acme") + raw(firm, 200, "explain", names[0])

    firm.write("clients/acme/client.toml", f"{ODD_CLIENT}params = {{ fails = true }}\n")
    failed = firm.run("backtest", "acme", "--history", firm.root / "history", code=1).err
    assert "ValueError: \\x1b[2Jgone" in failed and "\x1b" not in failed


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
        ("new-strategy", "acme", "numpy"): "found 'numpy', which is a module of Python or a library",
        ("new-strategy", "acne", "breakout"): "strategy-runner new-client acne makes it",
    }
    before = {path: path.read_bytes() for path in (firm.root / "clients").rglob("*") if path.is_file()}
    for ran, word in zip(firm.run_all(*refused), refused.values(), strict=True):
        assert_one_message(ran, 2, word)
    assert {path: path.read_bytes() for path in (firm.root / "clients").rglob("*") if path.is_file()} == before


def test_check_warns_of_a_misspelt_callback(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER + OWN)
    firm.run("new-strategy", "acme", "breakout")
    code = firm.root / "clients" / "acme" / "strategies" / "breakout.py"
    code.write_text(code.read_text().replace("def on_bar(", "def on_bra("))
    assert firm.run("check", "acme").lines == [
        "warning: clients/acme/strategies/breakout.py: Breakout.on_bra: valid, and called by nothing; did you mean on_bar?",
        "warning: clients/acme/strategies/breakout.py: Breakout.inputs.bars: valid, and heard by nothing: there is no on_bar",
    ]
