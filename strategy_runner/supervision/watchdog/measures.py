"""What one process uses, measured once a round: processor, memory, its log, how often it begins anew, and its progress."""

import logging
from collections.abc import Callable

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.supervision.cgroup import OWN_MB
from strategy_runner.supervision.conditions import ConditionKind
from strategy_runner.supervision.watchdog.deeds import Deeds
from strategy_runner.supervision.watchdog.log_rotation import LogWatch
from strategy_runner.supervision.watchdog.process import ENDED, ProcessHandle, ProcessStat
from strategy_runner.supervision.watchdog.rules import CATCH_UP_GRACE_S, RESTARTS_MANY, CpuUse, Restarts
from strategy_runner.supervision.watchdog.watched import Watched
from strategy_runner.tape.status import State

# how much there is to read is looked up only for who did not move for so long
LOOK_SELDOM_S = 5.0
_MB = 1 << 20
_OF_ONE_LIFE: tuple[ConditionKind, ...] = ("over cpu_limit", "stuck", "blocked", "given up")

log = logging.getLogger(__name__)


class Measures:
    """`stall_s` is how long a worker may beat without reading what is there; `tape_count` says how much is there."""

    def __init__(
        self, one: Watched, deeds: Deeds, *, log_limit_mb: float, stall_s: float, tape_count: Callable[[], int]
    ) -> None:
        self._one = one
        self._deeds = deeds
        self._log_limit_mb = log_limit_mb
        self._stall_s = stall_s
        self._tape_count = tape_count
        self._log = LogWatch(one.log, log_limit_mb)
        self._restarts = Restarts()
        self._cpu = CpuUse()
        self._slowed = False
        self._behind_since: float | None = None
        self._round = 0

    @property
    def is_flooding(self) -> bool:
        return self._log.is_flooding

    def begin_anew(self, now: float) -> None:
        """Of another process than before."""
        self._cpu, self._slowed, self._behind_since = CpuUse(), False, None
        for kind in _OF_ONE_LIFE:
            self._deeds.board.clear(self._one.name, kind)
        if self._one.lives > 1:
            self._restarts.add(now)

    def measure(self, now: float) -> None:
        one = self._one
        self._round += 1
        self._measure_log(now)
        self._count_restarts(now)
        if one.process is None or one.is_unseen:
            one.map_page()
            return
        if one.killed:
            return
        if isinstance(one.spec, WorkerSpec):
            self._measure_cpu(one.process, one.spec, now)
        if self._round % 2:
            self._look_closer(one.process, now)

    def _look_closer(self, process: ProcessHandle, now: float) -> None:
        """What costs more, every other round."""
        one = self._one
        one.map_page()
        stat = process.stat()
        if stat is None or stat.state in ENDED:
            return
        if stat.state not in "Dt":
            self._deeds.board.clear(one.name, "stuck")
        if isinstance(one.spec, WorkerSpec) and one.is_follower:
            # a run over history reads large chunks, and has a limit of its own for that
            self._measure_memory(process, one.spec, stat, now)
            self._measure_progress(now)

    def _measure_cpu(self, process: ProcessHandle, spec: WorkerSpec, now: float) -> None:
        one, cpu, limit = self._one, self._cpu, spec.limits.cpu_limit
        cpu.add(now, process.cpu_s())
        if self._slowed:
            if cpu.is_calm(now, limit):
                self._slowed = not self._deeds.release(one, cpu.told(limit))
        elif cpu.is_over(limit) and (one.state is State.FOLLOWING or now - one.born > CATCH_UP_GRACE_S):
            self._slowed = self._deeds.slow_down(one, f"{cpu.told(limit)}: runs at the lowest priority")

    def _measure_memory(self, process: ProcessHandle, spec: WorkerSpec, stat: ProcessStat, now: float) -> None:
        """The worker's own limit comes first (worker/confinement.py): it names the record. This one is for what escapes it."""
        limit = spec.limits.memory_limit_mb
        if stat.resident_bytes <= (limit + OWN_MB) * _MB:
            return
        used_mb = process.private_mb()
        if used_mb > limit + OWN_MB:
            self._deeds.kill(self._one, f"uses {used_mb:.0f} MB of memory, memory_limit_mb is {limit}", now)

    def _measure_progress(self, now: float) -> None:
        """A worker that beats and does not go on along a tape that does: seen behind, and behind at the same place later."""
        one = self._one
        if now - one.moved <= LOOK_SELDOM_S:
            self._behind_since = None
            self._deeds.board.clear(one.name, "blocked")
            return
        count = self._tape_count()
        if one.state not in (State.FOLLOWING, State.CATCHING_UP) or one.position >= count:
            one.moved = now  # there was nothing to read
            return
        if self._behind_since is None or self._behind_since < one.moved:
            self._behind_since = now
        stalled_s = now - self._behind_since
        if stalled_s <= self._stall_s:
            return
        if own_word := one.last_error:
            self._deeds.board.show(one.name, "blocked", own_word)
        else:
            reason = f"reads nothing for {stalled_s:.0f} s: stands at seq {one.position}, the tape at {count}"
            self._deeds.kill(one, reason, now)

    def _measure_log(self, now: float) -> None:
        one, board = self._one, self._deeds.board
        try:
            kept = self._log.look(now)
        except OSError as error:
            log.warning("%s: the log was cut and its older part is lost: %s", one.name, error)
            kept = 0
        if kept is not None:
            reason = f"its log of {kept / _MB:.1f} MB, log_limit_mb is {self._log_limit_mb:g}"
            self._deeds.note(one, "rotated", reason)
        if self._log.is_flooding:
            board.show(one.name, "floods", f"floods its log: {self._log.mb_per_s:.2f} MB/s")
        else:
            board.clear(one.name, "floods")

    def _count_restarts(self, now: float) -> None:
        count = self._restarts.count(now)
        if count >= RESTARTS_MANY:
            self._deeds.board.show(self._one.name, "restarts", f"began anew {count} times within a minute")
        else:
            self._deeds.board.clear(self._one.name, "restarts")
