"""The daemon's own XML-RPC methods, `strategy_runner.*`: change single programs, and see all of them in one call.

supervisord's `update` restarts a whole group when one program of it changed; these touch only what changed. They load
under stock supervisord too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from supervisor.events import ProcessStateStoppedEvent, ProcessStateUnknownEvent, subscribe
from supervisor.http import NOT_DONE_YET
from supervisor.states import SupervisorStates, getProcessStateDescription
from supervisor.xmlrpc import Faults, RPCError

from strategy_runner.strategies.generation import versions
from strategy_runner.supervision.change import STAYS, Change, Key
from strategy_runner.supervision.reports import ChangeReport, ProcessReport

# How often a waiting call looks whether it is done; the loop's poll is never longer while a call waits.
ANSWER_INTERVAL_S = 0.02


def make_interface(supervisord: Any, **_config: str) -> "StrategyRunnerInterface":
    """What [rpcinterface:strategy_runner] names."""
    return StrategyRunnerInterface(supervisord)


class StrategyRunnerInterface:
    """The methods of `strategy_runner.*`. Changes are made one after the other, in the order they were asked for."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._requests: list[_Request] = []
        subscribe(ProcessStateStoppedEvent, self._on_process_ended)
        subscribe(ProcessStateUnknownEvent, self._on_process_ended)

    def reconcile(self) -> Callable[[], Any]:
        """Read the configuration file again and start, stop and restart the programs that differ, no others.

        @return string JSON of a ChangeReport, once all is done
        """
        return self._deferred(_Request(self._begin_reconcile))

    def restart(self, names: Sequence[str]) -> Callable[[], Any]:
        """Stop and start programs, whatever state they are in.

        @param array names `group:program`
        @return string JSON of a ChangeReport, once all is done
        """
        return self._deferred(_Request(lambda request: self._begin_restart(request, names)))

    def stop(self, names: Sequence[str]) -> Callable[[], Any]:
        """Stop programs, also those that wait for their start, until they are restarted or differ from the configuration file.

        @param array names `group:program`
        @return string JSON of a ChangeReport, once all is done
        """
        return self._deferred(_Request(lambda request: self._begin_stop(request, names)))

    def processes(self) -> str:
        """The state of all programs.

        @return string JSON of an array of ProcessReport
        """
        return msgspec.json.encode([_reported(process) for process in self._processes().values()]).decode()

    def versions(self) -> str:
        """What the daemon runs beside the code of clients.

        @return string JSON of an object, as strategies/generation.py gives it
        """
        return msgspec.json.encode(versions()).decode()

    def _deferred(self, request: "_Request") -> Callable[[], Any]:
        self._refuse_when_stopping()
        self._requests.append(request)
        self._serve()

        def answer() -> Any:
            self._refuse_when_stopping()
            return request.answer(self._processes)

        answer.delay = ANSWER_INTERVAL_S  # type: ignore[attr-defined]  # how supervisord recognises a deferred answer
        return answer

    def _serve(self) -> None:
        """Begin the next request as soon as the one before it has made its change."""
        while self._requests:
            request = self._requests[0]
            if not request.is_begun:
                request.run()
            if not request.is_changed:
                return
            self._requests.pop(0)

    def _on_process_ended(self, event: Any) -> None:
        if self._requests and self._requests[0].change is not None:
            self._requests[0].change.process_ended(event.process)
            self._serve()

    def _begin_reconcile(self, request: "_Request") -> None:
        try:
            self._supervisord.options.process_config(do_usage=False)
        except ValueError as fault:
            raise RPCError(Faults.CANT_REREAD, str(fault)) from None
        groups = self._supervisord.options.process_group_configs
        wanted: dict[Key, Any] = {(group.name, one.name): one for group in groups for one in group.process_configs}
        running = self._processes()
        added = wanted.keys() - running.keys()
        removed = running.keys() - wanted.keys()
        changed = {key for key in wanted.keys() & running.keys() if wanted[key] != running[key].config}
        self._add(groups, added)
        request.begin(
            Change(self._supervisord, {**dict.fromkeys(removed), **{key: wanted[key] for key in changed}}),
            started=added,
            stopped=removed,
            restarted=changed,
        )

    def _begin_restart(self, request: "_Request", names: Sequence[str]) -> None:
        named = self._named(names)
        request.begin(
            Change(self._supervisord, {key: process.config for key, process in named.items()}),
            started=set(),
            stopped=set(),
            restarted=set(named),
        )

    def _begin_stop(self, request: "_Request", names: Sequence[str]) -> None:
        named = self._named(names)
        request.begin(
            Change(self._supervisord, dict.fromkeys(named, STAYS)), started=set(), stopped=set(named), restarted=set()
        )

    def _named(self, names: Sequence[str]) -> dict[Key, Any]:
        """Raises RPCError for a name that is none."""
        running = self._processes()
        named = {}
        for full_name in names:
            group, _, name = full_name.partition(":")
            if (group, name) not in running:
                raise RPCError(Faults.BAD_NAME, full_name)
            named[group, name] = running[group, name]
        return named

    def _add(self, groups: Sequence[Any], added: set[Key]) -> None:
        """The loop's next transition starts them, groups with the lowest priority number first."""
        for config in groups:
            if self._supervisord.add_process_group(config):
                continue
            group = self._supervisord.process_groups[config.name]
            group.config = config
            for one in config.process_configs:
                if (config.name, one.name) in added:
                    one.create_autochildlogs()
                    group.processes[one.name] = one.make_process(group)

    def _processes(self) -> dict[Key, Any]:
        groups = self._supervisord.process_groups
        return {(group, name): process for group, one in groups.items() for name, process in one.processes.items()}

    def _refuse_when_stopping(self) -> None:
        if self._supervisord.options.mood < SupervisorStates.RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE)


class _Request:
    """One call that changes programs: begun when its turn comes, answered when its programs have started."""

    def __init__(self, start: Callable[["_Request"], None]) -> None:
        self._start = start
        self._fault: RPCError | None = None
        self._awaited: set[Key] = set()
        self._report: ChangeReport | None = None
        self.change: Change | None = None
        self.is_begun = False

    @property
    def is_changed(self) -> bool:
        return self._fault is not None or (self.change is not None and self.change.is_complete)

    def run(self) -> None:
        self.is_begun = True
        try:
            self._start(self)
        except RPCError as fault:
            self._fault = fault

    def begin(self, change: Change, *, started: set[Key], stopped: set[Key], restarted: set[Key]) -> None:
        self._report = ChangeReport(_names(started), _names(stopped), _names(restarted))
        self._awaited = started | restarted
        self.change = change
        change.advance()

    def answer(self, processes: Callable[[], dict[Key, Any]]) -> Any:
        if self._fault is not None:
            raise self._fault
        if not self.is_changed:
            return NOT_DONE_YET
        running = processes()
        self._awaited = {key for key in self._awaited if key in running and not running[key].laststart}
        return NOT_DONE_YET if self._awaited else msgspec.json.encode(self._report).decode()


def _names(keys: set[Key]) -> tuple[str, ...]:
    return tuple(f"{group}:{name}" for group, name in sorted(keys))


def _reported(process: Any) -> ProcessReport:
    return ProcessReport(
        group=process.group.config.name,
        name=process.config.name,
        state=getProcessStateDescription(process.get_state()),
        pid=process.pid,
        started_ns=int(process.laststart * 1e9),
        exit_status=process.exitstatus,
        spawn_error=process.spawnerr or "",
    )
