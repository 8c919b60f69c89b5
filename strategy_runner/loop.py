"""The one loop that every process runs over its agent, and the flag that ends it."""

import signal
import time
from _signal import signal as set_handler  # type: ignore[import-not-found]  # signal's own makes enums: 90 KB of each worker
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Protocol

COLLECT_AFTER = 50_000  # containers more than before: thousands live for one turn, and none of them makes a cycle


class Agent(Protocol):
    """What the one loop drives: bounded turns that return the work they did, and a wait for when there was none."""

    def turn(self) -> int: ...

    def wait(self) -> None: ...

    def stop(self) -> None: ...


def loop(agent: Agent, stopping: "StopFlag", reload: Callable[[], None] | None) -> None:
    """The one loop: turns while there is work, waits while there is none, a clean stop at the end."""
    while not stopping.is_set:
        if not agent.turn():
            stopping.wait(agent.wait)
        if reload is not None:
            reload()
    agent.stop()


class StopFlag:
    """Set by SIGTERM or SIGINT. The signal handler does nothing else, except to end a wait that is going on."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiting = False
        set_handler(signal.SIGTERM, self._on_signal)
        set_handler(signal.SIGINT, self._on_signal)

    def __call__(self) -> bool:
        return self.is_set

    def wait(self, wait: Callable[[], None]) -> None:
        """Calls `wait`, which a stop signal ends at once."""
        try:
            self._waiting = True
            if not self.is_set:
                wait()
        except _WaitEnded:
            pass
        finally:
            self._waiting = False

    def pause(self, seconds: float) -> None:
        """Sleeps, unless a stop signal comes."""
        self.wait(partial(time.sleep, seconds))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if self._waiting:
            self._waiting = False
            raise _WaitEnded


class _WaitEnded(BaseException):
    """A stop signal came during a wait."""
