"""A second copy of a process that runs: it ends at once, and says who was there first."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults.home import ENTRY, PATIENCE_S, FaultyHome, Stuck, until
from faults.injection import Injection
from faults.oracle import judge
from faults.settling import settle
from faults.trio import Trio

from strategy_runner.errors import StrategyRunnerError
from strategy_runner.tape.status import read_status

pytestmark = pytest.mark.timeout(300)  # of a machine that many others use; alone it is a tenth of that
DECISIONS = 150
RECORDS = 600


def second_copy(home: FaultyHome, spec: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", ENTRY, str(spec)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=home.environ)


def test_a_second_copy_of_any_process_ends_and_names_the_first() -> None:
    home = FaultyHome(seed=4)
    trio = Trio(home, records=RECORDS, traded=True)
    try:
        trio.start_all()
        trio.await_following()
        copies = {role: second_copy(home, home.root / f"{role}.json") for role in trio.roles}
        for role, copy in copies.items():
            _, said = copy.communicate(timeout=PATIENCE_S)
            assert copy.returncode, role
            assert f"held by pid {trio.pid(role)}" in said, said
        verdict = trio.run_to_the_end()
        assert trio.lives == dict.fromkeys(trio.roles, 1)
        assert verdict.is_clean and verdict.signals, verdict
    finally:
        trio.end()
        home.close()


@pytest.mark.slow
def test_without_the_lock_two_routers_spoil_each_others_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    home = FaultyHome(seed=4, broken="lock")
    try:
        home.start()
        Injection(home, 0).await_life()
        copy = second_copy(home, next(process.path for process in home.plan.processes if process.name == "ann:router"))
        page = next(Path(router.folder) for router in home.routers if router.client == "ann") / "status"
        until(
            lambda: _pid(page) == copy.pid or copy.poll() is not None,
            "the second copy at work, or ended by what it met",
        )
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
