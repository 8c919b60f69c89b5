"""What the watchdog makes of what it sees: plain judgements over numbers, so that a test can ask about any process."""

from collections import deque
from typing import Literal

from strategy_runner.supervision.watchdog.process import ProcessStat

Verdict = Literal["hangs", "starves", "waits for the disk", "is held by a debugger", "was stopped"]

# Processor time, and share of the time: a process that wants to run and has had less of either may only be short of it. One that
# starts needs some, on a full host for many seconds; one that spins gets this much sooner or later, however many do.
STARVED_S, STARVED_SHARE = 1.0, 0.4
CPU_WINDOW_S = 10.0
CPU_CALM_S = 60.0  # below its limit for so long, and it may run like the others again
CPU_TOLERANCE = 1.05  # of the limit: the kernel counts in ticks
CATCH_UP_GRACE_S = 30.0
RESTARTS_WINDOW_S = 60.0
RESTARTS_MANY = 3


def hang_verdict(stat: ProcessStat, half: ProcessStat | None, half_s: float) -> Verdict:
    """Why a process has said nothing for too long; `half` is how it was `half_s` ago, when half of its time was over."""
    if stat.state == "D":
        return "waits for the disk"
    if stat.state == "t":
        return "is held by a debugger"
    if stat.state == "T":
        return "was stopped"
    ran_s = stat.cpu_s - half.cpu_s if half is not None else half_s
    if stat.state == "R" and ran_s < min(STARVED_S, STARVED_SHARE * half_s):
        return "starves"
    return "hangs"


class CpuUse:
    """The share of a core that one process used over the last CPU_WINDOW_S, and whether it is to be slowed down for it."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()
        self._calm_since: float | None = None
        self.share = 0.0

    def add(self, now: float, cpu_s: float) -> None:
        samples = self._samples
        samples.append((now, cpu_s))
        while len(samples) > 2 and samples[1][0] <= now - CPU_WINDOW_S:
            samples.popleft()
        first, used_s = samples[0]
        self.share = (cpu_s - used_s) / (now - first) if now - first >= CPU_WINDOW_S / 2 else 0.0

    def is_over(self, limit: float) -> bool:
        """Over the limit for a whole window: shorter bursts, such as a bar of many symbols, are everybody's."""
        spanned_s = self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0
        return spanned_s >= 0.9 * CPU_WINDOW_S and self.share > limit * CPU_TOLERANCE

    def told(self, limit: float) -> str:
        """For a person."""
        return f"uses {self.share:.2f} of a core, cpu_limit is {limit:g}"

    def is_calm(self, now: float, limit: float) -> bool:
        """Within the limit for CPU_CALM_S without a break."""
        if self.share > limit:
            self._calm_since = None
            return False
        if self._calm_since is None:
            self._calm_since = now
        return now - self._calm_since >= CPU_CALM_S


class Restarts:
    """How often a process began anew within the last RESTARTS_WINDOW_S."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=64)

    def add(self, now: float) -> None:
        self._times.append(now)

    def count(self, now: float) -> int:
        while self._times and self._times[0] < now - RESTARTS_WINDOW_S:
            self._times.popleft()
        return len(self._times)
