"""A daemon that holds its home and does not listen: as one that is about to."""

import os
import signal
from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm, until

from strategy_runner.supervision.wishes import read_wishes
from strategy_runner.tape.lock import holder

CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "5s"
params = { fast = 2, slow = 4 }
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Firm]:
    with Firm() as firm:
        for client in ("acme", "other"):
            firm.write(f"clients/{client}/client.toml", CLIENT)
        firm.run("start", "all")
        yield firm


def test_a_stop_while_the_daemon_starts_holds(running: Firm) -> None:
    running.run("down")
    supervising = running.follow("supervise")
    daemon = until(lambda: holder(running.home.daemon), "the daemon in its home")
    assert daemon == supervising.pid
    os.kill(daemon, signal.SIGSTOP)  # where it is now: what it runs is read or not, and nobody listens
    stopping = running.follow("stop", "acme")
    until(lambda: "acme" not in read_wishes(running.home).clients, "the stop on record")
    os.kill(daemon, signal.SIGCONT)
    _, said = stopping.communicate(timeout=60)
    assert stopping.returncode == 0, said
    until(lambda: running.states().get("other:router") == "RUNNING", "the others at work")
    assert not any("acme" in name for name in running.pids())

    # and one before it
    running.run("down")
    assert supervising.wait(60) == 0
    assert "already stopped" in running.run("stop", "other").err
    assert "other" not in (running.home.daemon / "supervisord.conf").read_text()
    running.run("start", "all")
