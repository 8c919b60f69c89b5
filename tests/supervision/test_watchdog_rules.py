"""The watchdog's judgements over plain numbers, and the control groups it fills in."""

import os
from pathlib import Path

import pytest

from strategy_runner.config.spec import LimitsSpec
from strategy_runner.supervision.cgroup import OWN_MB, delegated_groups, enter_own_group
from strategy_runner.supervision.conditions import Condition
from strategy_runner.supervision.watchdog.process import ProcessHandle, ProcessStat, read_stat
from strategy_runner.supervision.watchdog.rules import CpuUse, hang_verdict

HALF = ProcessStat(state="R", parent=1, group=1, cpu_s=100.0, started_s=1.0, resident_bytes=0)


@pytest.mark.parametrize(
    ("state", "ran_s", "verdict"),
    [
        ("S", 0.0, "hangs"),
        ("R", 2.5, "hangs"),
        ("R", 1.1, "hangs"),
        ("R", 0.9, "starves"),
        ("T", 0.0, "was stopped"),
        ("t", 0.0, "is held by a debugger"),
        ("D", 0.0, "waits for the disk"),
    ],
)
def test_why_a_silent_process_is_silent(state: str, ran_s: float, verdict: str) -> None:
    assert hang_verdict(HALF._replace(state=state, cpu_s=100.0 + ran_s), HALF, 2.5) == verdict


def test_one_of_many_that_spin_is_found_out_later() -> None:
    twentieth = [HALF._replace(state="R", cpu_s=100.0 + silent_s / 10) for silent_s in (2.5, 9.0, 10.5)]
    assert [hang_verdict(stat, HALF, 10 * (stat.cpu_s - 100.0)) for stat in twentieth] == [
        "starves",
        "starves",
        "hangs",
    ]


def test_a_burst_is_no_offence_and_a_whole_window_over_the_limit_is() -> None:
    use = CpuUse()
    use.add(0.0, 0.0)
    use.add(5.0, 5.0)
    assert not use.is_over(0.5), "five seconds are a burst"
    use.add(10.0, 5.1)
    assert use.share == pytest.approx(0.51) and not use.is_over(0.5), "the kernel counts in ticks"
    use.add(15.0, 10.1)
    assert use.share == pytest.approx(0.51)
    use.add(20.0, 15.1)
    assert use.is_over(0.5)
    assert not use.is_over(1.0)


def test_calm_is_a_minute_without_a_break() -> None:
    use = CpuUse()
    used_s = 0.0
    for second in range(0, 200, 5):
        used_s += 5.0 if second == 100 else 0.0
        use.add(float(second), used_s)
        calm = use.is_calm(float(second), 0.4)
        assert calm is (60 <= second < 100 or second >= 170), second


def test_a_condition_is_told_with_its_age() -> None:
    then = Condition(kind="restarted", reason="no progress at seq 812 for 5.0 s", since_ns=0)
    assert then.told(12_000_000_000) == "restarted by the watchdog 12 s ago: no progress at seq 812 for 5.0 s"
    assert then.told(-1).startswith("restarted by the watchdog 0 s ago"), "the clock was set back"
    stale = Condition(kind="stale", subject="X", reason="X: no trade, quote or bar", since_ns=0)
    assert stale.told(150_000_000_000) == "X: no trade, quote or bar (for 2 min)"


def test_a_handle_knows_its_process_and_no_other() -> None:
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "600"])
    handle = ProcessHandle(pid)
    stat = handle.stat()
    assert stat is not None and (stat.parent, stat.state in "RSD") == (os.getpid(), True)
    assert 0 <= handle.cpu_s() - stat.cpu_s < 1
    assert handle.kill(), "alone in this group it is ended alone"
    os.waitpid(pid, 0)
    assert handle.stat() is None and handle.cpu_s() == 0 and not handle.kill() and read_stat(pid) is None
    handle.close()
    with pytest.raises(ProcessLookupError):
        ProcessHandle(pid)


# -- control groups ----------------------------------------------------------------------------------------------------


def test_each_worker_gets_a_group_of_its_own_beside_the_daemons(tmp_path: Path) -> None:
    root, membership = group_tree(tmp_path, "/system.slice/strategy-runner.service/daemon")
    service = root / "system.slice" / "strategy-runner.service"
    groups = delegated_groups(root=root, membership=membership)
    assert groups is not None
    assert (service / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    (service / "daemon" / "cpu.weight").write_text("")
    groups.let_daemon_go_first()
    assert (service / "daemon" / "cpu.weight").read_text() == "10000"
    group = service / "worker-acme.cross.BTC-USD"
    group_files(group)
    groups.confine("acme:cross.BTC-USD", 4711, LimitsSpec(memory_limit_mb=256, cpu_limit=0.5))
    assert (group / "memory.max").read_text() == str((256 + OWN_MB) << 20)
    assert (group / "cpu.max").read_text() == "50000 100000"
    assert (group / "cpu.weight").read_text() == "20"
    assert (group / "pids.max").read_text() == "64"
    assert (group / "cgroup.procs").read_text() == "4711"
    for file in group.iterdir():
        file.unlink()  # as the kernel does with a group
    groups.remove("acme:cross.BTC-USD")
    assert not group.exists()
    groups.remove("acme:cross.BTC-USD")


@pytest.mark.parametrize(
    ("path", "controllers"),
    [
        ("/", "cpu memory pids"),
        ("/daemon", "cpu memory pids"),
        ("/user.slice/terminal.scope", "cpu memory pids"),
        ("/system.slice/strategy-runner.service/daemon", "memory pids"),
    ],
)
def test_what_was_not_delegated_is_left_alone(tmp_path: Path, path: str, controllers: str) -> None:
    root, membership = group_tree(tmp_path, path, controllers)
    before = sorted((file, file.read_text()) for file in root.rglob("*") if file.is_file())
    assert delegated_groups(root=root, membership=membership) is None
    assert sorted((file, file.read_text()) for file in root.rglob("*") if file.is_file()) == before


def test_the_daemon_moves_below_a_service_of_its_own_and_out_of_nobody_elses_group(tmp_path: Path) -> None:
    root, membership = group_tree(tmp_path, "/system.slice/strategy-runner.service")
    service = root / "system.slice" / "strategy-runner.service"
    group_files(service / "daemon")
    (service / "cgroup.procs").write_text(f"{os.getpid()}\n4711\n")  # a shell, that has started us
    enter_own_group(root=root, membership=membership)
    assert (service / "daemon" / "cgroup.procs").read_text() == ""
    (service / "cgroup.procs").write_text(f"{os.getpid()}\n")
    enter_own_group(root=root, membership=membership)
    assert (service / "daemon" / "cgroup.procs").read_text() == str(os.getpid())
    # and there it stays when it begins again in place
    membership.write_text("0::/system.slice/strategy-runner.service/daemon\n")
    enter_own_group(root=root, membership=membership)
    assert not (service / "daemon" / "daemon").exists()


def test_a_host_with_control_groups_of_version_1_has_none(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("4:memory:/a\n3:cpu:/a\n")
    assert delegated_groups(root=tmp_path, membership=tmp_path / "membership") is None
    assert delegated_groups(root=tmp_path, membership=tmp_path / "absent") is None


def group_tree(tmp_path: Path, path: str, controllers: str = "cpu io memory pids") -> tuple[Path, Path]:
    """A folder in which plain files take what the kernel's would."""
    root = tmp_path / "cgroup"
    membership = tmp_path / "membership"
    membership.write_text(f"0::{path}\n")
    own = root / path.lstrip("/")
    for group in {root, own, own.parent} - {tmp_path}:
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.controllers").write_text(controllers)
        (group / "cgroup.subtree_control").write_text("")
        (group / "cgroup.procs").write_text("")
    return root, membership


def group_files(group: Path) -> None:
    """What the kernel puts into a new group."""
    group.mkdir()
    for name in ("memory.max", "memory.oom.group", "cpu.max", "cpu.weight", "pids.max", "cgroup.procs"):
        (group / name).write_text("")
