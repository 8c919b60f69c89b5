"""A home folder with tiny programs and a real daemon, for the tests: programs ring a bell, so that nothing has to sleep."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from worker.processes import is_alive

from strategy_runner.config.home import Home
from strategy_runner.supervision.background import spawn_background
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.programs import Kind, Program, write_configuration
from strategy_runner.supervision.reports import ProcessReport

REPOSITORY = Path(__file__).parents[2]
ENTRY = "fleet_child"
PATIENCE_S = 30.0
T = TypeVar("T")


class FleetHome:
    def __init__(self) -> None:
        # socket paths are short: not below pytest's own folders
        self.root = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
        self.home = Home(self.root)
        shutil.copytree(REPOSITORY / "supervisor", self.home.templates)
        self.daemon = Daemon(self.home)
        self.bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.bell.settimeout(PATIENCE_S)
        self.bell.bind(str(self.root / "bell"))
        self.heard: list[tuple[str, str, int]] = []
        self._daemons: list[int] = []

    def program(
        self,
        name: str,
        behaviour: str = "serve",
        *,
        group: str = "ikenna",
        kind: Kind = "worker",
        digest: str = "1",
        startsecs: int = 0,
        startretries: int = 1,
        stopwaitsecs: int = 10,
    ) -> Program:
        spec = self.root / f"{group}.{name}.json"
        report = str(self.root / f"{name}.report")
        spec.write_text(
            json.dumps({"name": name, "bell": str(self.root / "bell"), "behaviour": behaviour, "report": report})
        )
        return Program(
            group=group,
            name=name,
            kind=kind,
            spec=spec,
            digest=digest,
            log=self.home.log(f"{group}:{name}"),
            startsecs=startsecs,
            startretries=startretries,
            stopwaitsecs=stopwaitsecs,
        )

    def write(self, *programs: Program) -> Path:
        return write_configuration(self.home, programs, entry=ENTRY)

    def start(self, *programs: Program) -> int:
        self.write(*programs)
        return self.start_daemon()

    def start_daemon(self) -> int:
        pid = spawn_background(self.home, ["--entry", ENTRY], timeout_s=PATIENCE_S)
        self._daemons.append(pid)
        return pid

    def await_word(self, word: str, names: Iterable[str]) -> dict[str, int]:
        """Listen until every one of `names` has said `word` (since the last call), and return their process ids."""
        deadline = time.monotonic() + PATIENCE_S
        missing = set(names)
        pids: dict[str, int] = {}
        while missing:
            assert time.monotonic() < deadline, f"not {word} within {PATIENCE_S} s: {missing}"
            said, name, pid = json.loads(self.bell.recv(4096))
            self.heard.append((said, name, pid))
            if said == word and name in missing:
                missing.discard(name)
                pids[name] = pid
        return pids

    def await_started(self, *names: str) -> dict[str, int]:
        return self.await_word("started", names)

    def await_state(self, name: str, state: str) -> ProcessReport:
        return until(
            lambda: next((one for one in self.daemon.processes() if (one.name, one.state) == (name, state)), None)
        )

    def pids(self) -> dict[str, int]:
        return {one.name: one.pid for one in self.daemon.processes()}

    def close(self) -> None:
        for pid in self._daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for _, _, pid in self.heard:
            if is_alive(pid):
                await_end(pid)
        self.bell.close()
        shutil.rmtree(self.root)


def until(found: Callable[[], T | None]) -> T:
    """What `found` returns, as soon as it is something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        select.select([], [], [], 0.01)
    raise AssertionError(f"not found within {PATIENCE_S} s")


def await_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        ended, _, _ = select.select([watched], [], [], PATIENCE_S)
        os.close(watched)
        assert ended, f"process {pid} still runs"
