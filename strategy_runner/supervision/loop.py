"""supervisord's loop, turning when something happens instead of once a second, and stopping a thousand at once.

Stock supervisord notices a dead child at the end of a one-second poll and starts it again one turn later. Here SIGCHLD
ends the poll through a wake-up descriptor, and the dead are reaped before the transitions of the same turn.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import decode_wait_status
from supervisor.poller import PollPoller
from supervisor.states import STOPPED_STATES, ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from strategy_runner.supervision.child import HANDLED_SIGNALS
from strategy_runner.supervision.notify import ServiceNotifier
from strategy_runner.supervision.programs import STOPPED_FIRST

# A turn stays short, so that calls are answered, the dead reaped and the watchdog fed while a thousand programs start.
SPAWNS_PER_TURN_MAX = 32
# While many end a turn looks at each of them, and they need the processors: then the loop rests, for so long for each of them.
ENDING_MANY = 64
ENDING_REST_S = 0.000_1
ENDING_REST_S_MAX = 0.5
ENDING_LOOK_S = 0.02
ENDING_LOOK_S_EACH = 0.000_02
WAKE_UP_BYTES = 4096


class FleetSupervisor(Supervisor):  # type: ignore[misc]  # supervisor ships no types
    """supervisord's main object with a quick loop. Its options must have a TurnPoller."""

    def __init__(self, options: Any, notifier: ServiceNotifier) -> None:
        super().__init__(options)
        self._notifier = notifier
        self._next_reap = 0.0

    def runforever(self) -> None:
        wake_up = WakeUp(self.reap)
        asyncore.socket_map[wake_up.descriptor] = wake_up
        try:
            super().runforever()
        finally:
            del asyncore.socket_map[wake_up.descriptor]
            wake_up.close()

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        """All dead children, not the hundred a turn of the original: the next turn may be a second away. While many end, those
        of the programs, and each of them at most once within a while."""
        if self.options.ending >= ENDING_MANY:
            self._reap_each()
            return
        while True:
            pid, status = self.options.waitpid()
            if not pid:
                return
            process = self.options.pidhistory.pop(pid, None)
            if process is None:
                self.options.logger.info(f"reaped unknown pid {pid} ({decode_wait_status(status)[1]})")
            else:
                process.finish(pid, status)
            if once:
                return

    def _reap_each(self) -> None:
        """To ask for any of them has the kernel walk along all children for each that has ended, under the lock that those who
        end wait for."""
        now, history = time.monotonic(), self.options.pidhistory
        if now < self._next_reap:
            return
        self._next_reap = now + max(ENDING_LOOK_S, ENDING_LOOK_S_EACH * len(history))
        for pid in list(history):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
            if ended:
                history.pop(pid).finish(pid, status)

    def handle_signal(self) -> None:
        """The original takes one signal a turn; a SIGTERM behind a SIGCHLD would wait for the next."""
        for _ in HANDLED_SIGNALS:
            super().handle_signal()

    def tick(self, now: float | None = None) -> None:
        """The end of a turn: what proves to systemd that the loop turns."""
        super().tick(now)
        if self.options.mood < SupervisorStates.RUNNING:
            self._notifier.stopping()
        else:
            self._notifier.ready()
        self._notifier.beat()
        self._rest_while_many_end()

    def ordered_stop_groups_phase_1(self) -> None:
        """All workers of all groups at once, then all routers, then the OMS; the original goes group by group. With the first go
        who brings work and who watches: the feed and the watchdog.
        """
        unstopped = [one for group in self.process_groups.values() for one in group.get_unstopped_processes()]
        last_tier = max((process.config.priority for process in unstopped), default=None)
        for process in unstopped:
            if process.config.priority == last_tier or process.config.priority in STOPPED_FIRST:
                _stop(process)

    def ordered_stop_groups_phase_2(self) -> None:
        """Nothing: phase 1 looks afresh every turn."""

    def _rest_while_many_end(self) -> None:
        """Until all have ended that were told to, or for a while. The dead are taken meanwhile."""
        if not self.options.ending:
            return  # nobody was told to since they were counted, and all turns but a few are like that
        groups = self.process_groups.values()
        ending = [one for group in groups for one in group.processes.values() if one.state == ProcessStates.STOPPING]
        self.options.ending = len(ending)
        if len(ending) < ENDING_MANY or self.options.poller.has_spawned:
            return
        until = time.monotonic() + min(ENDING_REST_S_MAX, ENDING_REST_S * len(ending))
        while ending and time.monotonic() < until:
            time.sleep(max(ENDING_LOOK_S, self._next_reap - time.monotonic()))
            self.reap()
            ending = [one for one in ending if one.state == ProcessStates.STOPPING]


class WakeUp:
    """Where the interpreter writes a byte for every signal: an entry of supervisord's poll that reaps."""

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self.descriptor, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._writer)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, WAKE_UP_BYTES)
        self._on_signal()

    def handle_error(self) -> None:
        """Called inside the except clause of the loop: a fault in reaping ends the daemon, as it does elsewhere."""
        raise  # noqa: PLE0704  the loop's own exception


class TurnPoller(PollPoller):  # type: ignore[misc]  # supervisor ships no types
    """Decides how long a turn may sleep: not at all while programs wait to be started, shortly while a call waits."""

    def initialize(self) -> None:
        super().initialize()
        self._spawned = 0
        # the first turn starts programs; the original would sleep a second before it
        self._is_first = True

    @property
    def may_spawn(self) -> bool:
        return self._spawned < SPAWNS_PER_TURN_MAX

    @property
    def has_spawned(self) -> bool:
        """In this turn."""
        return self._spawned > 0

    def count_spawn(self) -> None:
        self._spawned += 1

    def poll(self, timeout: float) -> Any:
        hurry = self._is_first or not self.may_spawn
        self._is_first = False
        self._spawned = 0
        return super().poll(0 if hurry else min(timeout, _answer_delay(timeout)))


def _answer_delay(otherwise: float) -> float:
    """The time after which a deferred call wants to be asked again; supervisord's own calls wait a whole turn."""
    delays = [getattr(one, "delay", 0) for one in asyncore.socket_map.values()]
    return min((delay for delay in delays if delay), default=otherwise)


def _stop(process: Any) -> None:
    state = process.get_state()
    if state in (ProcessStates.RUNNING, ProcessStates.STARTING):
        process.stop()
    elif state == ProcessStates.BACKOFF:
        process.give_up()
    else:
        assert state == ProcessStates.STOPPING or state in STOPPED_STATES
