"""A fleet that stands: one client's workers under the real daemon, from the command that starts them to their end.

The same home, plan and programs run under the warm fork (`start all`) and under supervisord as it comes (`supervise
--stock`). Both are timed from the command on. Ready means: its own status page names the new process and says following.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import Sample
from benchmarks.homes import CLIENT, clean_environment, command, run_command
from strategy_runner.config.home import Home
from strategy_runner.config.spec import Spec, WorkerSpec
from strategy_runner.errors import NotRunningError, StrategyRunnerError, TimeoutExpiredError
from strategy_runner.model.names import FEED_NAME
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.fleet import status_path
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.wishes import Wish, Wishes, write_wishes
from strategy_runner.tape.status import State, Status, read_status

SYMBOLS = 50
# a market that hardly moves: a trade in a hundred seconds for each symbol
QUIET = {
    "STRATEGY_RUNNER__MOCK__SPEED": "1",
    "STRATEGY_RUNNER__MOCK__START": "now",
    "STRATEGY_RUNNER__MOCK__TRADES_PER_S": "0.01",
    "STRATEGY_RUNNER__MOCK__QUOTES_PER_S": "0",
}
# one that does not: of a quote, which nobody reads, in ten days nothing comes on the tape until the market is set to a rate
SILENT = {**QUIET, "STRATEGY_RUNNER__MOCK__TRADES_PER_S": "0", "STRATEGY_RUNNER__MOCK__QUOTES_PER_S": "0.000001"}
PATIENCE_S = 300.0
_READY = (State.FOLLOWING, State.FINISHED)
_LOOK_S = 0.001
_BOOT_LOOK_S = 0.02
_HARDLY_LIVED_S = 1.5  # longer than startsecs in supervision/programs.py


class Fleet:
    """`specs` and `pages` (of status) are by program name; `workers` are the names of those that count."""

    def __init__(self, home: Home, specs: Mapping[str, Spec], workers: list[str]) -> None:
        self.home = home
        self.specs = specs
        self.pages = {name: status_path(spec) for name, spec in specs.items()}
        self.workers = workers
        self.tape = Path(next(spec.market.tape for spec in specs.values() if isinstance(spec, WorkerSpec)))
        self.boot_s = 0.0
        self._daemon = Daemon(home)

    def daemon_pid(self) -> int:
        return self._daemon.pid()

    def status(self, name: str) -> Status:
        status = read_status(self.pages[name])
        assert status is not None, name
        return status

    def pid(self, name: str) -> int:
        return self.status(name).pid

    def stop(self) -> float:
        """Seconds until every process and the daemon have ended."""
        begun = time.perf_counter()
        self._daemon.shutdown(timeout_s=PATIENCE_S)
        return time.perf_counter() - begun

    def set_market(self, trades_per_s: float) -> None:
        """Lets so many trades a second come of each symbol. The feed alone is restarted, and the market must have been SILENT:
        what a market of another rate has made could not be made again."""
        before = self.pid(FEED_NAME)
        market = {**QUIET, "STRATEGY_RUNNER__MOCK__TRADES_PER_S": repr(trades_per_s)}
        run_command(self.home, "apply", environ=market)
        self._await_ready(FEED_NAME, other_than=before)

    def restart_ms(self, kills: int) -> Sample:
        """From kill -9 to ready again, one worker after the other, spread over the fleet; none of them twice nor soon after its
        start, since supervisord pauses before it starts again what has hardly lived."""
        time.sleep(_HARDLY_LIVED_S)
        kills = min(kills, len(self.workers))
        chosen = [self.workers[index * len(self.workers) // kills] for index in range(kills)]
        return Sample.of(self._restart_ms(name) for name in chosen)

    def _restart_ms(self, name: str) -> float:
        killed = self.pid(name)
        begun = time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        self._await_ready(name, other_than=killed)
        return (time.perf_counter() - begun) * 1e3

    def await_first_signals(self) -> None:
        """Until each worker that counts has signalled; by status pages."""
        waiting = list(self.workers)

        def holds() -> bool:
            waiting[:] = [name for name in waiting if not self.status(name).signals]
            return not waiting

        _await(holds, lambda: f"{waiting}: expected a signal of each, found none", _BOOT_LOOK_S)

    def _await_ready(self, name: str, other_than: int) -> None:
        page = self.pages[name]
        _await(lambda: _is_ready(page, other_than), lambda: f"{name}: expected it ready again, found it not", _LOOK_S)


@contextmanager
def running(home: Home, workers: int, *, warm: bool = True, market: Mapping[str, str] = QUIET) -> Iterator[Fleet]:
    """Starts a fleet and waits until it is ready; whatever happens then, it does not outlive the block."""
    wishes = Wishes().with_client(CLIENT, Wish())
    environment = clean_environment(market)
    plan = make_plan(home, wishes, environ=environment)
    specs = {process.name: process.spec for process in plan.processes}
    fleet = Fleet(home, specs, [name for name, spec in specs.items() if isinstance(spec, WorkerSpec)][:workers])
    if warm:
        words = command(home, "start", "all", "--no-wait")
    else:
        home.daemon.mkdir(parents=True)
        write_wishes(home, wishes)
        words = command(home, "supervise", "--stock")
    begun = time.perf_counter()
    starter = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _await_all(list(fleet.pages.values()), starter)
        fleet.boot_s = time.perf_counter() - begun
        yield fleet
    finally:
        _end(home, starter)


def _end(home: Home, starter: "subprocess.Popen[bytes]") -> None:
    """A daemon that is too busy to be asked is killed: its children end with it."""
    daemon = Daemon(home)
    try:
        if daemon.is_running():
            daemon.shutdown(timeout_s=PATIENCE_S)
        elif starter.poll() is None:
            starter.kill()
    except StrategyRunnerError:
        os.kill(int((home.daemon / "lock").read_text()), signal.SIGKILL)
        raise
    finally:
        starter.communicate()


def symbols_for(workers: int) -> list[str]:
    """At most SYMBOLS of them, and no more than there are workers."""
    return [f"S{number:02d}" for number in range(min(SYMBOLS, workers))]


def grid(workers: int, strategy: str) -> tuple[list[str], list[str]]:
    """Symbols, and strategies enough for so many workers; in `strategy` (a table of TOML) `{number}` is replaced."""
    symbols = symbols_for(workers)
    return symbols, [strategy.replace("{number}", str(number)) for number in range(max(1, workers // len(symbols)))]


def _await_all(pages: list[Path], starter: "subprocess.Popen[bytes]") -> None:
    """One page after the other: looking at thousands each time would take the processor from those that start."""

    def holds() -> bool:
        while pages and _is_ready(pages[-1]):
            pages.pop()
        if starter.poll():
            assert starter.stderr is not None
            raise NotRunningError(f"the fleet did not start: {starter.stderr.read().decode(errors='replace')}")
        return not pages

    _await(holds, lambda: f"{len(pages)} processes: expected them ready, found {pages[-1]} not", _BOOT_LOOK_S)


def _await(holds: Callable[[], bool], problem: Callable[[], str], every_s: float) -> None:
    """Looks at status pages of other processes: nothing rings for them."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(f"{problem()} within {PATIENCE_S:g} s")
        time.sleep(every_s)


def _is_ready(page: Path, other_than: int = 0) -> bool:
    status = read_status(page)
    return status is not None and status.state in _READY and status.pid not in (0, other_than)
