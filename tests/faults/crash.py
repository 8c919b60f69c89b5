"""Faults at one exact step: the n-th system call of a kind kills its process, before or after it, or fails.

STRATEGY_RUNNER_FAULTS_STEP is `CALL N HOW`, such as `fdatasync 7 before`; HOW is before, after, ENOSPC or EIO. What fails
fails once: a disk that was full for a moment, a sector that would not be read.
"""

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

STEP_VARIABLE = "STRATEGY_RUNNER_FAULTS_STEP"
CALLS = ("pwrite", "write", "fdatasync", "fsync", "replace", "unlink", "ftruncate", "posix_fallocate", "open")
WAYS = ("before", "after", "ENOSPC", "EIO")
# an unlink or a truncation needs no space
NEVER_FULL = frozenset({"unlink", "ftruncate"})


def install(step: str) -> None:
    """In a process of its own, before it does anything."""
    call, number, how = step.split()
    setattr(os, call, _counted(getattr(os, call), int(number), how))


def _counted(real: Callable[..., Any], at: int, how: str) -> Callable[..., Any]:
    count = 0

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count != at:
            return real(*arguments, **more)
        if how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if how in ("ENOSPC", "EIO"):
            number = getattr(errno, how)
            raise OSError(number, os.strerror(number))
        found = real(*arguments, **more)
        if how == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return counted
