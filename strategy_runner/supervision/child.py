"""What a forked child does before it becomes a worker: let go of everything that belongs to its parent.

Called in the zygote's children; no exception may leave them, it would make a second zygote.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

Run = Callable[[Sequence[str]], int]

NOT_SPAWNED = 127
# the signals supervisord handles; SIGINT has a handler of Python's own
HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)
# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PROCESS_NAME_BYTES_MAX = 15
# made once, in the parent: what a child makes is its own memory
_PRCTL = ctypes.CDLL(None).prctl
_DESCRIPTORS_MAX = os.sysconf("SC_OPEN_MAX")


def leave_parent(parent: int) -> None:
    """Die with the daemon. Exits when the daemon is gone already."""
    if _PRCTL(PR_SET_PDEATHSIG, 9, 0, 0, 0) != 0:
        os.write(2, b"prctl(PR_SET_PDEATHSIG) failed: a child that may outlive the daemon is not started\n")
        os._exit(NOT_SPAWNED)
    # the daemon may have died between fork and prctl: then no signal will ever come
    if os.getppid() != parent:
        os._exit(NOT_SPAWNED)


def take_own_output(log: str) -> None:
    """Standard input from nowhere, output and errors to the program's own log; every other descriptor is closed."""
    null = os.open(os.devnull, os.O_RDWR)
    own = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(own, 1)
    os.dup2(own, 2)
    os.closerange(3, _DESCRIPTORS_MAX)


def run_and_exit(run: Run, arguments: Sequence[str], name: str) -> NoReturn:
    """Be the worker until it ends, and end with its exit code; a traceback goes to the log and ends with 1.

    Frames of the zygote lie below this one, so it never returns and never unwinds into them.
    """
    _PRCTL(PR_SET_NAME, name.encode()[:PROCESS_NAME_BYTES_MAX], 0, 0, 0)
    # everything inherited moves out of the collector's sight: a collection that touched it would copy its pages
    gc.freeze()
    gc.enable()
    code = 1
    try:
        code = run(arguments)
    except SystemExit as stop:
        code = _code_of(stop)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _code_of(stop: SystemExit) -> int:
    """As the interpreter ends: None is 0, a number is itself, anything else is printed and 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


def fork_and_run(run: Callable[[], int]) -> int:
    """Forks a child that ends with the code `run` returns, or with 1 and a traceback, and dies with this process.

    Returns its process id. Must be called from a process with one thread.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    gc.freeze()  # as in `run_and_exit`: what the parent made is not looked through again
    code = 1
    try:
        leave_parent(parent)
        code = run()
    except BaseException:
        traceback.print_exc()  # past here lies the frame of the parent
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
