"""Control groups of version 2 as this kernel has them, in a mount of the test's own.

Where version 1 has the controllers, version 2 can be mounted beside it without them: then moving, handing down and removing run
for real, and what needs memory, cpu and pids is tested against files alone (test_watchdog_rules.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_IN_ITS_OWN_MOUNTS = """
import ctypes, os, subprocess, sys
from pathlib import Path
from strategy_runner.config.spec import LimitsSpec
from strategy_runner.supervision import cgroup

root, name = Path(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, RECURSIVE, PRIVATE = 0x20000, 1 << 14, 1 << 18
if libc.unshare(NEW_MOUNTS) or libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None):
    sys.exit(77)
if libc.mount(b"none", str(root).encode(), b"cgroup2", 0, None):
    sys.exit(77)
offered = frozenset((root / "cgroup.controllers").read_text().split())
if not offered:
    sys.exit(77)
print("controllers offered:", *sorted(offered))
has_all = offered >= cgroup.CONTROLLERS
if not has_all:
    cgroup.CONTROLLERS = offered
members = Path("/proc/self/cgroup")
before = members.read_text()
ours = root / name
ours.mkdir()
handed_down = set((root / "cgroup.subtree_control").read_text().split())
up = root / next(line for line in before.splitlines() if line.startswith("0::"))[3:].lstrip("/")
try:
    cgroup._write(root / "cgroup.subtree_control", " ".join(f"+{one}" for one in cgroup.CONTROLLERS))
    cgroup._write(ours / "cgroup.procs", str(os.getpid()))
    assert cgroup.delegated_groups(root=root) is None, "the group above is the root, and not ours"

    cgroup.enter_own_group(root=root)
    assert f"0::/{name}/daemon" in members.read_text().splitlines()
    cgroup.enter_own_group(root=root)
    assert f"0::/{name}/daemon" in members.read_text().splitlines(), "once"

    groups = cgroup.delegated_groups(root=root)
    assert groups is not None
    assert set((ours / "cgroup.subtree_control").read_text().split()) == cgroup.CONTROLLERS, "handed down by the kernel"

    worker = subprocess.Popen(["sleep", "60"])
    group = groups._group("acme:swing.X")
    if has_all:
        groups.let_daemon_go_first()
        groups.confine("acme:swing.X", worker.pid, LimitsSpec(memory_limit_mb=100, cpu_limit=0.5))
        weights = [int((each / "cpu.weight").read_text()) for each in (ours / cgroup.DAEMONS_GROUP, group)]
        assert weights == [cgroup.DAEMONS_WEIGHT, cgroup.WORKERS_WEIGHT]
        assert int((group / "memory.max").read_text()) == (100 + cgroup.OWN_MB) << 20
        assert (group / "cpu.max").read_text().split() == ["50000", "100000"]
        assert int((group / "pids.max").read_text()) == cgroup.TASKS_MAX
    else:
        group.mkdir()
        cgroup._write(group / "cgroup.procs", str(worker.pid))
    assert Path(f"/proc/{worker.pid}/cgroup").read_text().splitlines().count(f"0::/{name}/{group.name}") == 1
    groups.remove("acme:swing.X")
    assert group.exists(), "one that holds a process stays"
    worker.kill()
    worker.wait()
    groups.remove("acme:swing.X")
    assert not group.exists()
finally:
    cgroup._write(up / "cgroup.procs", str(os.getpid()))
    for folder in sorted(ours.glob("**/"), reverse=True):
        folder.rmdir()
    for one in cgroup.CONTROLLERS - handed_down:
        cgroup._write(root / "cgroup.subtree_control", f"-{one}")
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting control groups takes root")
def test_the_daemon_and_its_workers_move_into_groups_of_a_real_kernel(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _IN_ITS_OWN_MOUNTS, str(tmp_path), f"strategy-runner-test-{os.getpid()}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode == 77:
        pytest.skip("no control groups of version 2 with a controller can be mounted here")
    assert ran.returncode == 0 and "done" in ran.stdout, ran.stdout + ran.stderr
