"""The host as the checks see it: plain numbers, looked up once, so that a check can be asked about any host."""

import ctypes
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from strategy_runner.config.home import Home
from strategy_runner.supervision.programs import LOG_VARIABLE

UNLIMITED = 1 << 62
# <sys/timex.h>
_STA_UNSYNC = 0x0040


class ProcessSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One living process. `log` is the log file that its environment names as one of ours, `started_s` when it
    began, after the boot: by a clock that nobody sets. What another user's process does not tell is empty."""

    pid: int
    parent: int
    command: str
    cwd: str = ""
    log: str = ""
    session: int = 0
    has_terminal: bool = False
    started_s: float = 0.0


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """`up_s` is how long ago the host booted. `locks` is the process id that took each lock, by inode; None where the kernel
    does not tell. `clock_error_ms` is the kernel's estimate while it is disciplined by NTP, None while it is not, and `ntp`
    whether that is known."""

    wall_ns: int
    up_s: float
    disk_free_bytes: int
    disk_free_inodes: int
    memory_available_bytes: int
    descriptors_max: int
    processes_max: int
    user: int
    own_pid: int
    processes: tuple[ProcessSeen, ...]
    locks: dict[int, int] | None
    ntp: bool = False
    clock_error_ms: float | None = None


def look_at_host(home: Home) -> Host:
    """Reads /proc, the limits of this process and the disk under the home. Does not block."""
    folder = home.var if home.var.exists() else home.root
    ntp, clock_error_ms = _clock_discipline()
    processes = tuple(_processes())
    # both clocks after the walk, which takes seconds on a busy host: what beats meanwhile is not in the future
    wall_ns, up_s = time.time_ns(), time.clock_gettime(time.CLOCK_BOOTTIME)
    return Host(
        wall_ns=wall_ns,
        up_s=up_s,
        disk_free_bytes=shutil.disk_usage(folder).free,
        disk_free_inodes=os.statvfs(folder).f_favail or UNLIMITED,  # 0: a file system without a table of them
        memory_available_bytes=psutil.virtual_memory().available,
        descriptors_max=_limit(resource.RLIMIT_NOFILE),
        processes_max=min(_process_limit(), _number(Path("/proc/sys/kernel/pid_max")), _cgroup_pids()),
        user=os.getuid(),
        own_pid=os.getpid(),
        processes=processes,
        locks=read_locks(),
        ntp=ntp,
        clock_error_ms=clock_error_ms,
    )


def _limit(which: int) -> int:
    """The hard limit: up to it the daemon raises its own."""
    hard = resource.getrlimit(which)[1]
    return UNLIMITED if hard == resource.RLIM_INFINITY else hard


def _process_limit() -> int:
    """root is not held to it."""
    return UNLIMITED if os.geteuid() == 0 else _limit(resource.RLIMIT_NPROC)


def _cgroup_pids() -> int:
    """The limit of the control group this process is in (version 2)."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, path = line.partition("::")
            if number == "0":
                return _number(Path(f"/sys/fs/cgroup{path}/pids.max"))
    return UNLIMITED


def _number(path: Path) -> int:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return UNLIMITED


def _processes() -> Iterator[ProcessSeen]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError), process.oneshot():
            is_ending = process.status() == psutil.STATUS_ZOMBIE
            if is_ending and process.num_threads() == 1:
                continue  # else the threads of a killed process that are left hold its locks for another moment
            yield ProcessSeen(
                pid=process.pid,
                parent=process.ppid(),
                command="" if is_ending else " ".join(process.cmdline()),
                cwd=_told(process.cwd),
                log=_log(process),
                session=os.getsid(process.pid),
                has_terminal=process.terminal() is not None,
                started_s=_started_s(process.pid),
            )


def _told(ask: object) -> str:
    with suppress(psutil.Error, OSError):
        return str(ask())  # type: ignore[operator]  # a method of psutil's
    return ""


def _log(process: psutil.Process) -> str:
    with suppress(psutil.Error, OSError):
        return process.environ().get(LOG_VARIABLE, "")
    return ""


def _started_s(pid: int) -> float:
    """(psutil gives wall clock time, which moves when the clock is set.)"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def read_locks() -> dict[int, int] | None:
    """Of every flock: the inode, and the process that took it (its children may hold it still)."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    found = {}
    for words in map(str.split, lines):
        if words[1:2] == ["FLOCK"] and len(words) >= 6:
            found[int(words[5].rpartition(":")[2])] = int(words[4])
    return found


def _clock_discipline() -> tuple[bool, float | None]:
    """(whether the kernel tells, the estimated error in ms while something disciplines its clock): adjtimex(2), read only."""
    fields = (ctypes.c_long * 64)()  # struct timex: modes, offset, freq, maxerror, esterror, status ...
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(fields))
    except AttributeError:
        return False, None
    if state < 0:
        return False, None
    status = fields[5] & 0xFFFFFFFF
    return True, None if status & _STA_UNSYNC else fields[4] / 1000
