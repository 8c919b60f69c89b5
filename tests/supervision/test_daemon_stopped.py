"""The daemon stopped, killed, or met by a copy that it did not start: nothing waits for it, and nothing runs twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.harness import Firm, clean_environment, until
from worker.processes import is_alive

from strategy_runner.supervision.control import Daemon
from strategy_runner.tape.status import State, Status, read_status

CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "5s"
params = { fast = 2, slow = 4 }

[[strategies]]
id = "chatter"
strategy = "chatter"
symbols = ["BTC-USD"]
timeframe = "5s"
"""
# far more than a pipe would hold
CHATTER = '''
"""Says much at every bar."""

import logging

from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Chatter(Strategy):
    inputs = Inputs(bars=True)

    def on_bar(self, bar: Bar) -> None:
        logging.getLogger("chatter").warning("%s", "x" * 65_536)
'''
WORKER, CHATTERING = "acme:cross.BTC-USD", "acme:chatter.BTC-USD"


@pytest.fixture
def running() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CLIENT)
        firm.write("clients/acme/strategies/chatter.py", CHATTER)
        firm.run("start", "acme")
        yield firm


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_stopped_daemon_holds_nobody_up_and_a_kill_of_it_ends_all(running: Firm, seconds: float) -> None:
    daemon, before = running.daemon_pid, running.pids()
    log = running.home.log(CHATTERING)
    os.kill(daemon, signal.SIGSTOP)
    try:
        told, records, signals = log.stat().st_size, page(running, WORKER).records, page(running, WORKER).signals
        began = time.monotonic()
        until(lambda: log.stat().st_size > told + (1 << 20), "a megabyte of log")
        until(lambda: page(running, WORKER).records > records + 20, "records")
        until(lambda: page(running, WORKER).signals > signals, "signals")
        until(lambda: time.monotonic() - began > seconds, "the time to pass", patience_s=seconds + 10)
        assert all(is_alive(pid) for pid in before.values())
        assert page(running, WORKER).state is State.FOLLOWING
    finally:
        os.kill(daemon, signal.SIGCONT)
    until(lambda: running.pids() == before, "the same processes after it")

    os.kill(daemon, signal.SIGSTOP)
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not any(map(is_alive, before.values())), "the end of all that it had started", patience_s=10)
    assert running.processes() == {}
    running.run("up")
    until(lambda: following(running), "all at work again")
    after = running.pids()
    assert after.keys() == before.keys()
    assert len(running.processes()) == len(after) + 2, "one of each, the daemon, and the zygote"


def test_a_copy_that_the_daemon_did_not_start_keeps_its_folder_until_it_ends(running: Firm) -> None:
    running.run("down")
    spec = running.home.daemon / "specs" / "acme" / "cross.BTC-USD.json"
    orphan = subprocess.Popen(
        [sys.executable, "-m", "strategy_runner.assembly", str(spec)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(None),
        cwd="/",
    )
    try:
        until(lambda: holder(running) == orphan.pid, "the orphan in its folder")
        running.run("up")
        log = running.home.log(WORKER)
        refused = f"expected a free folder, found it held by pid {orphan.pid}"
        # more often than supervisord tries what does not start
        until(lambda: log.read_text().count(refused) > 4, "refusals")
        reason = until(lambda: waiting_word(running), "the word about it in status")
        assert reason == f"its folder is held by process {orphan.pid}, which the daemon did not start"
        assert orphan.poll() is None and holder(running) == orphan.pid, "nobody has ended what a person began"
    finally:
        orphan.terminate()
        orphan.wait()
    until(lambda: following(running), "the daemon's own copy at work")
    assert holder(running) == running.pids()[WORKER]
    signals = page(running, WORKER).signals
    until(lambda: page(running, WORKER).signals > signals, "signals")
    running.run("stop", "all")
    assert running.run("parity", "acme", "-o", "json").json()["equal"]


def waiting_word(firm: Firm) -> str:
    """Between two tries there is no process to say it of."""
    row = firm.status(WORKER)[WORKER]
    return str(row["reason"]) if row["trading_state"] == "starting" else ""


def page(firm: Firm, name: str) -> Status:
    status = read_status(folder(firm, name) / "status")
    assert status is not None
    return status


def folder(firm: Firm, name: str) -> Path:
    client, _, worker = name.partition(":")
    return firm.home.client_state(client, "mock") / "workers" / worker


def holder(firm: Firm) -> int:
    text = (folder(firm, WORKER) / "lock").read_text()
    return int(text) if text and is_alive(int(text)) else 0


def following(firm: Firm) -> bool:
    pids = {one.full_name: one.pid for one in Daemon(firm.home).processes()}
    pages = {name: page(firm, name) for name in (WORKER, CHATTERING)}
    return all(pages[name].pid == pids[name] and pages[name].state is State.FOLLOWING for name in pages)
