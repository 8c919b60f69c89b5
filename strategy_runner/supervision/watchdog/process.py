"""What the kernel tells of one process: /proc/PID, held open, so that a number given to another process is never mistaken."""

import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = resource.getpagesize()
_CPU_CLOCK = 2  # of a process, by its number: clock_getcpuclockid(3)
ENDED = "ZXx"


class ProcessStat(NamedTuple):
    """`state` is a letter of proc(5): R runs, S sleeps, D waits for the disk, T is stopped, t is traced, Z has ended.

    `cpu_s` is of all its threads; `started_s` counts from the boot, by a clock that nobody sets.
    """

    state: str
    parent: int
    group: int
    cpu_s: float
    started_s: float
    resident_bytes: int


class ProcessHandle:
    """One living process. `pidfd` becomes readable at its end."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if there is no such process."""
        self.pid = pid
        self._cpu_clock = (~pid << 3) | _CPU_CLOCK
        self.pidfd = os.pidfd_open(pid)
        try:
            self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self.pidfd)
            raise ProcessLookupError from None

    def stat(self) -> ProcessStat | None:
        """None once the process is gone."""
        try:
            return _parsed(os.pread(self._stat, 1024, 0))
        except ProcessLookupError:
            return None

    def cpu_s(self) -> float:
        """CPU time of all its threads; a fifth of the price of `stat`. 0.0 once it is gone."""
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:
            return 0.0

    def kill(self) -> bool:
        """SIGKILL to the process and to all that it started in its group; False if it had ended before."""
        stat = self.stat()
        if stat is None or stat.state in ENDED:
            return False
        if stat.group == self.pid:
            os.killpg(self.pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return True

    def end_orphans(self) -> None:
        """After its end: SIGKILL to what it left in its group. Its number is not given away while others are in that."""
        stat = self.stat()
        if stat is None and Path(f"/proc/{self.pid}").exists():
            return  # the number is another process's already
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self.pid, signal.SIGKILL)

    def private_mb(self) -> float:
        """Memory of its own: what is shared with others counts by its share, mapped files do not count. 0.0 if it is gone."""
        kilobytes = 0
        try:
            for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:", "SwapPss:")):
                    kilobytes += int(line.split()[1])
        except OSError:
            return 0.0
        return kilobytes / 1024

    def set_policy(self, policy: int) -> bool:
        """SCHED_IDLE or SCHED_OTHER for each of its threads; False if this user may not (SCHED_IDLE is always allowed)."""
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208  the names alone
                os.sched_setscheduler(int(thread), policy, os.sched_param(0))
        except PermissionError:
            return False
        except (ProcessLookupError, FileNotFoundError):
            pass  # a thread or the process has ended meanwhile
        return True

    def close(self) -> None:
        os.close(self.pidfd)
        os.close(self._stat)


def pids() -> list[int]:
    """Of every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  the names alone


def read_stat(pid: int) -> ProcessStat | None:
    """Of any process, by its number; None if there is none."""
    try:
        return _parsed(Path(f"/proc/{pid}/stat").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return None


def command_name(pid: int) -> str:
    """What ps calls it; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def started_wall_ns(stat: ProcessStat) -> int:
    """When a process began, by the wall clock as it is set now."""
    return time.time_ns() - int((time.clock_gettime(time.CLOCK_BOOTTIME) - stat.started_s) * 1e9)


def _parsed(raw: bytes) -> ProcessStat | None:
    if not raw:
        return None
    # the name may hold spaces and brackets: count from behind it
    fields = raw[raw.rindex(b")") + 2 :].split()
    return ProcessStat(
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        cpu_s=(int(fields[11]) + int(fields[12])) * _TICK_S,
        started_s=int(fields[19]) * _TICK_S,
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
    )
