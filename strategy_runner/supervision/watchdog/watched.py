"""One process as the watchdog sees it: its status page, kept mapped, and its entry in /proc.

Silence is measured from when this process saw the page change, never by the times on the page: a step of the wall clock
says nothing about a worker.
"""

import mmap
import os
from pathlib import Path

from strategy_runner.config.spec import FeedSpec, RouterSpec, Spec, WatchdogSpec, WorkerSpec
from strategy_runner.supervision.watchdog.process import ENDED, ProcessHandle, ProcessStat, read_stat, started_wall_ns
from strategy_runner.tape.status import APPLYING, BEAT, POSITION, STATE_AND_PID, State, read_status

# So often a process writes its page when nothing happens: WAIT_MS_MAX of a worker; a router that stops waits for its sinks.
WORKER_BEAT_S = 2.0
ROUTER_BEAT_S = 4.0
BEATS_MISSED = 2.5
_AT_WORK = frozenset({State.CATCHING_UP, State.FOLLOWING, State.FINISHED, State.HALTED})
_STATES = {int(state): state for state in State}
_ENDED_BY_ITSELF = frozenset({State.FINISHED, State.PARKED})
_PAGE_BYTES = 4096
# a wall clock that is slewed, and the kernel's ticks
_CLOCK_SLACK_NS = 2_000_000_000


class Watched:
    """`changed` is the monotonic time of its last sign of life, `moved` that of its last progress on the tape."""

    def __init__(self, name: str, spec: Spec, now: float) -> None:
        self.name = name
        self.spec = spec
        self.page = Path(spec.folder) / "status"
        self.log = Path(spec.log)
        self.process: ProcessHandle | None = None
        self.seen_pid = self.lives = 0
        self.changed = self.moved = self.born = self.gone = now
        self.half: ProcessStat | None = None  # how it was, `half_at`, when half of its time to be silent was over
        self.half_at = now
        self.killed = False
        self.is_unseen = False  # the process has not said on its page that it is there: supervisord says so
        self._words = memoryview(bytes(_PAGE_BYTES)).cast("Q")
        self._inode = 0
        self._beat = self._applying = self._position = 0

    def look(self, now: float) -> bool:
        """Whether the page has another process's number than at the last look. Costs a tenth of a microsecond or two."""
        words = self._words
        beat, applying, position = words[BEAT], words[APPLYING], words[POSITION]
        if beat != self._beat or applying != self._applying:
            self.changed = now
            self.half = None
            if applying != self._applying or position != self._position:
                self.moved = now
            self._beat, self._applying, self._position = beat, applying, position
        return words[STATE_AND_PID] >> 32 != self.seen_pid

    def begin_anew(self, now: float) -> None:
        """Nothing counts that was, or was not, to be seen until now."""
        self.changed = self.moved = now
        self.half = None

    @property
    def state(self) -> State:
        return _STATES.get(self._words[STATE_AND_PID] & 0xFFFFFFFF, State.STARTING)

    @property
    def applying(self) -> int | None:
        """The seq of the record that the strategy has in hand."""
        return self._words[APPLYING] - 1 if self._words[APPLYING] else None

    @property
    def position(self) -> int:
        return self._words[POSITION]

    @property
    def last_error(self) -> str:
        status = read_status(self.page)
        return status.last_error if status is not None else ""

    @property
    def place(self) -> str:
        """Where on the tape it is, for a person."""
        if self.is_unseen:
            return "with no word of its own yet"
        return f"at seq {self.position if self.applying is None else self.applying}"

    @property
    def what_is_missing(self) -> str:
        """What it should have shown by now."""
        if self.is_unseen:
            return "not ready"
        if self.applying is not None:
            return "no progress"
        return "not ready" if self.state is State.STARTING else "no beat"

    @property
    def is_expected(self) -> bool:
        """It has not ended by itself; and if by order, it may have been started again since."""
        return not isinstance(self.spec, WatchdogSpec) and self.state not in _ENDED_BY_ITSELF

    @property
    def is_follower(self) -> bool:
        return isinstance(self.spec, WorkerSpec) and self.spec.history is None

    def patience_s(self, hang_s: float, start_s: float) -> float | None:
        """How long it may be silent in its state; None where silence says nothing."""
        spec = self.spec
        if isinstance(spec, WatchdogSpec):
            return None
        if isinstance(spec, WorkerSpec) and spec.history is not None:
            return None  # a run over history works in chunks, or waits for its turn
        if isinstance(spec, RouterSpec) and spec.bulk:
            return None  # waits for the runs over history
        if self.is_unseen or self.state is State.STARTING:
            return start_s
        if self.state not in _AT_WORK:
            return None
        if self.applying is not None:
            return hang_s
        beat_s = spec.beat_interval_s if isinstance(spec, FeedSpec) else WORKER_BEAT_S
        return max(hang_s, BEATS_MISSED * (ROUTER_BEAT_S if isinstance(spec, RouterSpec) else beat_s))

    # -- its files ---------------------------------------------------------------------------------------------------------

    def map_page(self) -> None:
        """Maps the page, if there is one by now, or another one than before."""
        try:
            if os.stat(self.page).st_ino == self._inode:  # noqa: PTH116  asked of a thousand in a round
                return
            fd = os.open(self.page, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            found = os.fstat(fd)
            if found.st_size >= _PAGE_BYTES:
                self._words = memoryview(mmap.mmap(fd, _PAGE_BYTES, prot=mmap.PROT_READ)).cast("Q")
                self._inode = found.st_ino
        finally:
            os.close(fd)

    def adopt(self, daemon: int, now: float) -> bool:
        """Takes the process that the page names for the one to watch, if it is one: a living child of the daemon that began
        before the page was last written. Any other has the number by chance. True if it is another one than before.
        """
        self.seen_pid = self._words[STATE_AND_PID] >> 32
        self.let_go(now)
        if not self.seen_pid:
            return False
        stat = _child(self.seen_pid, daemon)
        if stat is None or started_wall_ns(stat) > self._words[BEAT] + _CLOCK_SLACK_NS:
            return False
        if not self._take(self.seen_pid, now):
            return False
        self.lives += 1
        return True

    def adopt_unseen(self, pid: int, daemon: int, now: float) -> bool:
        """Takes a child of the daemon that its page does not name, until it does: it may hang before it has come to that."""
        self.is_unseen = _child(pid, daemon) is not None and self._take(pid, now)
        return self.is_unseen

    def let_go(self, now: float) -> None:
        self.is_unseen = False
        if self.process is not None:
            self.process.close()
            self.process, self.gone = None, now

    def _take(self, pid: int, now: float) -> bool:
        try:
            self.process = ProcessHandle(pid)
        except ProcessLookupError:
            return False
        self.begin_anew(now)
        self.born, self.killed = now, False
        return True


def _child(pid: int, daemon: int) -> ProcessStat | None:
    """None unless it lives and is a child of the daemon."""
    stat = read_stat(pid)
    return None if stat is None or stat.state in ENDED or stat.parent != daemon else stat
