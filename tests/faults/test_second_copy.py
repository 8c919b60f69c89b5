"""A second copy of a process that runs: it ends at once, and says who was there first."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults.home import ENTRY, PATIENCE_S, FaultyHome, Stuck, until
from faults.injection import Injection
from faults.oracle import judge
from faults.settling import settle

from strategy_runner.errors import StrategyRunnerError
from strategy_runner.tape.status import read_status

pytestmark = pytest.mark.timeout(900)  # of a machine that many others use; alone it is a tenth of that
DECISIONS = 150


def second_copy(home: FaultyHome, name: str) -> "subprocess.Popen[str]":
    path = next(process.path for process in home.plan.processes if process.name == name)
    command = [sys.executable, "-m", ENTRY, str(path)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=home.environ)


def running(home: FaultyHome) -> None:
    home.start()
    Injection(home, 0).await_life()


def test_a_second_feed_router_or_worker_ends_and_names_the_first() -> None:
    home = FaultyHome(seed=4)
    try:
        running(home)
        pids = home.pids()
        copies = {name: second_copy(home, name) for name in ("market:feed", "ann:router", "ann:tally.BTC-USD")}
        for name, copy in copies.items():
            _, said = copy.communicate(timeout=PATIENCE_S)
            assert copy.returncode, name
            assert f"held by pid {pids[name]}" in said, said
        assert home.pids() == pids
        settle(home)
        home.stop()
        verdict = judge(home.workers, home.routers, home.books)
        assert verdict.is_clean and verdict.signals, verdict
    finally:
        home.close()


def test_without_the_lock_two_routers_spoil_each_others_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    home = FaultyHome(seed=4, broken="lock")
    try:
        running(home)
        copy = second_copy(home, "ann:router")
        page = next(Path(router.folder) for router in home.routers if router.client == "ann") / "status"
        until(lambda: _pid(page) == copy.pid, "the second copy at work")
        decided = home.decided()
        until(lambda: home.decided() > decided + DECISIONS or copy.poll() is not None, "decisions")
        copy.terminate()
        copy.communicate(timeout=PATIENCE_S)
        monkeypatch.setattr("faults.home.PATIENCE_S", 8.0)
        try:
            settle(home, 8.0)
            home.stop()
            is_clean = judge(home.workers, home.routers, home.books).is_clean
        except (Stuck, StrategyRunnerError) as spoilt:
            print(f"found: {spoilt}")
            is_clean = False
        assert not is_clean
    finally:
        home.close()


def _pid(page: Path) -> int:
    status = read_status(page)
    return status.pid if status is not None else 0
