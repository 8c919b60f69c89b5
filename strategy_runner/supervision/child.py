"""What a forked child does before it becomes a worker: let go of everything that belongs to the daemon.

No function here may raise past its caller in `WarmOptions.fork`: an exception there would leave a second supervisord.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

Run = Callable[[Sequence[str]], int]

NOT_SPAWNED = 127
# the signals supervisord handles; SIGINT has a handler of Python's own
HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)
# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PROCESS_NAME_BYTES_MAX = 15


def leave_parent(parent: int) -> None:
    """Die with the daemon, and have a new process's signal handlers. Exits when the daemon is gone already."""
    if _prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        os.write(2, b"prctl(PR_SET_PDEATHSIG) failed: a child that may outlive the daemon is not started\n")
        os._exit(NOT_SPAWNED)
    # the daemon may have died between fork and prctl: then no signal will ever come
    if os.getppid() != parent:
        os._exit(NOT_SPAWNED)
    signal.set_wakeup_fd(-1)
    for number in HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def take_own_output(log: str) -> None:
    """Standard input from nowhere, output and errors to the program's own log; every other descriptor is closed."""
    Path(log).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    null = os.open(os.devnull, os.O_RDWR)
    own = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(own, 1)
    os.dup2(own, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  they live as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115


def run_and_exit(run: Run, arguments: Sequence[str], name: str) -> NoReturn:
    """Be the worker until it ends, and end with its exit code; a traceback goes to the log and ends with 1.

    Frames of the daemon lie below this one, so it never returns and never unwinds into them.
    """
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:PROCESS_NAME_BYTES_MAX]))
    # everything inherited moves out of the collector's sight: a collection that touched it would copy its pages
    gc.freeze()
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


def _prctl(option: int, argument: int | ctypes.c_char_p) -> int:
    result: int = ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
    return result
