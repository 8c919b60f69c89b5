"""A pool for runs in the foreground: each spec in a forked child of its own, at most so many at a time, no daemon."""

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strategy_runner import assembly
from strategy_runner.supervision.child import fork_and_run

LOOK_INTERVAL_S = 0.05
# an interrupted run begins again from nothing: there is no state to save, and a strategy may take long over a block
INTERRUPTED_S = 2.0


def run_all(specs: Sequence[tuple[Path, Path]], *, parallel: int, show: Callable[[], None]) -> dict[Path, int]:
    """Runs (spec, log) pairs and returns the exit code of each spec; `show` is called while they run.

    On an interrupt all children are ended, and KeyboardInterrupt goes on. Must be called from a process with one thread,
    since it forks.
    """
    waiting = list(reversed(specs))
    running: dict[int, Path] = {}
    codes: dict[Path, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                spec, log = waiting.pop()
                running[_fork(spec, log)] = spec
            show()
            _wait(running)
            _reap(running, codes)
    except KeyboardInterrupt:
        _end(running, codes)
        raise
    return codes


def _end(running: dict[int, Path], codes: dict[Path, int]) -> None:
    """Ends what runs: asked to for INTERRUPTED_S, then made to."""
    deadline = time.monotonic() + INTERRUPTED_S
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    while running:
        if time.monotonic() > deadline:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        _wait(running)
        _reap(running, codes)


def _fork(spec: Path, log: Path) -> int:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run() -> int:
        os.umask(0o077)  # as what the daemon starts has it: whoever reaches a router's socket can ask it
        assembly.take_output(log)
        return assembly.run([str(spec)])

    return fork_and_run(run)


def _wait(running: dict[int, Path]) -> None:
    """Until one of them has ended, or it is time to look."""
    poll = select.poll()
    ends = [os.pidfd_open(pid) for pid in running]
    try:
        for end in ends:
            poll.register(end, select.POLLIN)
        poll.poll(1e3 * LOOK_INTERVAL_S)
    finally:
        for end in ends:
            os.close(end)


def _reap(running: dict[int, Path], codes: dict[Path, int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
