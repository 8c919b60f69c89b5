"""Processes that a worker started, which no strategy may: the worker is ended with them."""

import os
import signal
from contextlib import suppress

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.supervision.watchdog.deeds import Deeds
from strategy_runner.supervision.watchdog.process import ENDED, command_name, pids, read_stat
from strategy_runner.supervision.watchdog.roster import Roster


class Children:
    """Looks at each process of the host once: whose child it is, and in whose group."""

    def __init__(self, roster: Roster, deeds: Deeds) -> None:
        self._roster = roster
        self._deeds = deeds
        self._foreign: set[int] = set()

    def end(self, now: float) -> None:
        watched = {one.process.pid: one for one in self._roster if one.process is not None}
        all_pids = set(pids())
        self._foreign &= all_pids
        for pid in all_pids - self._foreign - watched.keys():
            stat = read_stat(pid)
            if stat is None or stat.state in ENDED:
                continue
            parent = watched.get(stat.parent) or watched.get(stat.group)
            if parent is None or not isinstance(parent.spec, WorkerSpec):
                self._foreign.add(pid)
                continue
            self._deeds.kill(parent, f"started process {pid} ({command_name(pid)}), which no strategy may", now)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)  # it may have left its parent's group
