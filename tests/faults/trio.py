"""Three processes and no daemon: a feed of a short mock market, one worker, its router. For faults at exact steps."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from faults.crash import STEP_VARIABLE
from faults.home import ENTRY, PATIENCE_S, FaultyHome, Stuck, is_done, position_of, signals_of, until
from faults.oracle import Verdict, judge

from strategy_runner.config.spec import FeedSpec, RouterSpec, Spec, WorkerSpec, write_spec
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.status import State, read_status

ROLES = ("feed", "worker", "router")
LIVES_MAX = 5


class Trio:
    """The processes by role. One that ends before its time is started again, as supervisord would; `lives` counts them."""

    def __init__(self, home: FaultyHome, *, records: int, speed: float = 0.0) -> None:
        self.home = home
        worker = next(spec for spec in home.workers if spec.key.name == "ann:tally.BTC-USD")
        router = next(spec for spec in home.routers if spec.client == "ann")
        assert home.feed.mock is not None
        mock = msgspec.structs.replace(home.feed.mock, records=records, speed=speed)
        self.worker = msgspec.structs.replace(worker, from_start=True)
        self.router = msgspec.structs.replace(router, workers=(worker.key.folder,))
        self.feed = msgspec.structs.replace(home.feed, mock=mock, streams=worker.streams)
        self.lives = dict.fromkeys(ROLES, 0)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        home.home.sockets.mkdir(parents=True, exist_ok=True)

    def start(self, role: str, *, step: str = "") -> int:
        """Its process id. `step` is where it meets a fault (crash.py)."""
        specs: dict[str, Spec] = {"feed": self.feed, "worker": self.worker, "router": self.router}
        path = self.home.root / f"{role}.json"
        write_spec(path, specs[role])
        environ = {**self.home.environ, "PYTHONHASHSEED": "0", **({STEP_VARIABLE: step} if step else {})}
        with self.log(role).open("ab") as log:
            self._running[role] = subprocess.Popen(
                [sys.executable, "-m", ENTRY, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )
        self.lives[role] += 1
        return self._running[role].pid

    def pid(self, role: str) -> int:
        return self._running[role].pid

    def log(self, role: str) -> Path:
        return self.home.root / f"{role}.log"

    def run_to_the_end(self) -> Verdict:
        """Until all is read, decided and delivered; then a clean stop and the oracle's word. Raises Stuck."""
        self._await_end()
        while any(self._stop(role) for role in ("worker", "router", "feed")):
            self._start_the_dead()  # the step lay in the stop
            self._await_end()
        return judge([self.worker], [self.router])

    def is_done(self) -> bool:
        specs: dict[str, FeedSpec | WorkerSpec | RouterSpec] = {
            "feed": self.feed,
            "worker": self.worker,
            "router": self.router,
        }
        pages = {role: read_status(Path(spec.folder) / "status") for role, spec in specs.items()}
        feed = pages["feed"]
        if any(page is None or page.pid != self.pid(role) for role, page in pages.items()):
            return False  # a page of an earlier life
        if feed is None or feed.state is not State.FINISHED:
            return False
        if position_of(self.worker) != Head(head_path(Path(self.feed.market.tape))).count:
            return False
        return is_done(self.router, sum(1 for _ in signals_of(self.worker)))

    def await_following(self) -> None:
        until(lambda: position_of(self.worker) is not None, "a worker that follows")

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def _await_end(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_done():
            self._start_the_dead()
            if time.monotonic() > deadline:
                raise Stuck(f"expected an end within {PATIENCE_S:g} s, found {self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> dict[str, str]:
        return {role: self.log(role).read_text()[-600:] for role in ROLES}

    def _stop(self, role: str) -> int:
        self._running[role].send_signal(signal.SIGTERM)
        return self._running[role].wait(PATIENCE_S)

    def _start_the_dead(self) -> None:
        for role, process in list(self._running.items()):
            if process.poll() is not None:
                if self.lives[role] > LIVES_MAX:
                    raise Stuck(f"{role} ended {LIVES_MAX} times, now with {process.returncode}: {self._last_words()}")
                self.start(role)
