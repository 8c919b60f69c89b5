"""One fleet under one supervisor, from its start to its stop: what density, boot, restart and idle measure.

The same home, plan and programs run under the warm fork (`start all`) and under supervisord as it comes (`supervise
--stock`). Both are timed from the command on. Ready means: its own status page names the new process and says following.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec

from benchmarks.common import Sample, Settings, talk
from benchmarks.homes import CLIENT, bench_home, clean_environment, command
from benchmarks.processes import children, processor_s, pss_mb
from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import NotRunningError, TimeoutExpiredError
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.fleet import status_path
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.wishes import Wish, Wishes, write_wishes
from strategy_runner.tape.status import State, read_status

SYMBOLS = 50
# a market that hardly moves: a trade in a hundred seconds for each symbol
_QUIET = {
    "STRATEGY_RUNNER__MOCK__SPEED": "1",
    "STRATEGY_RUNNER__MOCK__START": "now",
    "STRATEGY_RUNNER__MOCK__TRADES_PER_S": "0.01",
    "STRATEGY_RUNNER__MOCK__QUOTES_PER_S": "0",
}
_READY = (State.FOLLOWING, State.FINISHED)
_PATIENCE_S = 300.0
_LOOK_S = 0.001
_BOOT_LOOK_S = 0.02


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Proportional set sizes in MB; `zygote` is 0 where there is none."""

    workers: Sample
    feed: float
    router: float
    daemon: float
    zygote: float

    @property
    def fleet(self) -> float:
        return sum(self.workers.values) + self.feed + self.router + self.daemon + self.zygote


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one supervisor's fleet showed. None is what was not asked for."""

    boot_s: Sample
    stop_s: Sample
    memory: Memory | None
    restart_ms: Sample | None
    fleet_cpu_percent: float | None
    daemon_cpu_percent: float | None


@cache
def measure(settings: Settings, *, warm: bool) -> Measured:
    """Runs the fleet as often as `settings.runs` says; what needs a fleet that stands is measured on the last."""
    boots, stops = [], []
    again = settings.runs if "boot" in settings.names else 1
    for left in reversed(range(again)):
        with bench_home(*_client(settings.workers)) as home, _running(home, settings.workers, warm=warm) as fleet:
            talk(f"  {'warm fork' if warm else 'stock'}: {settings.workers} workers ready in {fleet.boot_s:.1f} s")
            boots.append(fleet.boot_s)
            if left:
                stops.append(fleet.stop())
                continue
            if settings.names & {"idle", "density"}:
                time.sleep(settings.settle_s)
            cpu = fleet.cpu_percent(settings.idle_s) if "idle" in settings.names else (None, None)
            memory = fleet.memory() if "density" in settings.names else None
            restart = fleet.restart_ms(settings.kills) if "restart" in settings.names else None
            stops.append(fleet.stop())
    return Measured(
        boot_s=Sample.of(boots),
        stop_s=Sample.of(stops),
        memory=memory,
        restart_ms=restart,
        fleet_cpu_percent=cpu[0],
        daemon_cpu_percent=cpu[1],
    )


class _Fleet:
    """A fleet that stands. `pages` are the status pages by program name."""

    def __init__(self, home: Home, pages: dict[str, Path], workers: list[str], boot_s: float) -> None:
        self.boot_s = boot_s
        self._daemon = Daemon(home)
        self._pages = pages
        self._workers = workers

    def stop(self) -> float:
        """Seconds until every process and the daemon have ended."""
        begun = time.perf_counter()
        self._daemon.shutdown()
        return time.perf_counter() - begun

    def memory(self) -> Memory:
        daemon = self._daemon.pid()
        pids = {name: self._pid(name) for name in self._pages}
        others = [pid for pid in children(daemon) if pid not in pids.values()]
        return Memory(
            workers=Sample.of(pss_mb(pids[name]) for name in self._workers),
            feed=pss_mb(pids["market:feed"]),
            router=pss_mb(pids[f"{CLIENT}:router"]),
            daemon=pss_mb(daemon),
            zygote=sum(pss_mb(pid) for pid in others),
        )

    def cpu_percent(self, seconds: float) -> tuple[float, float]:
        """Per cent of one core over a window in which nothing happens: the whole fleet, and the daemon alone."""
        daemon = self._daemon.pid()
        pids = [daemon, *children(daemon)]
        begun, fleet, alone = time.perf_counter(), processor_s(pids), processor_s([daemon])
        time.sleep(seconds)
        fleet, alone = processor_s(pids) - fleet, processor_s([daemon]) - alone
        elapsed = time.perf_counter() - begun
        return 100.0 * fleet / elapsed, 100.0 * alone / elapsed

    def restart_ms(self, kills: int) -> Sample:
        """From kill -9 to ready again, one worker after the other, spread over the fleet."""
        chosen = [self._workers[index * len(self._workers) // kills] for index in range(kills)]
        return Sample.of(self._restart_ms(name) for name in chosen)

    def _restart_ms(self, name: str) -> float:
        killed = self._pid(name)
        begun = time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        while not _is_ready(self._pages[name], other_than=killed):
            if time.perf_counter() - begun > _PATIENCE_S:
                raise TimeoutExpiredError(f"{name}: expected it ready again within {_PATIENCE_S:g} s, found it not")
            time.sleep(_LOOK_S)
        return (time.perf_counter() - begun) * 1e3

    def _pid(self, name: str) -> int:
        status = read_status(self._pages[name])
        assert status is not None, name
        return status.pid


@contextmanager
def _running(home: Home, workers: int, *, warm: bool) -> Iterator[_Fleet]:
    """Starts a fleet and waits until it is ready; whatever happens then, it does not outlive the block."""
    wishes = Wishes().with_client(CLIENT, Wish())
    environment = clean_environment(_QUIET)
    plan = make_plan(home, wishes, environ=environment)
    pages = {process.name: status_path(process.spec) for process in plan.processes}
    names = [process.name for process in plan.processes if isinstance(process.spec, WorkerSpec)][:workers]
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
        _await_all(list(pages.values()), starter)
        yield _Fleet(home, pages, names, time.perf_counter() - begun)
    finally:
        daemon = Daemon(home)
        if daemon.is_running():
            daemon.shutdown()
        elif starter.poll() is None:
            starter.kill()
        starter.communicate()


def _await_all(pages: list[Path], starter: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while pages:
        pages = [page for page in pages if not _is_ready(page)]
        if starter.poll():
            assert starter.stderr is not None
            raise NotRunningError(f"the fleet did not start: {starter.stderr.read().decode(errors='replace')}")
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(f"{len(pages)} processes not ready within {_PATIENCE_S:g} s, one is {pages[0]}")
        time.sleep(_BOOT_LOOK_S)


def _is_ready(page: Path, other_than: int = 0) -> bool:
    status = read_status(page)
    return status is not None and status.state in _READY and status.pid not in (0, other_than)


def _client(workers: int) -> tuple[list[str], list[str]]:
    """Symbols, at most 50, and strategies enough for so many workers."""
    symbols = [f"S{number:02d}" for number in range(min(SYMBOLS, workers))]
    strategies = [
        f'id = "ma{number}"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"'
        for number in range(max(1, workers // len(symbols)))
    ]
    return symbols, strategies
