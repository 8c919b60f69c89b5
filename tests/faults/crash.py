"""Faults at one exact step: the n-th system call of a kind kills its process, before or after it, or fails.

STRATEGY_RUNNER_FAULTS_STEP is `CALL N HOW`, such as `fdatasync 7 before`. CALL is one of CALLS, `any` of them, or one on a
path that ends in a name: `replace:.cursor`. HOW is before, after, ENOSPC or EIO. What fails fails once, a disk that was full for
a moment, or so many times in a row: `ENOSPC*20`. With `stop` the process stands still before it until it is continued. A file
says that the step was met.
"""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEP_VARIABLE = "STRATEGY_RUNNER_FAULTS_STEP"
CALLS = ("pwrite", "write", "fdatasync", "fsync", "replace", "unlink", "ftruncate", "posix_fallocate", "open")
WAYS = ("before", "after", "ENOSPC", "EIO")
# an unlink or a truncation needs no space
NEVER_FULL = frozenset({"unlink", "ftruncate"})
MET = "met"
_open, _close = os.open, os.close  # as they are before anything is wrapped


def install(step: str, folder: Path) -> None:
    """In a process of its own, before it does anything. `folder` is where the file MET is made."""
    call, number, how = step.split()
    name, _, suffix = call.partition(":")
    fault = _Fault(int(number), how, suffix, folder / MET)
    for each in CALLS if name == "any" else (name,):
        setattr(os, each, fault.counted(each, getattr(os, each)))


class _Fault:
    """Counts calls of all that it wraps together."""

    def __init__(self, at: int, how: str, suffix: str, met: Path) -> None:
        self._how, _, times = how.partition("*")
        self._from, self._below = at, at + int(times or 1)
        self._suffix = suffix
        self._met = met
        self._count = 0

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if not self._concerns(name, arguments):
                return real(*arguments, **more)
            self._count += 1
            if not self._from <= self._count < self._below:
                return real(*arguments, **more)
            if self._count == self._from:
                _close(_open(self._met, os.O_WRONLY | os.O_CREAT))
            if self._how == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self._how in ("ENOSPC", "EIO"):
                number = getattr(errno, self._how)
                raise OSError(number, os.strerror(number))
            found = real(*arguments, **more)
            if self._how == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return call

    def _concerns(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """Paths are among the first two arguments; what needs no space does not fail for want of it."""
        if self._how == "ENOSPC" and name in NEVER_FULL:
            return False
        return not self._suffix or any(str(one).endswith(self._suffix) for one in arguments[:2])
