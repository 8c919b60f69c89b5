"""What the watchdog does to processes, and where it says so: every deed is logged with its reason."""

import logging
import os
import time
from pathlib import Path

from strategy_runner.supervision.conditions import Action, ActionKind, ActionLog, Board
from strategy_runner.supervision.watchdog.watched import Watched

RESTARTED_SHOWN_S = 600.0

log = logging.getLogger(__name__)


class Deeds:
    """`board` holds the conditions; `tell` writes them."""

    def __init__(self, folder: Path) -> None:
        self.board = Board(folder)
        self._actions = ActionLog(folder)
        self._unwritable = False

    def kill(self, one: Watched, reason: str, now: float) -> None:
        """Ends a process with all that it started; supervisord starts it again, unless somebody is stopping it."""
        assert one.process is not None
        if one.killed or not one.process.kill():
            return
        one.killed = True
        one.begin_anew(now)
        self.note(one, "killed", reason)
        self.board.show(one.name, "restarted", reason)

    def slow_down(self, one: Watched, reason: str) -> bool:
        """To the lowest priority: it runs when nobody else wants to. False if even that is not allowed."""
        assert one.process is not None
        slowed = one.process.set_policy(os.SCHED_IDLE)
        self.board.show(one.name, "over cpu_limit", reason)
        if slowed:
            self.note(one, "slowed", reason)
        return slowed

    def release(self, one: Watched, reason: str) -> bool:
        """Back to the priority of other workers. False if this user may not raise one: it stays until the process begins anew."""
        assert one.process is not None
        if not one.process.set_policy(os.SCHED_OTHER):
            return False
        self.board.clear(one.name, "over cpu_limit")
        self.note(one, "released", reason)
        return True

    def note(self, one: Watched, action: ActionKind, reason: str) -> None:
        pid = one.process.pid if one.process is not None else one.seen_pid
        log.warning("%s (process %d): %s: %s", one.name, pid, action, reason)
        try:
            self._actions.append(Action(at_ns=time.time_ns(), name=one.name, pid=pid, action=action, reason=reason))
        except OSError as error:
            log.error("the log of actions cannot be written: %s", error)

    def tell(self) -> None:
        self.board.expire("restarted", time.time_ns() - int(RESTARTED_SHOWN_S * 1e9))
        try:
            self.board.write()
            self._unwritable = False
        except OSError as error:
            if not self._unwritable:
                log.error("conditions cannot be written, trying again: %s", error)
            self._unwritable = True

    def close(self) -> None:
        self._actions.close()
