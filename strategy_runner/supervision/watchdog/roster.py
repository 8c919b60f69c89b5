"""Whom the watchdog watches: a process for each spec in a folder, found again after every restart of it.

The folder is read again when it changes, so that one more worker does not restart the watchdog. A process whose spec is damaged
runs on all the same, and is watched by what was known of it.
"""

import logging
import select
from collections.abc import Iterator
from pathlib import Path

from strategy_runner.config.spec import Spec, WatchdogSpec, WorkerSpec, read_specs
from strategy_runner.supervision.cgroup import WorkerGroups
from strategy_runner.supervision.watchdog.watched import Watched

log = logging.getLogger(__name__)


class Roster:
    """`daemon` is the parent of all that is watched; `groups` are None where none are delegated."""

    def __init__(self, specs: Path, daemon: int, groups: WorkerGroups | None) -> None:
        self._folder = specs
        self._daemon = daemon
        self._groups = groups
        self._changed_ns = 0
        self._by_name: dict[str, Watched] = {}
        self._damaged: dict[str, str] = {}
        self._ends = select.epoll()
        self._by_pidfd: dict[int, Watched] = {}

    def __iter__(self) -> Iterator[Watched]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> Watched:
        return self._by_name[name]

    @property
    def alive(self) -> int:
        """How many have a process."""
        return len(self._by_pidfd)

    def refresh(self, now: float) -> tuple[set[str], set[str]] | None:
        """Reads the folder if it changed: (names that came or are others now, names that went). None if it did not change."""
        try:
            changed_ns = max(part.stat().st_mtime_ns for part in (self._folder, *self._folder.iterdir()))
        except FileNotFoundError:
            return None
        if changed_ns == self._changed_ns:
            return None
        self._changed_ns = changed_ns
        found, damaged = read_specs(self._folder)
        self._tell_damaged(damaged)
        found |= {name: self._by_name[name].spec for name in damaged if name in self._by_name}
        gone = self._by_name.keys() - found.keys()
        came = {name for name, spec in found.items() if name not in self._by_name or self._is_other(name, spec)}
        for name in gone | (came & self._by_name.keys()):
            self._remove(self._by_name.pop(name), now)
        for name, spec in found.items():
            if name in came:
                self._by_name[name] = Watched(name, spec, now)
                self._by_name[name].map_page()
            else:
                self._by_name[name].spec = spec
        return came, gone

    def adopt(self, one: Watched, now: float) -> bool:
        """Takes the process that its page names for the one to watch, if it is one."""
        if isinstance(one.spec, WatchdogSpec):
            return False  # supervisord and a reader of its page watch the watchdog
        self._let_go(one, now)
        if not one.adopt(self._daemon, now):
            return False
        self._follow(one)
        assert one.process is not None
        if self._groups is not None and isinstance(one.spec, WorkerSpec) and one.is_follower:
            try:
                self._groups.confine(one.name, one.process.pid, one.spec.limits)
            except OSError as error:
                log.warning("%s: no control group of its own: %s", one.name, error)
        return True

    def adopt_unseen(self, one: Watched, pid: int, now: float) -> None:
        """Takes a process that supervisord names, and whose page does not yet, for the one to watch."""
        if one.adopt_unseen(pid, self._daemon, now):
            self._follow(one)

    def hear_ends(self, now: float) -> None:
        """Of processes that ended: what they had started ends too, or it would hold the lock of their folder."""
        for pidfd, _ in self._ends.poll(0):
            one = self._by_pidfd[pidfd]
            assert one.process is not None
            one.process.end_orphans()
            self._let_go(one, now)

    def wait(self, seconds: float) -> None:
        """Until a process ends, or the time is up."""
        self._ends.poll(seconds)

    def close(self, now: float) -> None:
        for one in self:
            self._let_go(one, now)
        self._ends.close()

    def _follow(self, one: Watched) -> None:
        assert one.process is not None
        self._by_pidfd[one.process.pidfd] = one
        self._ends.register(one.process.pidfd, select.EPOLLIN)

    def _tell_damaged(self, damaged: dict[str, str]) -> None:
        """Each once: the folder is read again for every process that comes or goes."""
        for name in sorted(damaged.keys() - self._damaged.keys()):
            how = "watched as it was told before" if name in self._by_name else "not watched, as nothing says how"
            log.warning("%s: %s: %s", name, how, damaged[name])
        self._damaged = damaged

    def _is_other(self, name: str, spec: Spec) -> bool:
        """Other files: a run in another mode, a strategy of another folder."""
        known = self._by_name[name].spec
        return (known.folder, known.log) != (spec.folder, spec.log)

    def _remove(self, one: Watched, now: float) -> None:
        self._let_go(one, now)
        if self._groups is not None:
            self._groups.remove(one.name)

    def _let_go(self, one: Watched, now: float) -> None:
        if one.process is not None:
            self._ends.unregister(one.process.pidfd)
            del self._by_pidfd[one.process.pidfd]
            one.let_go(now)
