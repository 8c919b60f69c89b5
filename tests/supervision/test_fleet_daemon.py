"""The daemon with the warm fork, real processes below it."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_home import ENTRY, PATIENCE_S, FleetHome, await_end, until
from worker.processes import is_alive

from strategy_runner.errors import (
    ConfigurationError,
    LockedError,
    NotRunningError,
    SafetyRefusal,
    StrategyRunnerError,
    TimeoutExpiredError,
    VersionMismatchError,
)
from strategy_runner.strategies.generation import versions
from strategy_runner.supervision.daemon import supervise


def test_a_killed_program_is_back_with_a_new_pid_and_no_other_is_touched(fleet: FleetHome) -> None:
    fleet.start(*(fleet.program(name) for name in ("a", "b", "c")))
    before = fleet.await_started("a", "b", "c")
    fleet.await_state("a", "RUNNING")
    killed_s = time.monotonic()
    os.kill(before["a"], signal.SIGKILL)
    again = fleet.await_started("a")["a"]
    assert time.monotonic() - killed_s < 0.5, "supervisord's own loop takes a second"
    assert again != before["a"]
    assert fleet.pids() == {**before, "a": again}


def test_a_program_that_crashes_at_start_backs_off_and_ends_fatal_without_disturbing_others(fleet: FleetHome) -> None:
    crasher = fleet.program("crasher", "crash", startsecs=1, startretries=1)
    fleet.start(fleet.program("a"), crasher)
    before = fleet.await_started("a", "crasher")
    fleet.await_state("crasher", "BACKOFF")
    second = fleet.await_started("crasher")
    assert second["crasher"] != before["crasher"]
    fatal = fleet.await_state("crasher", "FATAL")
    assert fatal.pid == 0
    assert fleet.pids()["a"] == before["a"]
    assert crasher.log.read_text().count("RuntimeError: crasher was told to crash") == 2


def test_a_program_that_ends_with_0_is_done_and_not_started_again(fleet: FleetHome) -> None:
    fleet.start(fleet.program("history", "finish"))
    fleet.await_started("history")
    done = fleet.await_state("history", "EXITED")
    assert done.exit_status == 0
    fleet.daemon.reconcile()
    assert fleet.await_state("history", "EXITED").started_ns == done.started_ns


def test_the_feed_starts_before_routers_before_workers_and_stops_with_the_workers_before_routers(
    fleet: FleetHome,
) -> None:
    programs = [
        fleet.program("worker", group="ikenna"),
        fleet.program("router", group="ikenna", kind="router"),
        fleet.program("feed", group="market", kind="feed"),
        fleet.program("oms", group="oms", kind="oms"),
        fleet.program("worker2", group="odum"),
    ]
    pid = fleet.start(*programs)
    names = [program.name for program in programs]
    fleet.await_started(*names)
    fleet.daemon.shutdown()
    assert not is_alive(pid)
    fleet.await_word("stopped", names)
    stopped = [name for word, name, _ in fleet.heard if word == "stopped"]
    assert set(stopped[:3]) == {"worker", "worker2", "feed"}
    assert stopped[3:] == ["router", "oms"]
    spawned = [line.split("'")[1] for line in _daemon_log(fleet).splitlines() if "spawned:" in line]
    assert spawned.index("feed") < spawned.index("router") < spawned.index("worker")


def test_children_die_with_a_killed_daemon_and_the_next_one_starts_each_once(fleet: FleetHome) -> None:
    names = ("a", "b", "c")
    daemon = fleet.start(*(fleet.program(name) for name in names))
    before = fleet.await_started(*names)
    os.kill(daemon, signal.SIGKILL)
    for pid in (daemon, *before.values()):
        await_end(pid)
    with pytest.raises(NotRunningError, match="strategy-runner up"):
        fleet.daemon.processes()
    assert fleet.home.supervisor_socket.exists()
    assert not fleet.daemon.is_running()
    fleet.start_daemon()
    after = fleet.await_started(*names)
    assert fleet.pids() == after
    assert not set(after.values()) & set(before.values())


def test_what_a_program_has_started_ends_with_it_also_where_no_watchdog_is_left(fleet: FleetHome) -> None:
    fleet.start(fleet.program("parent", "parent"))
    born = fleet.await_word("born", ("parent",))["parent"]
    assert is_alive(born)
    fleet.daemon.shutdown()
    await_end(born)


@pytest.mark.parametrize("behaviour", ["parent", "parent of a leader"])
def test_what_a_program_had_started_is_ended_by_the_daemon_after_one_that_was_killed(
    fleet: FleetHome, behaviour: str
) -> None:
    """Its own death takes its children with it, and not theirs."""
    daemon = fleet.start(fleet.program("parent", behaviour))
    parent = fleet.await_started("parent")["parent"]
    born = fleet.await_word("born", ("parent",))["parent"]
    os.kill(daemon, signal.SIGKILL)
    for pid in (daemon, parent):
        await_end(pid)
    log = os.open(fleet.home.log("ikenna:parent"), os.O_WRONLY | os.O_APPEND)
    persons = subprocess.Popen(["sleep", "60"], stdout=log, process_group=0)
    os.close(log)
    try:
        assert is_alive(born)
        fleet.start_daemon()
        await_end(born)
        assert persons.poll() is None, "nobody has ended what a person began"
    finally:
        persons.kill()
        persons.wait()


def test_a_stopped_daemon_does_not_block_children_that_write_their_logs(fleet: FleetHome) -> None:
    chatter = fleet.program("chatter", "chatter")
    daemon = fleet.start(chatter)
    pid = fleet.await_started("chatter")["chatter"]
    os.kill(daemon, signal.SIGSTOP)
    try:
        size = chatter.log.stat().st_size
        # far more than a pipe holds
        until(lambda: chatter.log.stat().st_size > size + (1 << 20))
        with pytest.raises(TimeoutExpiredError):
            fleet.daemon.processes(timeout_s=0.05)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert is_alive(pid)
    assert fleet.pids() == {"chatter": pid}


def test_a_second_daemon_on_the_same_home_is_refused_and_told_who_is_there(fleet: FleetHome) -> None:
    daemon = fleet.start(fleet.program("a"))
    before = fleet.await_started("a")
    with pytest.raises(StrategyRunnerError, match=rf"exit code 1:(?s:.)*found it held by pid {daemon}\b"):
        fleet.start_daemon()
    assert fleet.pids() == before


def test_a_supervisord_that_is_not_ours_on_the_same_socket_is_refused(fleet: FleetHome) -> None:
    fleet.home.sockets.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(fleet.home.supervisor_socket))
        other.listen()
        with pytest.raises(StrategyRunnerError, match=f"exit code {LockedError.exit_code}(?s:.)*another supervisord"):
            fleet.start_daemon()


def test_a_state_folder_of_another_version_is_refused_with_file_expected_and_found(fleet: FleetHome) -> None:
    fleet.home.var.mkdir()
    (fleet.home.var / "VERSION").write_text("7\n")
    expected = rf"exit code {VersionMismatchError.exit_code}(?s:.)*VERSION: expected state version 2, found '7'"
    with pytest.raises(StrategyRunnerError, match=expected):
        fleet.start_daemon()


def test_a_daemon_whose_disk_takes_no_line_of_its_log_runs_and_stops_as_ever(fleet: FleetHome) -> None:
    """Its errors go to a file on the same disk: they ended it, and all that it ran."""
    daemon = fleet.start(fleet.program("a"), fleet.program("b"))
    before = fleet.await_started("a", "b")
    _, most = resource.prlimit(daemon, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (0, most))
    fleet.daemon.restart(["ikenna:a"])
    assert fleet.await_started("a")["a"] != before["a"]
    assert fleet.pids()["b"] == before["b"] and fleet.daemon.pid() == daemon
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (most, most))
    fleet.daemon.restart(["ikenna:b"])
    assert "stopped: b" in _daemon_log(fleet), "there is room again"
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (0, most))
    fleet.daemon.shutdown()
    assert not is_alive(daemon)
    assert not fleet.home.supervisor_socket.exists(), "it has ended in order"


def test_a_daemon_that_this_user_may_not_ask_is_named_by_its_socket(fleet: FleetHome) -> None:
    fleet.start()
    user = os.geteuid()
    fleet.home.sockets.chmod(0)
    try:
        if user == 0:
            os.seteuid(65_534)
        for ask in (fleet.daemon.is_running, fleet.daemon.processes):
            with pytest.raises(PermissionError) as refused:
                ask()
            assert refused.value.filename == str(fleet.home.supervisor_socket)
    finally:
        os.seteuid(user)
        fleet.home.sockets.chmod(0o700)


def test_a_daemon_without_a_configuration_runs_no_program(fleet: FleetHome) -> None:
    fleet.start_daemon()
    assert fleet.daemon.processes() == ()
    assert (fleet.home.var / "VERSION").read_text() == "2\n"


def test_a_configuration_supervisord_cannot_read_ends_the_daemon_with_6_and_the_reason(fleet: FleetHome) -> None:
    path = fleet.write()
    path.write_text(path.read_text() + "[group:odum]\nprograms = nobody\n")
    with pytest.raises(StrategyRunnerError, match=r"exit code 6(?s:.)*supervisord.conf: .*unknown program"):
        fleet.start_daemon()


def test_the_warm_child_owns_nothing_of_the_daemon(fleet: FleetHome) -> None:
    looker = fleet.program("looker", "look")
    fleet.start(looker)
    pid = fleet.await_word("looked", ["looker"])["looker"]
    seen = json.loads((fleet.root / "looker.report").read_text())
    assert seen["descriptors"].pop("0") == "/dev/null"
    assert seen["descriptors"].pop("1") == seen["descriptors"].pop("2") == str(looker.log)
    own = [target for target in seen["descriptors"].values() if not target.endswith("/fd")]
    assert len(own) == 1 and own[0].startswith("socket:"), "only the child's own bell"
    assert seen["environment"]["STRATEGY_RUNNER_SPEC"] == "1"
    assert seen["environment"]["OPENBLAS_NUM_THREADS"] == "1"
    assert "NOTIFY_SOCKET" not in seen["environment"]
    assert seen["argv"] == [ENTRY, str(looker.spec)]
    assert seen["term_is_default"] and seen["int_is_pythons"]
    assert seen["group"] == pid
    assert seen["umask"] == 0o077
    assert seen["numpy"], "the daemon has imported numpy for its children"


def test_more_programs_than_one_turn_starts_all_run(fleet: FleetHome) -> None:
    names = [f"w{number}" for number in range(70)]
    fleet.start(*(fleet.program(name) for name in names))
    assert fleet.await_started(*names) == fleet.pids()


def test_programs_told_to_stop_while_they_are_being_started_stop_at_once(fleet: FleetHome) -> None:
    stopwait_s = 10
    daemon = fleet.start(*(fleet.program(f"w{number}", "mute", stopwaitsecs=stopwait_s) for number in range(100)))
    begun_s = time.monotonic()
    os.kill(daemon, signal.SIGTERM)
    await_end(daemon)
    assert time.monotonic() - begun_s < stopwait_s, "a SIGTERM was lost between fork and the child's own handlers"
    assert "with SIGKILL" not in _daemon_log(fleet)


@pytest.fixture
def service(fleet: FleetHome) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    """The daemon in the foreground as systemd starts it, and the socket it notifies."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(fleet.root / "notify"))
    manager.settimeout(PATIENCE_S)
    fleet.write(fleet.program("a"))
    process = subprocess.Popen(
        [sys.executable, "-m", "strategy_runner.supervision.daemon", "--home", fleet.root, "--entry", ENTRY],
        env={**os.environ, "NOTIFY_SOCKET": str(fleet.root / "notify"), "WATCHDOG_USEC": "200000"},
    )
    yield process, manager
    process.kill()
    process.wait()
    manager.close()


def test_the_service_says_ready_beats_says_stopping_and_exits_0(
    fleet: FleetHome, service: tuple["subprocess.Popen[bytes]", socket.socket]
) -> None:
    process, manager = service
    assert manager.recv(64) == b"READY=1"
    child = fleet.await_started("a")["a"]
    assert [manager.recv(64) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    assert int((fleet.home.daemon / "supervisord.pid").read_text()) == process.pid
    process.send_signal(signal.SIGTERM)
    until(lambda: manager.recv(64) == b"STOPPING=1")
    assert process.wait(PATIENCE_S) == 0
    assert not is_alive(child)
    assert not fleet.home.supervisor_socket.exists()


def test_a_hung_up_daemon_starts_its_programs_afresh_and_stays_the_only_one(
    fleet: FleetHome, service: tuple["subprocess.Popen[bytes]", socket.socket]
) -> None:
    process, _ = service
    before = fleet.await_started("a")
    process.send_signal(signal.SIGHUP)
    after = fleet.await_started("a")
    assert after != before
    assert not is_alive(before["a"])
    with pytest.raises(StrategyRunnerError, match=rf"found it held by pid {process.pid}\b"):
        fleet.start_daemon()


def test_a_foreground_daemon_refuses_as_an_exception_of_its_own(fleet: FleetHome) -> None:
    daemon = fleet.start()
    with pytest.raises(
        LockedError, match=rf"daemon: expected no other daemon on this home, found it held by pid {daemon}$"
    ):
        supervise(fleet.home)


def _daemon_log(fleet: FleetHome) -> str:
    return (fleet.home.daemon / "supervisord.log").read_text()


CAP_SYS_RESOURCE = 1 << 24
CAPABILITIES = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))


@pytest.mark.skipif(int(CAPABILITIES.split()[1], 16) & CAP_SYS_RESOURCE != 0, reason="this user may raise any limit")
def test_a_limit_that_is_too_low_and_cannot_be_raised_is_named(fleet: FleetHome) -> None:
    fleet.write()
    limited = f"ulimit -n 256; exec {sys.executable} -m strategy_runner.supervision.daemon --home {fleet.home.root}"
    ended = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == ConfigurationError.exit_code
    assert "minimum number of file descriptors" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_command_of_another_python_than_the_daemons_is_refused_before_anything_stops(fleet: FleetHome) -> None:
    """No worker that it plans would start."""
    fleet.start(fleet.program("a"))
    fleet.await_started("a")
    fleet.daemon.refuse_other_versions(versions())
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    problem = (
        f"python: expected {here}, which the daemon runs, found 3.10, which this command runs: `strategy-runner down`"
    )
    with pytest.raises(SafetyRefusal, match=re.escape(problem)):
        fleet.daemon.refuse_other_versions({**versions(), "python": "3.10"})
