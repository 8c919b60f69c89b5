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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from strategy_runner.cli.main import VERBS, main

COMMAND = Path(sys.executable).with_name("strategy-runner")
_FORKED = multiprocessing.get_context("forkserver")
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
        with forked(command, environ, out.name, err.name) as process:
            process.join(timeout_s)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired([*command], timeout_s, out.read(), err.read())
            code = process.exitcode
        return code, out.read().decode(), err.read().decode()


@contextmanager
def forked(command: Sequence[str], environ: Mapping[str, str], out: str, err: str) -> Iterator[BaseProcess]:
    """COMMAND, forked, whose stdout and stderr are the files, or terminals, of these paths. It is killed at the end."""
    process = _FORKED.Process(target=_run, args=(tuple(command), dict(environ), out, err))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


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
