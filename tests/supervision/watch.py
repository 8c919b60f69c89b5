"""A watchdog for the tests, with real processes to watch and time in the test's hand."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from fleet_home import until
from worker.build import worker_spec
from worker.processes import is_alive

from strategy_runner.config.spec import LimitsSpec, Spec, WatchdogSpec, WorkerSpec, write_spec
from strategy_runner.supervision.conditions import Action, read_conditions
from strategy_runner.supervision.watchdog.agent import Watchdog
from strategy_runner.supervision.watchdog.process import read_stat
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.status import StatusFile, read_status

CHILD = Path(__file__).with_name("watched_child.py")
STEP_S = 0.5


class Watch:
    """Every child is a process of this one, which stands for the daemon unless another one is named. `pass_time` moves the
    watchdog's clock and looks."""

    def __init__(self, root: Path, daemon: int | None = None, **changes: Any) -> None:
        self.root = root
        self.now = 1_000.0
        self.spec = WatchdogSpec(
            home=str(root),
            specs=str(root / "specs"),
            look_interval_s=STEP_S,
            hang_s=5.0,
            start_s=60.0,
            log_limit_mb=1.0,
            feed_stale_s=5.0,
            symbol_stale_s=60.0,
            trading_hours={},
            folder=str(root / "monitor"),
            log="",
            log_level="info",
        )
        self.spec = msgspec.structs.replace(self.spec, **changes)
        (root / "specs").mkdir()
        self.children: list[subprocess.Popen[bytes]] = []
        self.status = StatusFile(root / "monitor" / "status")
        daemon = daemon or os.getpid()
        self.agent = Watchdog(self.spec, daemon=daemon, status=self.status, clock=lambda: self.now)

    def add(self, name: str, **changes: Any) -> WorkerSpec:
        """The spec of a worker acme:NAME, where the watchdog finds it."""
        limits = LimitsSpec(memory_limit_mb=1024, cpu_limit=8.0)
        folder, log = self.root / name, self.root / f"{name}.log"
        spec = worker_spec(self.root, **{"folder": str(folder), "log": str(log), "limits": limits, **changes})
        self.write(f"acme/{name}", spec)
        return spec

    def write(self, name: str, spec: Spec) -> None:
        write_spec(self.root / "specs" / f"{name}.json", spec)

    def begin(self, name: str, behaviour: str, state: str = "FOLLOWING") -> int:
        """A process of that worker, once its page says that it is there."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        command = [sys.executable, str(CHILD), str(folder), behaviour, state]
        child = subprocess.Popen(command, process_group=0)
        self.children.append(child)
        # its page says what the behaviour means
        until(lambda: (page := read_status(folder / "status")) is not None and page.pid == child.pid)
        if behaviour in ("hang", "spin", "work"):
            until(lambda: (page := read_status(folder / "status")) is not None and page.applying > 0)
        if behaviour.startswith("fork"):
            until(lambda: (folder / "child").exists() and (folder / "child").read_text())
        return child.pid

    def worker(self, name: str, behaviour: str, state: str = "FOLLOWING", **changes: Any) -> int:
        self.add(name, **changes)
        return self.begin(name, behaviour, state)

    def look(self) -> None:
        self.agent.turn()

    def pass_time(self, seconds: float) -> None:
        """In steps of a look, as the loop would."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + STEP_S)
            self.look()

    def pass_time_with_beats(self, seconds: float, *names: str) -> None:
        """As above, but each of these processes writes its page in between."""
        for _ in range(round(seconds / STEP_S)):
            before = {name: self.beat_ns(name) for name in names}
            until(lambda before=before: all(self.beat_ns(name) != beat for name, beat in before.items()))
            self.pass_time(STEP_S)

    def beat_ns(self, name: str) -> int:
        page = read_status(self.root / name / "status")
        assert page is not None
        return page.beat_ns

    def actions(self) -> list[Action]:
        return [msgspec.msgpack.decode(one, type=Action) for one in read_log(self.root / "monitor" / "actions.log")]

    def deeds(self) -> list[tuple[str, str]]:
        return [(one.name, one.action) for one in self.actions()]

    def conditions(self, name: str) -> dict[str, str]:
        """Reason by kind."""
        return {one.kind: one.reason for one in read_conditions(self.root / "monitor").get(name, [])}

    def close(self) -> None:
        self.agent.stop()
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 9)
            child.wait()


def is_gone(pid: int) -> bool:
    """Ended, whether it was waited for or not."""
    return not is_alive(pid)


def cpu_s(pid: int) -> float:
    stat = read_stat(pid)
    return stat.cpu_s if stat is not None else 0.0
