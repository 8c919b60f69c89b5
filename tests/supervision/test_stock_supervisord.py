"""Stock supervisord, from PyPI, on the configuration file we render."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_home import ENTRY, PATIENCE_S, FleetHome, until
from watch import Watch
from worker.build import worker_spec
from worker.processes import is_alive

from strategy_runner.supervision.reports import ChangeReport
from strategy_runner.tape.status import State, StatusFile


@pytest.fixture
def stock(fleet: FleetHome) -> Iterator["subprocess.Popen[bytes]"]:
    path = fleet.write(fleet.program("a"), fleet.program("crasher", "crash", startsecs=1, startretries=0))
    process = subprocess.Popen([sys.executable, "-m", "supervisor.supervisord", "-c", path, "-n"])
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def test_stock_supervisord_runs_the_same_file_and_our_calls(fleet: FleetHome, stock: "subprocess.Popen[bytes]") -> None:
    before = fleet.await_started("a", "crasher")
    until(fleet.daemon.is_running)
    assert fleet.pids()["a"] == before["a"]
    fleet.await_state("crasher", "FATAL")
    assert "was told to crash" in fleet.home.log("ikenna:crasher").read_text()
    fleet.write(fleet.program("a"), fleet.program("b"))
    assert fleet.daemon.reconcile() == ChangeReport(("ikenna:b",), ("ikenna:crasher",), ())
    after = fleet.await_started("b")
    assert fleet.pids() == {"a": before["a"], "b": after["b"]}
    fleet.daemon.shutdown()
    assert stock.wait(PATIENCE_S) == 0
    assert not is_alive(before["a"])


def test_a_process_that_hangs_before_it_has_come_to_its_page_is_ended_too(
    fleet: FleetHome, stock: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    hanging = fleet.await_started("a")["a"]
    until(fleet.daemon.is_running)
    watch = Watch(tmp_path, daemon=stock.pid, home=str(fleet.root))
    try:
        watch.write("ikenna/a", worker_spec(tmp_path, folder=str(tmp_path / "a"), log=str(tmp_path / "a.log")))
        watch.pass_time(watch.spec.start_s)
        assert is_alive(hanging) and watch.deeds() == []
        watch.pass_time(15)
        until(lambda: not is_alive(hanging))
        [action] = watch.actions()
        assert (action.name, action.action, action.pid) == ("ikenna:a", "killed", hanging)
        assert action.reason.startswith("not ready with no word of its own yet for ")
        again = fleet.await_started("a")["a"]

        # one that has been stopped, and started again, has a page that tells of the life before
        page = StatusFile(tmp_path / "a" / "status")
        page.enter(State.STOPPED)
        watch.pass_time(watch.spec.start_s + 15)
        until(lambda: not is_alive(again))
    finally:
        watch.close()


def test_our_daemon_as_stock_supervisord_executes_each_program(fleet: FleetHome) -> None:
    fleet.write(fleet.program("looker", "look"))
    process = subprocess.Popen(
        [sys.executable, "-m", "strategy_runner.supervision.daemon", "--home", fleet.root, "--entry", ENTRY, "--stock"]
    )
    pid = fleet.await_word("looked", ["looker"])["looker"]
    assert Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()
    assert "fleet_child" in Path(f"/proc/{pid}/cmdline").read_text()
    assert '"numpy": false' in (fleet.root / "looker.report").read_text(), "nothing preloaded: a new interpreter"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
