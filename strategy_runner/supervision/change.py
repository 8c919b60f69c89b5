"""A change under way: programs stopped tier by tier, then removed or replaced, while the daemon's loop goes on.

Workers stop before routers and routers before the feed; replacements start in the opposite order. A feed or watchdog that has
none goes first. Nothing here waits: supervisord's own events move a change on, so it completes even when whoever asked for it
has gone.
"""

import time
from collections.abc import Mapping
from typing import Any

from supervisor.states import STOPPED_STATES, ProcessStates

from strategy_runner.supervision.programs import STOPPED_FIRST

Key = tuple[str, str]
STAYS = object()  # in place of a configuration: the program stays where it is, stopped


class Change:
    """Ends the programs of `ending`, then puts the given configuration in their place, or nothing for None; what STAYS does not
    start by itself."""

    def __init__(self, supervisord: Any, ending: Mapping[Key, Any]) -> None:
        self._supervisord = supervisord
        self._ending = dict(ending)
        self._tiers = self._by_priority(ending)
        self._held: list[tuple[int, Key]] = []
        self._advancing = False

    @property
    def is_complete(self) -> bool:
        return not self._tiers and not self._held

    def advance(self) -> None:
        """Signal the tier whose turn it is; go on to the next as long as nothing has to be waited for."""
        self._advancing = True
        while self._tiers:
            priority, pending = self._tiers[-1]
            for key in tuple(pending):
                self._end(priority, pending, key)
            if pending:
                break
            self._tiers.pop()
        self._advancing = False
        if not self._tiers:
            self._release_held()

    def process_ended(self, process: Any) -> None:
        """Called for every process that stops, ours or not, possibly from within `advance`."""
        if not self._tiers:
            return
        priority, pending = self._tiers[-1]
        key = (process.group.config.name, process.config.name)
        if key not in pending:
            return
        self._settle(priority, pending, key)
        if not pending and not self._advancing:
            self.advance()

    def _by_priority(self, ending: Mapping[Key, Any]) -> list[tuple[int, set[Key]]]:
        tiers: dict[int, set[Key]] = {}
        priorities = {key: self._find(key).config.priority for key in ending}
        last_tier = max(priorities.values(), default=0)
        for key, priority in priorities.items():
            goes_first = priority in STOPPED_FIRST and ending[key] is None
            tiers.setdefault(last_tier if goes_first else priority, set()).add(key)
        return sorted(tiers.items())

    def _end(self, priority: int, pending: set[Key], key: Key) -> None:
        process = self._find(key)
        if process is not None and process.get_state() not in STOPPED_STATES:
            process.stop()
            return
        if process is not None:
            _keep_from_starting(process)
        self._settle(priority, pending, key)

    def _settle(self, priority: int, pending: set[Key], key: Key) -> None:
        """A worker need not wait for other workers to start again, only for a feed or router still to be stopped."""
        pending.discard(key)
        if len(self._tiers) == 1:
            self._replace(key)
        else:
            self._held.append((priority, key))

    def _release_held(self) -> None:
        for _, key in sorted(self._held):
            self._replace(key)
        self._held.clear()

    def _replace(self, key: Key) -> None:
        group_name, name = key
        group = self._supervisord.process_groups.get(group_name)
        replacement = self._ending[key]
        if group is None or replacement is STAYS:
            return
        if replacement is not None:
            # a fresh process is STOPPED and was never started: the loop's next transition starts it
            group.processes[name] = replacement.make_process(group)
            return
        group.processes.pop(name, None)
        if not group.processes:
            self._supervisord.remove_process_group(group_name)

    def _find(self, key: Key) -> Any:
        group = self._supervisord.process_groups.get(key[0])
        return None if group is None else group.processes.get(key[1])


def _keep_from_starting(process: Any) -> None:
    """One that has crashed, or that had no turn to start, would be started while it waits for the others to end, and go on with
    nobody to know of it: it is as one that was stopped."""
    if process.state == ProcessStates.EXITED:
        process.state = ProcessStates.STOPPED
    process.laststart = process.laststart or time.time()
