"""Real processes of the product in tests: started from a spec file, killed when the test ends whatever happened."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strategy_runner.config.spec import Spec, write_spec

PATIENCE_S = 30.0
_LOOK_S = 0.005


class Processes:
    """Processes by name; their output goes to FOLDER/NAME.log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, spec: Spec) -> "subprocess.Popen[bytes]":
        path = self._folder / f"{name}.json"
        write_spec(path, spec)
        with (self._folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "strategy_runner.assembly", str(path)], stdout=log, stderr=log, cwd="/"
            )
        self._running.append(started)
        return started

    def output(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@contextmanager
def processes_in(folder: Path) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        yield processes
    finally:
        processes.end()


def await_that(condition: Callable[[], object], what: str) -> None:
    """Looks until it holds. Fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"expected within {PATIENCE_S:g} s: {what}"
        time.sleep(_LOOK_S)


def is_alive(pid: int) -> bool:
    """A zombie has ended, and has only not been waited for."""
    return living_thread(Path(f"/proc/{pid}")) is not None


def living_thread(process: Path) -> Path | None:
    """Where /proc tells of a process: in the folder of its first thread, and if that has ended in that of another. While one is
    left, a process that was killed holds its files and locks."""
    try:
        threads = sorted((process / "task").iterdir(), key=lambda thread: thread.name != process.name)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((thread for thread in threads if _state(thread) not in "ZX"), None)


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
