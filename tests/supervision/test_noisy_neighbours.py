"""Workers of one client spin, leak, flood their log, crash and fork: the other client trades on, byte for byte the same."""

from typing import Any

import pytest
from end_to_end.harness import Firm, told, until
from noisy_strategies import NOISY

from strategy_runner.supervision.conditions import read_actions
from strategy_runner.supervision.watchdog.process import read_stat

ACCOUNTS = """
[accounts]
BTC-USD = { venue = "binance", account = "main" }
ETH-USD = { venue = "binance", account = "main" }
"""
QUIET = f"""{ACCOUNTS}
[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "5s"
params = {{ fast = 2, slow = 4 }}
"""
STRATEGY = """
[[strategies]]
id = "{name}"
strategy = "{name}"
symbols = ["BTC-USD"]
timeframe = "5s"
limits = {{ memory_limit_mb = 32 }}
"""
QUIET_WORKERS = ("quiet:cross.BTC-USD", "quiet:cross.ETH-USD")
PARKED = ("spinner", "leaker", "crasher", "wanderer", "forker")
LOG_LIMIT_MB = 0.5


@pytest.fixture
def firm() -> Any:
    with Firm() as firm:
        firm.edit("configs/local-dev.toml", "hang_s = 5.0 ", "hang_s = 1.0 ")
        firm.edit("configs/local-dev.toml", "log_limit_mb = 64 ", f"log_limit_mb = {LOG_LIMIT_MB} ")
        firm.write("clients/quiet/client.toml", QUIET)
        firm.write("clients/noisy/client.toml", ACCOUNTS + "".join(STRATEGY.format(name=name) for name in NOISY))
        for name, text in NOISY.items():
            firm.write(f"clients/noisy/strategies/{name}.py", text)
        yield firm


def test_noisy_neighbours_are_parked_or_shown_and_the_others_lose_no_signal(firm: Firm) -> None:
    firm.run("start", "quiet")
    before = {name: firm.pids()[name] for name in QUIET_WORKERS}
    firm.run("start", "noisy", "--no-wait")
    rows = until(lambda: all_dealt_with(firm), "every offender parked or shown", instead=lambda: as_they_are(firm))
    for name in PARKED:
        assert rows[f"noisy:{name}.BTC-USD"]["trading_state"] == "parked", rows[f"noisy:{name}.BTC-USD"]
    killed = [one for one in read_actions(firm.home) if one.action == "killed"]
    assert {one.name for one in killed} == {"noisy:spinner.BTC-USD"}
    assert all(one.reason.startswith("no progress at seq ") for one in killed) and len(killed) == 3

    flooder = firm.home.log("noisy:flooder.BTC-USD")
    until(lambda: flooder.with_name(flooder.name + ".1").exists(), "the flood's older log")
    assert rows["noisy:flooder.BTC-USD"]["trading_state"] == "trading"

    assert {name: firm.pids()[name] for name in QUIET_WORKERS} == before, "nobody else was touched"
    count = signals(firm)
    until(lambda: signals(firm) >= count + 5, "signals after it all")
    stat = read_stat(firm.daemon_pid)
    assert stat is not None and stat.cpu_s < 10, "the daemon has nothing to do with it"
    firm.run("stop", "all")
    ran = firm.run("parity", "quiet", "-o", "json")
    assert ran.json()["equal"], told(ran)
    assert sum(row["signals"] for row in ran.json()["workers"]) >= count + 5


def all_dealt_with(firm: Firm) -> dict[str, Any] | None:
    rows = firm.status()
    parked = all(rows[f"noisy:{name}.BTC-USD"]["trading_state"] == "parked" for name in PARKED)
    return rows if parked and "floods its log" in rows["noisy:flooder.BTC-USD"]["reason"] else None


def as_they_are(firm: Firm) -> str:
    rows = "\n".join(str(row) for row in firm.status("noisy").values())
    done = "\n".join(str(one) for one in read_actions(firm.home))
    logs = "\n".join(f"{name}: {firm.home.log(f'noisy:{name}.BTC-USD').read_text()[-800:]}" for name in NOISY)
    return f"{rows}\n{done}\n{logs}"


def signals(firm: Firm) -> int:
    rows = firm.status("quiet")
    return sum(int(rows[name]["signals"]) for name in QUIET_WORKERS)
