"""A home under faults: three clients, two of them with orders, the real daemon with the warm fork, and a watched disk.

The harness is what systemd is to the daemon: it starts it again. Wishes, specs and configuration are the product's own;
only the entry of the programs is another one (entry.py), and `startsecs` is 0, or supervisord would pause after each kill
that comes within a second of the last.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from faults.clock import make_clock
from faults.disk import KEPT, LEDGER
from faults.entry import BOOT, BROKEN_VARIABLE, FOLDER_VARIABLE, MARKET_VARIABLE
from faults.strategies import ECHO, TALLY
from worker.processes import living_thread

from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, PaperOmsSpec, RouterSpec, WorkerSpec
from strategy_runner.errors import NotRunningError, StrategyRunnerError
from strategy_runner.model.names import FEED_NAME
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.layout import init_home
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.programs import write_configuration
from strategy_runner.supervision.steering import prepare
from strategy_runner.supervision.wishes import Wish, Wishes, write_wishes
from strategy_runner.supervision.written import as_written
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.status import State, read_status

MEMORY = Path("/dev/shm")
ENTRY = "faults.entry"
TESTS = Path(__file__).parents[1]
PATIENCE_S = 90.0
LOOK_S = 0.005
SEGMENT_RECORDS = 2_048
T = TypeVar("T")

ENVIRONMENT = """
environment = "local-dev"
mode = "mock"
routes = ["quantconnect"]

[limits]
crash_limit = 999

[tape]
segment_records = {segment_records}
durable_interval_ms = 60.0
reserve_mb = 1.0

[feed]
beat_interval_s = 0.1

[mock]
seed = {seed}
speed = {speed}
start = "2026-01-05T00:00:00Z"
trades_per_s = 2.0
quotes_per_s = 0.5
"""
INSTRUMENT = """
[instruments.{symbol}]
asset_class = "crypto"
price = 100.0
tick_size = 0.01
lot_size = 0.0001
"""
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
CLIENT = """
[accounts]
BTC-USD = { venue = "test", account = "main" }
ETH-USD = { venue = "test", account = "main" }
SOL-USD = { venue = "test", account = "main" }
"""
# a client whose orders the paper OMS fills, in part at a time
TRADING = """
routes = ["oms", "quantconnect"]

[risk]
max_position_notional = 20_000.0
max_open_orders = 60

[paper]
latency_ms = 20
participation = 0.5
fees = { maker = 0.0002, taker = 0.0005, minimum = 0.05 }
"""
ECHO_STRATEGY = """
[[strategies]]
id = "echo"
strategy = "echo"
symbols = ["SYMBOL"]
timeframe = "1s"
"""
TALLIES = """
[[strategies]]
id = "tally"
strategy = "tally"
symbols = [SYMBOLS]
timeframe = "1s"
params = { one_in = ONE_IN }
"""
CROSS = """
[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "1s"
time_to_live_s = 1.0
stop_loss_fraction = 0.002
take_profit_fraction = 0.003
params = { fast = 2, slow = 3 }
"""
LOW = """
[[strategies]]
id = "low"
strategy = "swing_low"
symbols = ["ETH-USD"]
timeframe = "1s"
models = [{ id = "one", confidence_threshold = 0.5, lookback_window = 5, weight = 1.0 }]
params = { lookback_bars = 2, exit_after_bars = 2 }
"""
MOCK_SPEED = 150.0


def _tallies(one_in: int, *symbols: str) -> str:
    listed = ", ".join(f'"{symbol}"' for symbol in symbols)
    return TALLIES.replace("SYMBOLS", listed).replace("ONE_IN", str(one_in))


def _echo(symbol: str) -> str:
    return ECHO_STRATEGY.replace("SYMBOL", symbol)


CLIENTS = {
    "ann": TRADING + CLIENT + _tallies(32, "BTC-USD", "ETH-USD") + CROSS + _echo("SOL-USD"),
    "bob": TRADING + CLIENT + _tallies(24, "ETH-USD") + LOW + _echo("BTC-USD"),
    "cat": CLIENT + _tallies(24, "BTC-USD", "SOL-USD"),
}


class FaultyHome:
    """A home in memory where that is possible, so that many runs wear out no disk, else in /tmp.

    `close` ends whatever runs in it; `keep` leaves the files behind.
    """

    def __init__(self, *, seed: int, per_s: float = 0.0, broken: str = "") -> None:
        """`per_s` is of the restless market for each symbol; 0 is the mock market, which gives lost records again."""
        self.root = Path(tempfile.mkdtemp(prefix="srf", dir=MEMORY if MEMORY.is_dir() else "/tmp"))
        self.home = Home(self.root)
        self.watched = self.root / "watched"
        (self.watched / KEPT).mkdir(parents=True)
        (self.watched / BOOT).write_text("boot 1\n")
        (self.watched / LEDGER).touch()
        make_clock(self.watched)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STRATEGY_RUNNER")},
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
            FOLDER_VARIABLE: str(self.watched),
            **({MARKET_VARIABLE: str(per_s)} if per_s else {}),
            **({BROKEN_VARIABLE: broken} if broken else {}),
        }
        self._write_files(seed)

    def _write_files(self, seed: int) -> None:
        init_home(self.root)
        shutil.rmtree(self.home.clients)
        settings = ENVIRONMENT.format(segment_records=SEGMENT_RECORDS, seed=seed % 2**32, speed=MOCK_SPEED)
        instruments = [INSTRUMENT.format(symbol=symbol) for symbol in SYMBOLS]
        self.home.environment_config("local-dev").write_text("".join([settings, *instruments]))
        for client, text in CLIENTS.items():
            strategies = self.home.client_strategies(client)
            strategies.mkdir(parents=True)
            (strategies / "tally.py").write_text(TALLY)
            (strategies / "echo.py").write_text(ECHO)
            self.home.client_config(client).write_text(text)
        self.home.daemon.mkdir(parents=True)
        write_wishes(self.home, Wishes(clients={client: Wish() for client in CLIENTS}))
        prepare(self.home, {})
        programs = [msgspec.structs.replace(program, startsecs=0) for program in self.plan.programs(self.home)]
        write_configuration(self.home, programs, entry=ENTRY)

    # -- what there is ---------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        return as_written(self.home)

    @property
    def workers(self) -> list[WorkerSpec]:
        return [process.spec for process in self.plan.processes if isinstance(process.spec, WorkerSpec)]

    @property
    def routers(self) -> list[RouterSpec]:
        return [process.spec for process in self.plan.processes if isinstance(process.spec, RouterSpec)]

    @property
    def feed(self) -> FeedSpec:
        return next(process.spec for process in self.plan.processes if isinstance(process.spec, FeedSpec))

    @property
    def oms(self) -> PaperOmsSpec:
        return next(process.spec for process in self.plan.processes if isinstance(process.spec, PaperOmsSpec))

    @property
    def books(self) -> Path:
        """The paper OMS's, by client."""
        return self.home.oms("mock")

    @property
    def tape(self) -> Path:
        return Path(self.feed.market.tape)

    def published(self) -> int | None:
        """How many records the tape has; None while no feed has it open."""
        feed = read_status(Path(self.feed.folder) / "status")
        if feed is None or feed.state is not State.FOLLOWING or feed.pid != self.pids().get(FEED_NAME):
            return None
        return Head(head_path(self.tape)).count

    def decided(self) -> int:
        """How many decisions there are, of all clients; what a router of another life says does not count."""
        pids = set(self.pids().values())
        pages = [read_status(Path(router.folder) / "status") for router in self.routers]
        return sum(page.position for page in pages if page is not None and page.pid in pids)

    # -- processes -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the daemon, and returns when it answers."""
        command = [
            sys.executable,
            "-m",
            "strategy_runner.supervision.daemon",
            "--home",
            str(self.root),
            "--entry",
            ENTRY,
        ]
        with (self.home.daemon / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ, start_new_session=True
            )
        until(self._answers, "an answer from the daemon")

    def _answers(self) -> bool:
        assert self.daemon is not None
        code = self.daemon.poll()
        if code is not None:
            raise Stuck(f"the daemon ended with {code}: {self.daemon_log()}")
        return Daemon(self.home).is_running()

    def daemon_log(self) -> str:
        return (self.home.daemon / "daemon.log").read_text()[-2000:]

    def last_errors(self) -> list[str]:
        """The last line of each program's log, if it tells of an error."""
        lines = []
        for log in sorted((self.home.var / "logs").rglob("*.log")):
            last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
            if " ERROR " in last or "Error" in last:
                lines.append(f"{log.parent.name}:{log.stem}: {last}")
        return lines

    def pids(self) -> dict[str, int]:
        """Running programs by name, and nothing while the daemon does not answer."""
        try:
            return {report.full_name: report.pid for report in Daemon(self.home).processes(2.0) if report.pid}
        except StrategyRunnerError:
            return {}

    def states(self) -> dict[str, str]:
        try:
            return {report.full_name: report.state for report in Daemon(self.home).processes(2.0)}
        except NotRunningError:
            return {}

    def zygote(self) -> int | None:
        """Its process id, by what stands on its command line."""
        assert self.daemon is not None
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"strategy_runner.supervision.zygote" in words and _parent(folder) == self.daemon.pid:
                    return int(folder.name)
        return None

    def kill_all(self) -> None:
        """Everything at once, as a power cut does: the daemon first, and with it the kernel kills what it is parent of."""
        assert self.daemon is not None
        pids = [*self.pids().values(), self.zygote()]
        self.daemon.kill()
        for pid in pids:
            if pid is not None:
                send(pid, signal.SIGKILL)
        self.daemon.wait()
        until(lambda: not self.processes(), "the end of all processes")

    def stop(self) -> None:
        """A clean stop of everything."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait(PATIENCE_S)
        until(lambda: not self.processes(), "the end of all processes")

    def processes(self) -> list[int]:
        """Every living process that was started in this home: the environment says so, whatever its command line says."""
        mark, found = f"{FOLDER_VARIABLE}={self.watched}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                thread = living_thread(folder)
                if thread is not None and mark in (thread / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def close(self, *, keep: bool = False) -> None:
        for pid in self.processes():
            send(pid, signal.SIGKILL)
        if self.daemon is not None:
            self.daemon.wait()
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)


def position_of(worker: WorkerSpec) -> int | None:
    status = read_status(Path(worker.folder) / "status")
    followed = status is not None and status.state in (State.FOLLOWING, State.FINISHED)
    return status.position if status is not None and followed else None


def signals_of(worker: WorkerSpec) -> Iterator[bytes]:
    return read_log(Path(worker.folder) / "signals.log")


def is_done(router: RouterSpec, signals: int) -> bool:
    status = read_status(Path(router.folder) / "status")
    return status is not None and status.position >= signals and status.progress == status.position


def send(pid: int, number: signal.Signals) -> bool:
    """Whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Stuck(Exception):  # noqa: N818  what the home is
    """What must happen by itself after faults did not happen."""


def until(found: Callable[[], T | None], what: str) -> T:
    """What `found` returns, as soon as it is something. Raises Stuck after PATIENCE_S."""
    patience_s = PATIENCE_S
    deadline = time.monotonic() + patience_s
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise Stuck(f"expected within {patience_s:g} s: {what}")
        time.sleep(LOOK_S)
    return answer


def _parent(folder: Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
