"""A firm for the tests: a home of its own, run through the real command line, and never left with a process running."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from end_to_end.commands import COMMAND, run_executed, run_forked
from worker.processes import is_alive, living_thread

from strategy_runner.config.home import Home
from strategy_runner.supervision.control import Daemon

PATIENCE_S = 60.0
# polling a file or a socket costs next to nothing; a command costs half a second by itself
LOOK_INTERVAL_S = 0.02
T = TypeVar("T")
# a client that trades two symbols on paper by a strategy that soon has something to say
CROSSOVER = """
routes = ["oms"]

[accounts]
BTC-USD = { venue = "binance", account = "main" }
ETH-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "10s"
params = { fast = 2, slow = 4 }
size = 0.5
"""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A command that has ended."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)

    def objects(self) -> list[dict[str, Any]]:
        """One JSON object a line."""
        return [json.loads(line) for line in self.lines]


class Firm:
    """A home in /tmp, since socket paths are short, and the command line in subprocesses.

    `close` ends what runs, whatever the test did, and fails if `down` left a process behind.
    """

    def __init__(self, *, init: bool = True, command: Sequence[str | Path] = (COMMAND,)) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
        self.home = Home(self.root)
        self.command = (*(str(word) for word in command), "--home", str(self.root))
        self._daemon = Daemon(self.home)
        self._followers: list[subprocess.Popen[str]] = []
        if init:
            self.run("init", self.root)
            # the samples are other people's clients: a test writes its own
            shutil.rmtree(self.root / "clients")
            (self.root / "clients").mkdir()

    def __enter__(self) -> "Firm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- files -----------------------------------------------------------------------------------------------------------

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path}: expected {old!r} once"
        file.write_text(text.replace(old, new))

    # -- commands --------------------------------------------------------------------------------------------------------

    def run(
        self,
        *arguments: object,
        code: int | None = 0,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> Ran:
        """Runs a command to its end. Fails unless it ends with `code`; None allows any. With `environ` it has an interpreter
        of its own.
        """
        words = tuple(str(argument) for argument in arguments)
        is_ordinary = environ is None and self.command[0] == str(COMMAND)
        run = run_forked if is_ordinary else run_executed
        ended, out, err = run([*self.command, *words], clean_environment(environ), timeout_s)
        ran = Ran(arguments=words, code=ended, out=out, err=err)
        assert "Traceback" not in ran.out + ran.err, told(ran)
        assert code is None or ran.code == code, told(ran)
        return ran

    def run_all(self, *commands: Sequence[object]) -> list[Ran]:
        """Commands that have nothing to do with each other, as many at a time as there are cores; any exit code."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda words: self.run(*words, code=None), commands))

    def follow(self, *arguments: object, stdout: int | None = subprocess.PIPE) -> "subprocess.Popen[str]":
        """A command left running, in a process group of its own so that a test may interrupt it as a terminal does."""
        running = subprocess.Popen(
            [*self.command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(None),
            cwd="/",
            start_new_session=True,
        )
        self._followers.append(running)
        return running

    def status(self, target: str = "all") -> dict[str, dict[str, Any]]:
        """The rows of `status -o json` by name."""
        return {row["name"]: row for row in self.run("status", target, "-o", "json").json()}

    def bodies(self, target: str) -> str:
        return self.run("signals", target, "--body").out

    # -- the daemon ------------------------------------------------------------------------------------------------------

    def is_up(self) -> bool:
        return self._daemon.is_running()

    def pids(self) -> dict[str, int]:
        """What the daemon says, without the cost of a command: for kills in quick succession."""
        return {report.full_name: report.pid for report in self._daemon.processes() if report.pid}

    def states(self) -> dict[str, str]:
        return {report.full_name: report.state for report in self._daemon.processes()}

    @property
    def daemon_pid(self) -> int:
        return self._daemon.pid()

    def kill(self, name: str) -> int:
        """kill -9 of a running program; returns the process id it had."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_new_pid(self, name: str, old: int) -> int:
        return until(lambda: self._other_pid(name, old), f"a new process for {name}")

    def _other_pid(self, name: str, old: int) -> int | None:
        pid = self.pids().get(name)
        return pid if pid is not None and pid != old else None

    def processes(self) -> dict[int, str]:
        """Every living process that has to do with this home: named on its command line, worked in, or holding a file of it."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                thread = living_thread(folder)
                if thread is None:
                    continue
                command = (thread / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.root) in command or any(map(self._is_ours, (thread / "cwd", *(thread / "fd").iterdir()))):
                    found[int(folder.name)] = command
        return {pid: command for pid, command in found.items() if is_alive(pid)}

    def _is_ours(self, link: Path) -> bool:
        with contextlib.suppress(OSError):
            return link.readlink().is_relative_to(self.root)
        return False

    # -- the end ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Down, and nothing left; what is left is ended here, so that a failing test harms no other."""
        try:
            for running in self._followers:
                if running.poll() is None:
                    running.kill()
                running.communicate()
            self.run("down", code=None)
            left = self.processes()
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.root, ignore_errors=True)
        assert not left, f"processes left after down: {left}"


def until(
    found: Callable[[], T | None],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    instead: Callable[[], str] = lambda: "nothing of it",
) -> T:
    """What `found` returns, as soon as it is something. `instead` tells, of a test that fails, what there is in its place."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        select.select([], [], [], LOOK_INTERVAL_S)
    raise AssertionError(f"expected {what} within {patience_s:g} s, found {instead()}")


def told(ran: Ran) -> str:
    """A command and all it said, for a failing test."""
    return f"strategy-runner {' '.join(ran.arguments)}\nexit code {ran.code}\n{ran.out[-4000:]}\n{ran.err[-4000:]}"


def assert_one_message(ran: Ran, code: int, *words: str) -> None:
    """The command ended with `code`, with nothing on stdout and exactly one message on stderr, which holds all `words`."""
    assert ran.code == code, told(ran)
    assert ran.out == "", told(ran)
    assert sum(line.lower().startswith("error: ") for line in ran.err.splitlines()) == 1, told(ran)
    missing = [word for word in words if word not in ran.err]
    assert not missing, f"not said: {missing}\n{told(ran)}"


def clean_environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """The caller's, without what would change a result, and with a width that no terminal gives."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STRATEGY_RUNNER")}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "CREDENTIALS_DIRECTORY", "PYTHONHASHSEED", "NOTIFY_SOCKET"):
        ours.pop(name, None)
    return {**ours, **(more or {})}
