"""A daemon that holds its home and does not listen: one that is about to, and one whose socket was removed."""

import os
import signal
from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm, assert_one_message, until
from worker.processes import is_alive

from strategy_runner.errors import TimeoutExpiredError
from strategy_runner.supervision.control import Daemon
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
WORKER = "acme:cross.BTC-USD"


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


def test_a_daemon_whose_socket_was_removed_is_told_of_and_ended(running: Firm) -> None:
    before, daemon = running.pids(), running.daemon_pid
    running.home.supervisor_socket.unlink()
    ran = running.run("status", "-o", "json")
    rows = {row["name"]: row for row in ran.json()}
    assert {name: row["pid"] for name, row in rows.items()} == before
    assert {row["process_state"] for row in rows.values()} == {"UNKNOWN"}
    assert rows[WORKER]["trading_state"] == "trading"
    assert f"expected the daemon, process {daemon}, to listen there, found nobody" in ran.err
    found = {one["check"]: one for one in running.run("doctor", "-o", "json", code=None).json()}
    assert f"held by process {daemon} (alive)" in found["daemon"]["found"]
    assert "`strategy-runner down` ends it" in found["daemon"]["advice"]
    assert found["strays"]["level"] == "ok"
    assert "in force" in running.run("halt", "acme", "--reason", "test").err
    running.run("resume", "acme", "--reason", "test")
    with pytest.raises(TimeoutExpiredError, match="`strategy-runner down` ends the daemon"):
        Daemon(running.home).listens(0.1)

    assert running.run("down").err == "daemon down\n"
    assert not is_alive(daemon) and not any(map(is_alive, before.values()))
    assert running.run("down").err == "no daemon is running\n"
    running.run("up")
    assert running.pids().keys() == before.keys()


@pytest.mark.slow
def test_processes_of_a_daemon_that_hangs_are_shown_as_they_say_they_are(running: Firm) -> None:
    before, daemon = running.pids(), running.daemon_pid
    os.kill(daemon, signal.SIGSTOP)
    try:
        ran = running.run("status", "-o", "json")
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert {row["name"]: row["pid"] for row in ran.json()} == before
    assert {row["process_state"] for row in ran.json()} == {"UNKNOWN"}
    assert "found none; states are what processes say themselves" in ran.err


@pytest.mark.slow
def test_a_down_of_a_daemon_that_hangs_says_how_to_end_it(running: Firm) -> None:
    before, daemon = running.pids(), running.daemon_pid
    os.kill(daemon, signal.SIGSTOP)
    assert_one_message(running.run("down", code=None), 5, "found none", f"`kill -9 {daemon}` ends the daemon with all")
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not any(map(is_alive, (daemon, *before.values()))), "the end of all")
    running.run("up")
    assert running.pids().keys() == before.keys()


@pytest.mark.slow
def test_what_cannot_be_asked_ends_a_stop_with_a_word(running: Firm) -> None:
    running.home.supervisor_socket.unlink()
    assert_one_message(running.run("stop", "acme", code=None), 5, "to listen there, found nobody", "down")
    running.run("down")
    running.run("up")
    assert not any("acme" in name for name in running.pids())
