"""Puts a process together from its spec and runs it. The mode is decided here, once; nothing below asks for it again.

python -m strategy_runner.assembly SPEC.json     what supervisord runs; under the warm fork it is a function call
"""

import glob
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import msgspec

from strategy_runner.bus.context import Context, new_context
from strategy_runner.bus.doorbell import SignalDoorbell, SignalListener, StreamDoorbell, StreamListener
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.bus.request import RequestServer
from strategy_runner.config.spec import FeedSpec, RouterSpec, Spec, WorkerSpec, read_spec
from strategy_runner.errors import LockedError, NotRunningError, SafetyRefusal, StrategyRunnerError
from strategy_runner.feed.feed import Feed
from strategy_runner.feed.sources.interface import Source
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.router import Router
from strategy_runner.router.sql import SqlService
from strategy_runner.sinks.interface import DeadLetter
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.logs import AppendLog
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile, read_status
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.follower import Follower
from strategy_runner.worker.strategy import make_strategy

if TYPE_CHECKING:
    from strategy_runner.sinks.duckdb_sink import DuckDbSink

LOG_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TAPE_WAIT_S = 30.0
SPEC_LOOK_S = 0.2
DUCKDB_PAUSE_S = 0.25
_NO_GATE = 1 << 62

log = logging.getLogger(__name__)


class Agent(Protocol):
    """What the one loop drives: bounded turns that return the work they did, and a wait for when there was none."""

    def turn(self) -> int: ...

    def wait(self) -> None: ...

    def stop(self) -> None: ...


class StopFlag:
    """Set by SIGTERM or SIGINT. The signal handler does nothing else, except to end a wait that is going on."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiting = False
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def __call__(self) -> bool:
        return self.is_set

    def wait(self, wait: Callable[[], None]) -> None:
        """Calls `wait`, which a stop signal ends at once."""
        try:
            self._waiting = True
            if not self.is_set:
                wait()
        except _WaitEnded:
            pass
        finally:
            self._waiting = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if self._waiting:
            self._waiting = False
            raise _WaitEnded


class _WaitEnded(BaseException):
    """A stop signal came during a wait."""


def run(arguments: Sequence[str]) -> int:
    """Runs the process of a spec file until it ends or is told to; returns its exit code. `arguments` end with the path."""
    path = Path(arguments[-1])
    try:
        spec = read_spec(path)
        configure_logging(spec.log_level)
        stopping = StopFlag()
        if isinstance(spec, FeedSpec):
            return _run_feed(spec, path, stopping)
        if isinstance(spec, RouterSpec):
            return _run_router(spec, path, stopping)
        return _run_backtest(spec, stopping) if spec.history else _run_worker(spec, stopping)
    except StrategyRunnerError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        # a full or failing disk, a socket in use: the supervisor tries again, and gives up if it stays so
        log.error("%s: %s", error.filename or type(error).__name__, error.strerror or error)
        return 1


def configure_logging(level: str) -> None:
    """To stderr, which is the process's own log. A handler made before the fork serves every child."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", stream=sys.stderr)
    root.setLevel(level.upper())


def main(arguments: Sequence[str]) -> int:
    """As a program of its own (stock supervisord, or by hand): output goes to the log that the environment names."""
    own_log = os.environ.get("STRATEGY_RUNNER_LOG")
    if own_log:
        fd = os.open(own_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
    return run(arguments)


# -- the processes -----------------------------------------------------------------------------------------------------


def _run_feed(spec: FeedSpec, path: Path, stopping: StopFlag) -> int:
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    source, speed = _source(spec)
    writer = TapeWriter(Path(spec.market.tape), segment_records=spec.tape.segment_records)
    context = new_context()
    feed = Feed(
        spec,
        source,
        writer=writer,
        doorbell=StreamDoorbell(context, spec.market.doorbell),
        frames=FramePublisher(context, spec.market.frames),
        status=StatusFile(folder / "status"),
        speed=speed,
        slowest_reader=lambda since_ns: _slowest_snapshot(spec.readers, writer.head.count, since_ns),
    )
    log.info("feed: epoch %d, seq %d, %d streams", writer.epoch, writer.seq, len(spec.streams))
    _loop(feed, stopping, _Reload(path, FeedSpec, feed.reload))
    lock.release()
    return 0


def _source(spec: FeedSpec) -> tuple[Source, float]:
    """The feed's source and pace: here the mode becomes a kind of source."""
    if spec.mock is not None:
        return MockSource(spec.mock, now_ns=time.time_ns()), spec.mock.speed
    if spec.replay is not None:
        from strategy_runner.history.replay import ReplaySource

        return ReplaySource(spec.replay), spec.replay.speed
    raise SafetyRefusal(f"mode {spec.mode}: expected a source of records, found none configured")


def _run_router(spec: RouterSpec, path: Path, stopping: StopFlag) -> int:
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    context = new_context()
    durable = _durable_mark(spec, stopping)
    dead_letters = DeadLetterLog(folder / "dead_letters.log")
    database = open_database(Path(spec.duckdb), spec.client, dead_letters)
    server = SqlService(RequestServer(context, spec.sql), database)
    router = Router(
        spec,
        listener=SignalListener(context, spec.doorbell),
        durable=durable,
        deliveries=_deliveries(spec, database, dead_letters),
        status=StatusFile(folder / "status"),
    )
    if spec.bulk:
        _decide_in_bulk(spec, router, stopping)
    else:
        _loop(router, stopping, _Reload(path, RouterSpec, router.reload))
    server.stop()
    lock.release()
    return 0


def _deliveries(spec: RouterSpec, database: "DuckDbSink", dead_letters: "DeadLetterLog") -> list[Delivery]:
    """The client's sinks: DuckDB always, the others by route."""
    from strategy_runner.sinks.quantconnect import QuantConnectSink

    journal, folder = decision_log(Path(spec.folder)), Path(spec.quantconnect.folder)
    deliveries = [Delivery("duckdb", lambda: database, journal, pause_s=DUCKDB_PAUSE_S)]
    if "quantconnect" in spec.routes:
        deliveries.append(
            Delivery("quantconnect", lambda: QuantConnectSink(folder, spec.client, dead_letters), journal, pause_s=0.0)
        )
    return deliveries


def open_database(path: Path, client: str, dead_letters: "DeadLetterLog") -> "DuckDbSink":
    """The client's DuckDB file. Only for the process that holds the router's folder."""
    from strategy_runner.sinks.duckdb_sink import DuckDbSink

    return DuckDbSink(path, client, dead_letters)


def _decide_in_bulk(spec: RouterSpec, router: Router, stopping: StopFlag) -> None:
    """Historical mode: once every worker has ended, all signals are decided in one order and written."""
    folder = Path(spec.workers_folder)
    while not stopping() and not all(_has_ended(folder / worker / "status") for worker in spec.workers):
        stopping.wait(lambda: time.sleep(0.1))
    if not stopping():
        log.info("decided %d signals", router.drain())
    router.stop(deliver_s=3600.0)


def _run_worker(spec: WorkerSpec, stopping: StopFlag) -> int:
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    status = StatusFile(folder / "status")
    status.enter(State.STARTING, "waits for the feed")
    try:
        if not _wait_for_tape(Path(spec.market.tape), stopping):
            status.enter(State.STOPPED)
            return 0
        follower = make_follower(spec, new_context(), status)
    except (StrategyRunnerError, OSError) as error:
        _enter_failed(status, error)
        raise
    try:
        _loop(follower, stopping, None)
    except (StrategyRunnerError, OSError) as error:
        follower.fail(error)
        raise
    lock.release()
    return 0


def make_follower(spec: WorkerSpec, context: Context, status: StatusFile) -> Follower:
    """A worker ready for its first turn. Raises StrategyRunnerError."""
    return Follower(
        spec,
        make_strategy(spec),
        reader=TapeReader(Path(spec.market.tape)),
        listener=StreamListener(context, spec.market.doorbell, spec.streams),
        router=SignalDoorbell(context, spec.router_doorbell, spec.key.folder),
        status=status,
        from_start=spec.from_start,
    )


def _run_backtest(spec: WorkerSpec, stopping: StopFlag) -> int:
    from strategy_runner.history.backtest import Backtest

    lock = FolderLock(Path(spec.folder))
    status = StatusFile(Path(spec.folder) / "status")
    try:
        backtest = Backtest(spec, make_strategy(spec), status=status)
    except (StrategyRunnerError, OSError) as error:
        _enter_failed(status, error)  # or the router would wait for this worker for ever
        raise
    slot = _wait_for_slot(Path(spec.slots), spec.parallel, stopping)
    backtest.run(stopping)
    slot.release()
    for series, report in backtest.reports().items():
        log.info("quality of %s: %s", series, report.summary())
    (Path(spec.folder) / "quality.json").write_bytes(msgspec.json.encode(backtest.reports()))
    lock.release()
    return 1 if stopping() else 0


def _enter_failed(status: StatusFile, error: Exception) -> None:
    status.status.last_error = str(error)
    status.enter(State.FAILED, type(error).__name__)


# -- what they share ---------------------------------------------------------------------------------------------------


def _loop(agent: Agent, stopping: StopFlag, reload: Callable[[], None] | None) -> None:
    """The one loop: turns while there is work, waits while there is none, a clean stop at the end."""
    while not stopping():
        if not agent.turn():
            stopping.wait(agent.wait)
        if reload is not None:
            reload()
    agent.stop()


class _Reload:
    """Hands a changed spec file to the agent that runs by it; looks at most every SPEC_LOOK_S."""

    def __init__(self, path: Path, kind: type[Spec], reload: Callable[..., None]) -> None:
        self._path = path
        self._kind = kind
        self._reload = reload
        self._seen = path.stat().st_mtime_ns
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SPEC_LOOK_S
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return  # the plan has no such process any more: it is about to be stopped, and stops cleanly
        if changed != self._seen:
            self._seen = changed
            spec = read_spec(self._path)
            assert isinstance(spec, self._kind)
            self._reload(spec)


class DeadLetterLog:
    """Keeps what a sink refused for good, durably, before the sink goes on."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)

    def __call__(self, letter: DeadLetter) -> None:
        log.warning("sink %s refused signal %s for good: %s", letter.sink, letter.signal_id, letter.problem)
        self._log.append(msgspec.msgpack.encode(letter))
        self._log.sync()


def _wait_for_tape(folder: Path, stopping: StopFlag) -> bool:
    """False when told to stop. Raises NotRunningError if no feed makes or recovers the tape in TAPE_WAIT_S.

    A tape of another boot is no tape yet: its feed has still to cut off what a power cut may have taken.
    """
    deadline = time.monotonic() + TAPE_WAIT_S
    while not head_path(folder).exists() or Head(head_path(folder)).boot != this_boot():
        if stopping():
            return False
        if time.monotonic() > deadline:
            raise NotRunningError(
                f"{folder}: expected a tape within {TAPE_WAIT_S:g} s, found none; is the feed running?"
            )
        stopping.wait(lambda: time.sleep(0.02))
    return True


def _durable_mark(spec: RouterSpec, stopping: StopFlag) -> Callable[[], int]:
    """The gate. Without a tape (historical mode) every record lies in files that nobody writes any more."""
    tape = Path(spec.market.tape)
    if spec.bulk or not _wait_for_tape(tape, stopping):
        return lambda: _NO_GATE
    head = Head(head_path(tape))
    return lambda: head.durable


def _has_ended(path: Path) -> bool:
    status = read_status(path)
    return status is not None and status.state in (State.FINISHED, State.FAILED)


def _wait_for_slot(folder: Path, slots: int, stopping: StopFlag) -> FolderLock:
    """One of so many locks: as many historical workers run at a time. The kernel frees a dead worker's slot."""
    while True:
        for slot in range(slots):
            try:
                return FolderLock(folder / str(slot))
            except LockedError:
                continue
        if stopping():
            raise NotRunningError("stopped while it waited for its turn")
        stopping.wait(lambda: time.sleep(0.1))


def _slowest_snapshot(pattern: str, count: int, silent_since_ns: int) -> int:
    """The lowest seq that some worker would restart from: nothing at or above it may be deleted.

    A worker silent for longer than the tape is kept has been removed or stopped for good; it holds nothing back.
    """
    found = [status for path in glob.glob(pattern) if (status := read_status(Path(path)))]  # noqa: PTH207
    return min((status.snapshot_seq for status in found if status.beat_ns >= silent_since_ns), default=count)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
