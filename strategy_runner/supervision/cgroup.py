"""Control groups (version 2), where they are delegated to the daemon: each worker in one of its own, with hard limits.

systemd delegates with Delegate=. A group that hands controllers down may hold no processes itself, so the daemon moves at its
start into one below, `daemon`, and the workers' groups lie beside that. It does so only where it is alone: any other group that
happens to be writable, such as that of a terminal, is somebody else's. Without delegation there are no groups, and the limits
are the worker's own (RLIMIT_DATA) and the watchdog's.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from strategy_runner.config.spec import LimitsSpec

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
CONTROLLERS = frozenset({"memory", "cpu", "pids"})
DAEMONS_GROUP = "daemon"
CPU_PERIOD_US = 100_000
# The kernel shares processors among groups, whatever the nice values in them: without these a feed, for which a thousand workers
# wait, would have to share with the router one part of a thousand. As many to one as nice -20 to 8 outside of groups.
DAEMONS_WEIGHT, WORKERS_WEIGHT = 10_000, 20
# threads of ZeroMQ and of libraries count as well as processes
TASKS_MAX = 64
# the product's own memory beside a worker's, and the room in which its own limit comes first
OWN_MB = 64
_WRITTEN = ("cgroup.procs", "cgroup.subtree_control")
_MB = 1 << 20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class WorkerGroups:
    """The groups of the workers below `base`, a folder of the cgroup file system."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def let_daemon_go_first(self) -> None:
        """The daemon's group, in which feed, routers and OMS are too, before each worker's. Raises OSError."""
        _write(self._base / DAEMONS_GROUP / "cpu.weight", str(DAEMONS_WEIGHT))

    def confine(self, name: str, pid: int, limits: LimitsSpec) -> None:
        """Puts a process, and all it will start, into its worker's group. Raises OSError."""
        group = self._group(name)
        group.mkdir(exist_ok=True)
        quota_us = max(1_000, int(limits.cpu_limit * CPU_PERIOD_US))
        _write(group / "memory.max", str((limits.memory_limit_mb + OWN_MB) * _MB))
        _write(group / "memory.oom.group", "1")
        _write(group / "cpu.max", f"{quota_us} {CPU_PERIOD_US}")
        _write(group / "cpu.weight", str(WORKERS_WEIGHT))
        _write(group / "pids.max", str(TASKS_MAX))
        _write(group / "cgroup.procs", str(pid))

    def remove(self, name: str) -> None:
        """Of a worker that is gone. A group that still holds a process stays."""
        with suppress(OSError):
            self._group(name).rmdir()

    def _group(self, name: str) -> Path:
        return self._base / f"worker-{_UNSAFE.sub('.', name)}"


def enter_own_group(*, root: Path = ROOT, membership: Path = MEMBERSHIP) -> None:
    """For the daemon, before it starts anything: moves into a group below its own, if that one is delegated to it alone."""
    own = _own_group(root, membership)
    if own is None or own == root or own.name == DAEMONS_GROUP:
        return
    with suppress(OSError):
        alone = (own / "cgroup.procs").read_text().split() == [str(os.getpid())]
        if alone and _is_delegated(own):
            below = own / DAEMONS_GROUP
            below.mkdir(exist_ok=True)
            _write(below / "cgroup.procs", str(os.getpid()))


def delegated_groups(*, root: Path = ROOT, membership: Path = MEMBERSHIP) -> WorkerGroups | None:
    """The workers' groups, if the group above this process's own is delegated to us with all CONTROLLERS; else None."""
    own = _own_group(root, membership)
    if own is None or own.name != DAEMONS_GROUP or own.parent == root:
        return None
    try:
        if not _is_delegated(own.parent):
            return None
        _write(own.parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    except OSError:
        return None
    return WorkerGroups(own.parent)


def _is_delegated(group: Path) -> bool:
    """Raises OSError if the group is gone."""
    offered = set((group / "cgroup.controllers").read_text().split())
    return offered >= CONTROLLERS and all(os.access(group / name, os.W_OK) for name in _WRITTEN)


def _own_group(root: Path, membership: Path) -> Path | None:
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            number, _, path = line.partition("::")
            if number == "0" and (root / "cgroup.controllers").exists():
                return root / path.lstrip("/")
    return None


def _write(path: Path, text: str) -> None:
    """One write(2): the kernel takes each as one order."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
