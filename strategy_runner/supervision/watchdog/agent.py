"""The watchdog: a process of its own that ends what hangs or takes too much, and tells what it sees.

It kills; supervisord starts again what nobody stopped, and a worker counts its own tries (worker/parking.py). What supervisord
gave up and all others need (feed, router, OMS) it asks supervisord to try again. So what a person stopped, no machine starts.
It reads status pages and /proc and serves nothing: what it sees and did stands in files (supervision/conditions.py).

python -m strategy_runner.supervision.watchdog.agent SPEC.json
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from strategy_runner import assembly
from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, WatchdogSpec, WorkerSpec
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.loop import StopFlag, loop
from strategy_runner.supervision.cgroup import WorkerGroups, delegated_groups
from strategy_runner.supervision.watchdog.children import Children
from strategy_runner.supervision.watchdog.deeds import Deeds
from strategy_runner.supervision.watchdog.measures import Measures
from strategy_runner.supervision.watchdog.process import ENDED
from strategy_runner.supervision.watchdog.roster import Roster
from strategy_runner.supervision.watchdog.rules import hang_verdict
from strategy_runner.supervision.watchdog.silence import MarketWatch
from strategy_runner.supervision.watchdog.watched import Watched
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.status import State, StatusFile

# each process is measured once in a round, a part of them at each look
ROUND_S = 5.0
SILENCE_LOOK_S = 2.0
# longer between two looks than meant, and it was this process that stood still: then nobody's silence counts
OWN_PAUSE_S = 2.0
# a worker may beat without reading for some hangs: reading waits for disks, beating does not
STALL_HANGS = 3
STALL_MIN_S = 15.0
GONE_S = 3.0
# so long after its end a feed, router or OMS that supervisord gave up is tried again; a worker is its owner's business
TRY_AGAIN_S = 15.0
DAEMON_ANSWER_S = 2.0
_RUNS = ("STARTING", "RUNNING")

log = logging.getLogger(__name__)


class Watchdog:
    """`daemon` is the parent of all that is watched, `clock` a monotonic one in seconds."""

    def __init__(
        self,
        spec: WatchdogSpec,
        *,
        daemon: int,
        status: StatusFile,
        groups: WorkerGroups | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._file = status
        self._clock = clock
        self._roster = Roster(Path(spec.specs), daemon, groups)
        self._deeds = Deeds(Path(spec.folder))
        self._children = Children(self._roster, self._deeds)
        self._measures: dict[str, Measures] = {}
        self._markets: dict[str, MarketWatch] = {}
        self._flooding: set[str] = set()
        self._turn_of = 0
        self._last_look = self._next_look = self._next_silence_look = self._next_round = clock()
        status.enter(State.FOLLOWING)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """One look, if it is due. Returns 0: after it there is nothing left to do."""
        now = self._clock()
        self._roster.hear_ends(now)
        if now < self._next_look:
            return 0
        self._look(now)
        self._measure_some(now)
        if now >= self._next_silence_look:
            self._look_at_markets()
            self._next_silence_look = now + SILENCE_LOOK_S
        if now >= self._next_round:
            self._children.end(now)
            self._ask_about_the_missing(now)
            self._next_round = now + ROUND_S
        self._tell()
        self._last_look, self._next_look = now, now + self._spec.look_interval_s
        return 0

    def wait(self) -> None:
        """Until the next look is due or a process ends."""
        self._roster.wait(max(0.0, self._next_look - self._clock()))

    def stop(self) -> None:
        self._tell()
        self._deeds.close()
        self._roster.close(self._clock())
        self._file.enter(State.STOPPED)

    # -- hangs -----------------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """At every page: whose process is another, and who is silent."""
        if now - self._last_look > self._spec.look_interval_s + OWN_PAUSE_S:
            log.warning("stood still for %.1f s: counting anew", now - self._last_look)
            for one in self._roster:
                one.begin_anew(now)
        self._refresh(now)
        for one in self._roster:
            if one.look(now):
                self._adopt(one, now)
            if one.process is None or now - one.changed <= self._spec.hang_s / 2:
                continue  # nobody's patience is shorter
            patience_s = one.patience_s(self._spec.hang_s, self._spec.start_s)
            if patience_s is not None and now - one.changed > patience_s / 2:
                self._examine(one, now, patience_s)

    def _examine(self, one: Watched, now: float, patience_s: float) -> None:
        """A process that has been silent for more than half of its time."""
        assert one.process is not None
        stat = one.process.stat()
        if one.killed or stat is None or stat.state in ENDED:
            return
        if one.half is None:
            one.half, one.half_at = stat, now
        silent_s = now - one.changed
        if silent_s <= patience_s:
            return
        verdict = hang_verdict(stat, one.half, now - one.half_at)
        if verdict in ("waits for the disk", "is held by a debugger"):
            self._deeds.board.show(one.name, "stuck", f"{verdict}, {one.place}")
        elif verdict == "was stopped":
            self._deeds.kill(one, f"stopped by a signal {one.place} for {silent_s:.1f} s", now)
        elif verdict == "hangs":
            self._deeds.kill(one, f"{one.what_is_missing} {one.place} for {silent_s:.1f} s", now)

    # -- whom it watches -------------------------------------------------------------------------------------------------

    def _refresh(self, now: float) -> None:
        changed = self._roster.refresh(now)
        if changed is None:
            return
        came, gone = changed
        for name in gone:
            del self._measures[name]
            self._flooding.discard(name)
            self._deeds.board.forget(name)
        for one in self._roster:
            if one.name in came:
                self._measures[one.name] = Measures(
                    one,
                    self._deeds,
                    log_limit_mb=self._spec.log_limit_mb,
                    stall_s=max(STALL_MIN_S, STALL_HANGS * self._spec.hang_s),
                    tape_count=partial(self._tape_count, one.spec.mode),
                )
        self._markets = {
            one.name: MarketWatch(one.spec, self._spec) for one in self._roster if isinstance(one.spec, FeedSpec)
        }

    def _adopt(self, one: Watched, now: float) -> None:
        if self._roster.adopt(one, now):
            self._measures[one.name].begin_anew(now)

    def _ask_about_the_missing(self, now: float) -> None:
        """supervisord is asked only when a process is missing that should be there: whether it has given it up. One that runs may
        hang before it has come to its page: it is watched from now on."""
        missing = [one for one in self._roster if one.process is None and one.is_expected and now - one.gone > GONE_S]
        if not missing:
            return
        from strategy_runner.supervision.control import Daemon

        daemon = Daemon(Home(Path(self._spec.home)))
        with suppress(StrategyRunnerError, OSError):  # it is stopping, or somebody stopped it
            reports = {one.full_name: one for one in daemon.processes(DAEMON_ANSWER_S)}
            for one in missing:
                report = reports.get(one.name)
                if report is not None and report.state in _RUNS:
                    self._roster.adopt_unseen(one, report.pid, now)
                if report is None or report.state != "FATAL":
                    continue
                why = one.last_error or report.spawn_error or f"exit status {report.exit_status}"
                # its last error stands beside it in `status`
                told = "supervisord gave it up" if one.last_error else f"supervisord gave it up: {why}"
                self._deeds.board.show(one.name, "given up", told)
                if not isinstance(one.spec, WorkerSpec) and now - one.gone > TRY_AGAIN_S:
                    one.gone = now
                    self._deeds.note(one, "tried again", f"supervisord had given it up: {why}")
                    daemon.restart([one.name], DAEMON_ANSWER_S)

    # -- measures, markets -------------------------------------------------------------------------------------------------

    def _measure_some(self, now: float) -> None:
        """Those whose turn it is, and every log that is written too fast."""
        names = list(self._measures)
        part = int(-(-len(names) * self._spec.look_interval_s // ROUND_S))
        turns = [names[(self._turn_of + i) % len(names)] for i in range(min(part, len(names)))]
        self._turn_of += part
        for name in {*turns, *self._flooding}:
            one, measures = self._roster[name], self._measures[name]
            if one.seen_pid and (one.process is None or (one.is_unseen and one.process.pid == one.seen_pid)):
                self._adopt(one, now)  # its page was half written when it was looked at
            measures.measure(now)
            (self._flooding.add if measures.is_flooding else self._flooding.discard)(name)

    def _tape_count(self, mode: str) -> int:
        return max((market.count() for market in self._markets.values() if market.mode == mode), default=0)

    def _look_at_markets(self) -> None:
        for name, market in self._markets.items():
            market.look_for_another()
            silent = market.silent() if self._roster[name].state is State.FOLLOWING else {}
            self._deeds.board.show_all(name, "stale", silent)

    def _tell(self) -> None:
        status = self._file.status
        status.records, status.total = self._roster.alive, len(self._roster)
        self._file.write()
        self._deeds.tell()


def main(arguments: Sequence[str]) -> int:
    """What supervisord runs; under the warm fork it is a function call."""
    return assembly.main(arguments, {WatchdogSpec: _run_watchdog})


def _run_watchdog(spec: WatchdogSpec, stopping: StopFlag) -> int:
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    # two descriptors for each process that it watches
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    status = StatusFile(folder / "status")
    groups = delegated_groups()
    if groups is not None:
        groups.let_daemon_go_first()
    log.info("watchdog: control groups %s", "of their own for workers" if groups else "are not delegated")
    loop(Watchdog(spec, daemon=os.getppid(), status=status, groups=groups), stopping, None)
    lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
