"""Jobs in forked children of their own, at most so many at a time: what a client's code does there, no other job sees.

A child's result comes back through an anonymous file, so that a large one blocks nobody.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from strategy_runner.supervision.child import fork_and_run

LOOK_INTERVAL_S = 0.02


class Ended(NamedTuple):
    """How a job ended: the exit code of its process (negative: the signal that killed it), and its result."""

    code: int
    result: bytes


class _Running(NamedTuple):
    name: str
    fd: int


def run_forked(
    jobs: Mapping[str, Callable[[], bytes]], *, parallel: int, show: Callable[[int, int], None]
) -> dict[str, Ended]:
    """Runs each job in a forked child. `show` gets (ended, all). Must be called from a process with one thread.

    What a job raises goes to stderr and ends its process with 1. On an interrupt the children are killed.
    """
    waiting = list(jobs.items())[::-1]
    running: dict[int, _Running] = {}
    ended: dict[str, Ended] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                name, job = waiting.pop()
                fd = os.memfd_create(name[:64], os.MFD_CLOEXEC)
                running[_fork(job, fd)] = _Running(name, fd)
            _reap(running, ended)
            show(len(ended), len(jobs))
            if running:
                time.sleep(LOOK_INTERVAL_S)
    finally:
        for pid, one in running.items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(one.fd)
    return {name: ended[name] for name in jobs}


def _fork(job: Callable[[], bytes], fd: int) -> int:
    def run() -> int:
        os.dup2(2, 1)  # the parent's stdout is for its own results
        sys.stdout = sys.stderr
        with open(fd, "wb", closefd=False) as file:
            file.write(job())
        return 0

    return fork_and_run(run)


def _reap(running: dict[int, _Running], ended: dict[str, Ended]) -> None:
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            name, fd = running.pop(pid)
            with open(fd, "rb") as file:  # noqa: PTH123  a descriptor, not a path
                file.seek(0)
                ended[name] = Ended(os.waitstatus_to_exitcode(status), file.read())
