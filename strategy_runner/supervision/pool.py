"""A pool for runs in the foreground: each spec in a forked child of its own, at most so many at a time, no daemon."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strategy_runner import assembly

LOOK_INTERVAL_S = 0.05


def run_all(specs: Sequence[tuple[Path, Path]], *, parallel: int, show: Callable[[], None]) -> dict[Path, int]:
    """Runs (spec, log) pairs and returns the exit code of each spec; `show` is called while they run.

    On an interrupt the children, which got it too, are waited for, and KeyboardInterrupt goes on. Must be called from a
    process with one thread, since it forks.
    """
    waiting = list(reversed(specs))
    running: dict[int, Path] = {}
    codes: dict[Path, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                spec, log = waiting.pop()
                running[_fork(spec, log)] = spec
            _reap(running, codes)
            show()
            time.sleep(LOOK_INTERVAL_S)
    except KeyboardInterrupt:
        for pid in running:
            os.kill(pid, signal.SIGTERM)
        while running:
            _reap(running, codes)
            time.sleep(LOOK_INTERVAL_S)
        raise
    return codes


def _fork(spec: Path, log: Path) -> int:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        code = assembly.run([str(spec)])
    finally:
        os._exit(code)


def _reap(running: dict[int, Path], codes: dict[Path, int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
