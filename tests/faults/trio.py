"""A few processes and no daemon: a feed of a short mock market, one worker, its router, and the paper OMS for a client whose
orders go there. For faults at exact steps.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from faults.crash import STEP_VARIABLE
from faults.home import ENTRY, PATIENCE_S, FaultyHome, Stuck, position_of, until
from faults.oracle import judge
from faults.settling import restless
from faults.verdict import Verdict

from strategy_runner.config.spec import Spec, write_spec
from strategy_runner.supervision.plan_oms import only_clients
from strategy_runner.tape.status import State, read_status

LIVES_MAX = 5
TRADED_SPEED = 200.0  # a market that goes on while orders are on their way


class Trio:
    """The processes by role. One that ends before its time is started again, as supervisord would; `lives` counts them.

    Of a client without orders, or, if it is traded, of one whose orders are filled on paper.
    """

    def __init__(self, home: FaultyHome, *, records: int, speed: float = 0.0, traded: bool = False) -> None:
        self.home = home
        name = "ann:echo.SOL-USD" if traded else "cat:tally.BTC-USD"
        worker = next(spec for spec in home.workers if spec.key.name == name)
        router = next(spec for spec in home.routers if spec.client == worker.client)
        assert home.feed.mock is not None
        mock = msgspec.structs.replace(home.feed.mock, records=records, speed=TRADED_SPEED if traded else speed)
        self.worker = msgspec.structs.replace(worker, from_start=True)
        self.router = msgspec.structs.replace(router, workers=(worker.key.folder,))
        self.feed = msgspec.structs.replace(home.feed, mock=mock, streams=worker.streams)
        self._specs: dict[str, Spec] = {"feed": self.feed, "worker": self.worker, "router": self.router}
        if traded:
            self._specs["oms"] = only_clients(home.oms, {worker.client: None})
        self.roles = tuple(self._specs)
        self.lives = dict.fromkeys(self.roles, 0)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        home.home.sockets.mkdir(parents=True, exist_ok=True)

    def start_all(self, role: str = "", step: str = "") -> None:
        """The feed last, when the others wait for its tape or have met their fault: a short market is over soon."""
        for each in (*(one for one in self.roles if one != "feed"), "feed"):
            self.start(each, step=step if each == role else "")
            lock, process = Path(self._specs[each].folder) / "lock", self._running[each]
            until(lambda lock=lock, process=process: lock.exists() or process.poll() is not None, f"{each} at work")  # type: ignore[misc]

    def start(self, role: str, *, step: str = "") -> int:
        """Its process id. `step` is where it meets a fault (crash.py)."""
        path = self.home.root / f"{role}.json"
        write_spec(path, self._specs[role])
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
        while any(self._stop(role) for role in ("worker", "router", "oms", "feed") if role in self._running):
            self._start_the_dead()  # the step lay in the stop
            self._await_end()
        return judge([self.worker], [self.router], self.home.books)

    def moving(self) -> str:
        """What has not come to its end yet; "" if all has."""
        pages = {role: read_status(Path(self._specs[role].folder) / "status") for role in self.roles}
        for role, page in pages.items():
            if page is None or page.pid != self.pid(role):
                return f"{role}, with the page of an earlier life"
        feed = pages["feed"]
        if feed is None or feed.state is not State.FINISHED:
            return "the market"
        return restless([self.worker], [self.router], Path(self.feed.market.tape), self.home.books)

    def await_following(self) -> None:
        until(lambda: position_of(self.worker) is not None, "a worker that follows")

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def _await_end(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while moving := self.moving():
            self._start_the_dead()
            if time.monotonic() > deadline:
                raise Stuck(f"expected an end within {PATIENCE_S:g} s, found {moving}: {self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> dict[str, str]:
        return {role: self.log(role).read_text()[-600:] for role in self.roles}

    def _stop(self, role: str) -> int:
        self._running[role].send_signal(signal.SIGTERM)
        return self._running[role].wait(PATIENCE_S)

    def _start_the_dead(self) -> None:
        for role, process in list(self._running.items()):
            if process.poll() is not None:
                if self.lives[role] > LIVES_MAX:
                    raise Stuck(f"{role} ended {LIVES_MAX} times, now with {process.returncode}: {self._last_words()}")
                self.start(role)
