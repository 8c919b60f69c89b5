"""The README's tour, walked: what it tells a stranger to type does what it says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).with_name("strategy-runner")
PATIENCE_S = 60.0
LOOK_INTERVAL_S = 0.05


class Home:
    """A home in /tmp, since socket paths are short, and the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str, code: int = 0) -> str:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("STRATEGY_RUNNER")}
        words = [str(COMMAND), *arguments]
        ended = subprocess.run(
            words, cwd=self.root, env=ours, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert ended.returncode == code, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def status(self, target: str = "all") -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads(self.run("status", target, "-o", "json"))}


@pytest.fixture
def home() -> Iterator[Home]:
    root = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    home = Home(root / "firm")
    subprocess.run([COMMAND, "init", str(home.root)], check=True, capture_output=True)
    try:
        yield home
    finally:
        home.run("down")
        shutil.rmtree(root)


def test_the_tour_of_the_readme(home: Home) -> None:
    home.run("check")
    home.run("start", "all")
    before = home.status()
    assert {row["process_state"] for row in before.values()} <= {"RUNNING", "STARTING"}

    client = home.root / "clients" / "odum" / "client.toml"
    text = client.read_text()
    assert text.count('symbols = ["SPY", "BTC-USD"]') == 1
    client.write_text(text.replace('symbols = ["SPY", "BTC-USD"]', 'symbols = ["SPY", "BTC-USD", "EURUSD"]'))
    changes = {change["name"]: change for change in json.loads(home.run("plan", "odum", "-o", "json"))}
    assert changes["odum:router"]["reason"] == 'workers: +"crossover_1m.EURUSD"'
    home.run("apply")
    after = home.status()
    assert after.keys() - before.keys() == {"odum:crossover_1m.EURUSD"}
    assert all(after[name]["pid"] == before[name]["pid"] for name in before)

    killed = "odum:crossover_1m.SPY"
    os.kill(after[killed]["pid"], signal.SIGKILL)
    wait_until_trading(home, killed, after[killed]["pid"])

    assert until_a_signal(home)["client"] == "odum"
    told = home.run("explain", until_a_signal(home)["id"])
    assert [line for line in told.splitlines() if not line.startswith(" ")][:2] == ["record", "strategy"]

    home.run("stop", "odum")
    stopped = home.status("odum")
    assert {row["trading_state"] for row in stopped.values()} == {"stopped"}
    logs = "".join(path.read_text() for path in (home.root / "var" / "logs").glob("*/*.log"))
    assert "ERROR" not in logs, logs


def wait_until_trading(home: Home, name: str, old_pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        row = home.status("odum")[name]
        if row["pid"] not in (None, old_pid) and row["trading_state"] == "trading":
            return
        time.sleep(LOOK_INTERVAL_S)
    raise AssertionError(f"expected {name} back within {PATIENCE_S:g} s")


def until_a_signal(home: Home) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        lines = home.run("signals", "odum", "-o", "json").splitlines()
        if lines:
            found: dict[str, Any] = json.loads(lines[0])
            return found
        time.sleep(LOOK_INTERVAL_S)
    raise AssertionError(f"expected a signal within {PATIENCE_S:g} s")
