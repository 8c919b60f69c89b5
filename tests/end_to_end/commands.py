"""The command line in a process of its own, forked from one that has imported it.

A new interpreter and what it imports cost up to a second of processor time, a command a small part of that, and tests run
hundreds of them. Interpreters of their own have the commands of tests/docs/test_tour.py and tests/end_to_end/
test_installed_wheel.py, those that are left running (`Firm.follow`), and those with a changed environment.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from strategy_runner.cli.main import VERBS, main

COMMAND = Path(sys.executable).with_name("strategy-runner")
_FORKED = multiprocessing.get_context("forkserver")
# a process that is started looks after those that were, and of two that look at the end of one only the first sees its code
_LOOKING = threading.Lock()
# and what runs the tests, which a child imports first
_FORKED.set_forkserver_preload([*(f"strategy_runner.cli.{module}" for module in VERBS), "pytest"])


def run_executed(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command with an interpreter of its own. Raises TimeoutExpired."""
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environ,
        cwd="/",
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def run_forked(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
    """The same of COMMAND, forked."""
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        code = run_forked_to(command, environ, out.name, err.name, timeout_s)
        return code, out.read().decode(), err.read().decode()


def run_forked_to(
    command: Sequence[str], environ: Mapping[str, str], out: str, err: str, timeout_s: float = 60.0
) -> int:
    """Exit code of COMMAND, forked, whose stdout and stderr are the files, or terminals, of these paths."""
    process = _FORKED.Process(target=_run, args=(tuple(command), dict(environ), out, err))
    with _LOOKING:
        process.start()
    wait([process.sentinel], timeout_s)
    with _LOOKING:
        code = process.exitcode
        process.kill()
        process.join()
        process.close()
    if code is None:
        raise subprocess.TimeoutExpired([*command], timeout_s)
    return code


def _run(command: tuple[str, ...], environ: dict[str, str], out: str, err: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir("/")
    for descriptor, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        opened = os.open(path, mode | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = [*command]
    main()
