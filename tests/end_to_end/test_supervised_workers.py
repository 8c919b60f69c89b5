"""The supervisor at work: what dies comes back, what cannot start disturbs nobody, what a person stopped stays stopped."""

import os
import signal
from typing import Any

from end_to_end.harness import Firm, until
from end_to_end.own_strategies import RAISING

ACME = """
[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "5s"
params = { fast = 2, slow = 4 }
"""
RAISES = """
[[strategies]]
id = "bad"
strategy = "raising"
symbols = ["BTC-USD"]
timeframe = "10s"
"""
WORKERS = ("acme:cross.BTC-USD", "acme:cross.ETH-USD")
ALL = {"market:feed", "monitor:watchdog", "acme:router", *WORKERS}


def test_a_killed_worker_is_back_by_itself_and_its_signals_go_on_without_gap_or_double(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ACME)
    firm.run("start", "acme")
    worker = WORKERS[0]
    until(lambda: firm.status(worker)[worker]["signals"] >= 3, "signals before the kill")
    before, said = firm.pids(), firm.bodies(worker)
    firm.kill(worker)
    firm.await_new_pid(worker, before[worker])
    until(lambda: firm.status(worker)[worker]["trading_state"] == "trading", "the worker trading again")
    count = len(said.splitlines())
    after = until(lambda: longer(firm.run("signals", worker, "-o", "json").objects(), count + 3), "signals after it")
    assert firm.bodies(worker).startswith(said), "what was decided before the kill has changed"
    assert [row["id"].rpartition("/")[2] for row in after] == [str(n) for n in range(len(after))]
    assert others(firm.pids(), worker) == others(before, worker)


def test_a_worker_that_raises_at_its_start_is_given_up_with_its_last_words_and_disturbs_nobody(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ACME)
    firm.write("clients/acme/strategies/raising.py", RAISING.replace("CAUSE", "True"))
    firm.run("start", "acme")
    before = firm.pids()
    firm.write("clients/acme/client.toml", ACME + RAISES)
    ran = firm.run("start", "acme", code=1)
    bad = "acme:bad.BTC-USD"
    first, second, *lines = ran.err.splitlines()[1:]
    assert first.startswith(f"error: {bad}: FATAL: ") and "RuntimeError: no luck today" in first
    assert second == f"last lines of {firm.home.log(bad)}:"
    assert any("no luck today" in line for line in lines)
    row = firm.status(bad)[bad]
    assert (row["process_state"], row["trading_state"], row["pid"]) == ("FATAL", "failed", None)
    assert "no luck today" in row["reason"]
    assert firm.pids() == before
    assert states(firm, *WORKERS) == {"trading"}

    # its file mended, it needs nothing but another `start`
    firm.write("clients/acme/strategies/raising.py", RAISING.replace("CAUSE", "False"))
    assert firm.run("start", "acme").err.splitlines()[0] == f"restarted 1: {bad}"
    assert states(firm, *WORKERS, bad) == {"trading"}
    assert others(firm.pids(), bad) == before


def test_what_was_stopped_stays_stopped_across_a_daemon_and_the_rest_is_back(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ACME)
    firm.write("clients/beta/client.toml", ACME)
    firm.run("start", "all")
    stopped = WORKERS[1]
    assert firm.run("stop", stopped).err == f"stopped 1: {stopped}\n"
    assert firm.run("stop", stopped).err == "already stopped\n"
    firm.run("stop", "beta")
    running = ALL - {stopped}
    assert firm.pids().keys() == running
    row = firm.status(stopped)[stopped]
    assert (row["process_state"], row["trading_state"], row["reason"]) == (
        "STOPPED",
        "stopped",
        "stopped by an operator",
    )

    before = firm.pids()
    assert firm.run("start", WORKERS[0]).err == "already running\nready: 3 processes\n"
    assert firm.pids() == before

    firm.run("down")
    assert firm.processes() == {}
    assert states(firm, *running) == {"stopped"}
    firm.run("up")
    until(lambda: firm.pids().keys() == running and states(firm, WORKERS[0]) == {"trading"}, "what was running")
    assert states(firm, stopped, "beta:router") == {"stopped"}

    # a file that grows asks for no more than the operator did
    firm.write("clients/beta/client.toml", ACME.replace("fast = 2", "fast = 3"))
    assert firm.run("apply").err == "nothing to change\n"
    firm.run("start", stopped)
    assert firm.pids().keys() == ALL


def test_after_a_kill_of_the_daemon_no_process_is_left_and_up_brings_all_back(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ACME)
    firm.run("start", "acme")
    until(lambda: len(firm.bodies("acme").splitlines()) >= 3, "signals")
    os.kill(firm.daemon_pid, signal.SIGKILL)
    until(lambda: not firm.processes(), "the end of every process", patience_s=10.0)
    said = firm.bodies("acme")
    assert firm.run("down").err == "no daemon is running\n"
    assert {row["reason"] for row in firm.status().values()} == {"no daemon is running"}
    firm.run("up")
    until(lambda: firm.pids().keys() == ALL and states(firm, *WORKERS) == {"trading"}, "all back")
    count = len(said.splitlines())
    after = until(lambda: longer(firm.bodies("acme").splitlines(), count + 3), "signals after it")
    assert after[:count] == said.splitlines()
    ids = [row["id"] for row in firm.run("signals", "acme", "-o", "json").objects()]
    assert len(ids) == len(set(ids))


def test_restart_gives_the_targets_new_processes_and_nobody_else(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", ACME)
    firm.run("start", "acme")
    before = firm.pids()
    # edited and not applied: a restart is no apply
    firm.edit("clients/acme/client.toml", "slow = 4", "slow = 5")
    assert firm.run("restart", WORKERS[0]).err == f"restarted 1: {WORKERS[0]}\n"
    after = firm.pids()
    assert after[WORKERS[0]] != before[WORKERS[0]]
    assert others(after, WORKERS[0]) == others(before, WORKERS[0])
    actions = {change["name"]: change["action"] for change in firm.run("plan", "-o", "json").json()}
    assert {actions[worker] for worker in WORKERS} == {"restart"}


def states(firm: Firm, *names: str) -> set[str]:
    rows = firm.status()
    return {rows[name]["trading_state"] for name in names}


def others(pids: dict[str, int], name: str) -> dict[str, int]:
    return {other: pid for other, pid in pids.items() if other != name}


def longer(items: list[Any], length: int) -> list[Any] | None:
    return items if len(items) >= length else None
