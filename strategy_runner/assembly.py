"""Puts a process together from its spec and runs it. The mode is decided here, once; nothing below asks for it again.

python -m strategy_runner.assembly SPEC.json     what supervisord runs; under the warm fork it is a function call
"""

import gc
import glob
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from strategy_runner.bus.context import Context, new_context
from strategy_runner.bus.doorbell import (
    FillListener,
    SignalDoorbell,
    SignalListener,
    StreamDoorbell,
    StreamListener,
)
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.bus.request import RequestServer
from strategy_runner.config.spec import (
    FeedSpec,
    OmsSpec,
    PaperOmsSpec,
    RouterSpec,
    Spec,
    WatchdogSpec,
    WorkerSpec,
    read_spec,
)
from strategy_runner.errors import (
    ConfigurationError,
    DiskFullError,
    LockedError,
    NotRunningError,
    SafetyRefusal,
    StrategyRunnerError,
    UsageError,
)
from strategy_runner.feed.clock import FeedClock
from strategy_runner.feed.feed import SPACE_LOOK_S, Feed
from strategy_runner.feed.rederivation import group_end
from strategy_runner.feed.sources.interface import Source
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.loop import COLLECT_AFTER, StopFlag, loop
from strategy_runner.router.audit import Audit
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.desk import Desk
from strategy_runner.router.journal import decision_log
from strategy_runner.router.market import Market
from strategy_runner.router.operator import Operator
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.router.router import Router
from strategy_runner.router.sql import SqlService
from strategy_runner.router.trading import Trading
from strategy_runner.sinks.dead_letters import DeadLetterLog
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.files import head_path, is_full
from strategy_runner.tape.head import Head
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile, read_status
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.confinement import Confinement, give_way
from strategy_runner.worker.follower import Follower
from strategy_runner.worker.parking import begin_life, park, strategy_raised
from strategy_runner.worker.snapshot import snapshot_seqs
from strategy_runner.worker.strategy import make_strategy, require_versions

if TYPE_CHECKING:
    from strategy_runner.oms.interface import Oms
    from strategy_runner.sinks.duckdb_sink import DuckDbSink

LOG_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TAPE_WAIT_S = 30.0
SPEC_LOOK_S = 0.2
START_STAY_S = 1.5  # longer than startsecs in supervision/programs.py
DUCKDB_PAUSE_S = 1.0
SWITCH_INTERVAL_S = 0.000_1  # where threads work for one another, none waits long for one that computes
_NO_GATE = 1 << 62

log = logging.getLogger(__name__)


Runs = Mapping[type[Spec], Callable[[Any, StopFlag], int]]
NONE: Runs = MappingProxyType({})


def run(arguments: Sequence[str], others: Runs = NONE, stopping: StopFlag | None = None) -> int:
    """Runs the process of a spec file until it ends or is told to; returns its exit code. `arguments` end with the path.

    `others` run the kinds of spec whose processes are put together above this module.
    """
    path = Path(arguments[-1])
    stopping = stopping or StopFlag()
    try:
        spec = read_spec(path)
        configure_logging(spec.log_level)
        if type(spec) in others:
            return others[type(spec)](spec, stopping)
        if isinstance(spec, WatchdogSpec):
            raise UsageError(f"{path}: expected what this module runs, found a watchdog, which has an entry of its own")
        if isinstance(spec, FeedSpec):
            return _run_feed(spec, path, stopping)
        if isinstance(spec, RouterSpec):
            return _run_router(spec, path, stopping)
        if isinstance(spec, PaperOmsSpec):
            return _run_paper_oms(spec, path, stopping)
        give_way()
        if spec.history:
            from strategy_runner.history.backtest_process import run_backtest

            set_up_interpreter()
            return run_backtest(spec, stopping)
        return run_worker(spec, stopping)
    except LockedError as error:
        log.error("%s", error)
        # supervisord gives up soon on what does not start; here it is to try until the other copy has ended
        _outlast_start(stopping, time.monotonic())
        return error.exit_code
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
    wanted = logging.getLevelName(level.upper())
    if root.level != wanted:  # to set it touches every logger, and takes its page out of what forked processes share
        root.setLevel(wanted)


def main(arguments: Sequence[str], others: Runs = NONE) -> int:
    """As a program of its own (stock supervisord, or by hand): output goes to the log that the environment names."""
    own_log = os.environ.get("STRATEGY_RUNNER_LOG")
    if own_log:
        take_output(Path(own_log))
    stopping, began = StopFlag(), time.monotonic()
    code = run(arguments, others, stopping)
    if code == 0:
        _outlast_start(stopping, began)  # a short run over history has ended well, and has not failed to start
    return code


def take_output(log: Path) -> None:
    """Output and errors of this process go to a log of its own."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


# -- the processes -----------------------------------------------------------------------------------------------------


def _run_feed(spec: FeedSpec, path: Path, stopping: StopFlag) -> int:
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    status = StatusFile(folder / "status")
    try:
        context = new_context()
        bells = StreamDoorbell(spec.market.doorbell), FramePublisher(context, spec.market.frames)
        fills = FillListener(spec.market.private) if spec.market.private else None
        feed = _wait_for_space(lambda: make_feed(spec, *_source(spec), *bells, status, fills=fills), status, stopping)
        if feed is not None:
            loop(feed, stopping, _Reload(path, FeedSpec, feed.reload))
    except Exception as error:
        status.fail(error)
        raise
    lock.release()
    return 0


def make_feed(
    spec: FeedSpec,
    source: Source,
    speed: float,
    doorbell: StreamDoorbell,
    frames: FramePublisher,
    status: StatusFile,
    clock: FeedClock | None = None,
    fills: FillListener | None = None,
) -> Feed:
    """A feed ready for its first turn, its tape recovered. Raises DiskFullError, StateError, OSError."""
    writer = TapeWriter(
        Path(spec.market.tape),
        segment_records=spec.tape.segment_records,
        reserve_bytes=int(spec.tape.reserve_mb * 1e6),
        **({} if source.rewinds else {"ends_group": group_end(source)}),
    )
    unreadable: set[str] = set()
    try:
        feed = Feed(
            spec,
            source,
            writer=writer,
            doorbell=doorbell,
            frames=frames,
            status=status,
            speed=speed,
            slowest_reader=lambda since_ns: _slowest_snapshot(spec.readers, writer.head.count, since_ns, unreadable),
            clock=clock,
            fills=fills,
        )
    except (StrategyRunnerError, OSError):
        writer.close()
        raise
    log.info("feed: epoch %d, seq %d, %d streams", writer.epoch, writer.seq, len(spec.streams))
    return feed


def _wait_for_space(make: Callable[[], Feed], status: StatusFile, stopping: StopFlag) -> Feed | None:
    """What is made, as soon as the disk has the space to begin with. None when told to stop."""
    while True:
        try:
            return make()
        except (DiskFullError, OSError) as error:
            if isinstance(error, OSError) and not is_full(error):
                raise
            if status.status.state is not State.HALTED:
                log.error("%s; trying again until there is", error)
                status.status.last_error = str(error)
                status.enter(State.HALTED, "disk full: waits for space to begin")
        status.write()
        stopping.pause(SPACE_LOOK_S)
        if stopping():
            status.enter(State.STOPPED)
            return None


def _source(spec: FeedSpec) -> tuple[Source, float]:
    """The feed's source and pace: here the mode becomes a kind of source."""
    if spec.mock is not None:
        return MockSource(spec.mock, now_ns=time.time_ns()), spec.mock.speed
    if spec.replay is not None:
        from strategy_runner.history.replay import ReplaySource

        return ReplaySource(spec.replay), spec.replay.speed
    raise SafetyRefusal(f"mode {spec.mode}: expected a source of records, found none configured")


def set_up_interpreter() -> None:
    """Of a process whose threads wait for one another."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _run_router(spec: RouterSpec, path: Path, stopping: StopFlag) -> int:
    set_up_interpreter()
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    try:
        context = new_context()
        market = _market(spec, stopping)
        dead_letters = DeadLetterLog(folder / "dead_letters.log")
        database = open_database(Path(spec.duckdb), spec.client, dead_letters)
        server = SqlService(RequestServer(context, spec.sql), database)
        router = make_router(spec, context, market, _deliveries(spec, database, dead_letters))
    except Exception as error:
        StatusFile(folder / "status").fail(error)
        raise
    try:
        if spec.bulk:
            _decide_in_bulk(spec, router, stopping)
        else:
            loop(router, stopping, _Reload(path, RouterSpec, router.reload))
    except Exception as error:
        router.fail(error)
        raise
    server.stop()
    lock.release()
    return 0


def make_router(spec: RouterSpec, context: Context, market: Market | None, deliveries: Sequence[Delivery]) -> Router:
    """A router ready for its first turn. Raises StateError, OSError."""
    folder = Path(spec.folder)
    trading = make_trading(spec, context, market) if market else None
    return Router(
        spec,
        listener=SignalListener(spec.doorbell),
        durable=market.durable if market else lambda: _NO_GATE,
        market=market,
        deliveries=deliveries,
        status=StatusFile(folder / "status"),
        trading=trading,
        operator=_operator(spec, trading),
        audit=Audit(folder.parent),
    )


def make_trading(spec: RouterSpec, context: Context, market: Market) -> Trading | None:
    """What a client with a route to an OMS needs beside its sinks. Where records come as fast as they go nobody can wait for an
    OMS, and there is none. Raises StateError, OSError."""
    oms = spec.oms
    if oms is None or spec.ordered or spec.bulk:
        return None
    desk = Desk(
        spec,
        partial(_open_oms, context, spec.client, oms),
        clock=market.clock_ns,
        event_ns=market.event_ns,
    )
    return Trading(spec, RiskRecord(Path(spec.folder), spec.client, spec.mode), desk, market)


def _operator(spec: RouterSpec, trading: Trading | None) -> Operator | None:
    """None for a run as fast as it goes: it is over before a person has said anything, and would come out differently."""
    if trading is None and (spec.ordered or spec.bulk):
        return None
    return Operator(
        Path(spec.folder),
        Path(spec.workers_folder),
        client=spec.client,
        trading=trading,
        on_restart=spec.on_restart,
    )


def _open_oms(context: Context, client: str, spec: OmsSpec) -> "Oms":
    """A client's way into its OMS. Raises ConfigurationError for a kind that needs an extra, or a secret that cannot be read."""
    if spec.kind == "grpc":
        from strategy_runner.oms.elsewhere import open_elsewhere

        return open_elsewhere(client, spec, os.environ)
    from strategy_runner.oms.zeromq import ZeroMqOms

    return ZeroMqOms(context, client, spec.endpoint)


def _deliveries(spec: RouterSpec, database: "DuckDbSink", dead_letters: DeadLetterLog) -> list[Delivery]:
    """The client's sinks: DuckDB always, the others by route."""
    from strategy_runner.sinks.quantconnect import QuantConnectSink

    journal, folder = decision_log(Path(spec.folder)), Path(spec.quantconnect.folder)
    pause_s = 0.0 if spec.bulk else DUCKDB_PAUSE_S  # in bulk it is behind until all is decided
    deliveries = [Delivery("duckdb", lambda: database, journal, pause_s=pause_s)]
    if "quantconnect" in spec.routes:
        deliveries.append(
            Delivery("quantconnect", lambda: QuantConnectSink(folder, spec.client, dead_letters), journal, pause_s=0.0)
        )
    return deliveries


def open_database(path: Path, client: str, dead_letters: DeadLetterLog) -> "DuckDbSink":
    """The client's DuckDB file. Only for the process that holds the router's folder."""
    from strategy_runner.sinks.duckdb_sink import DuckDbSink

    return DuckDbSink(path, client, dead_letters)


def _decide_in_bulk(spec: RouterSpec, router: Router, stopping: StopFlag) -> None:
    """Historical mode: once every worker has ended, all signals are decided in one order and written."""
    folder = Path(spec.workers_folder)
    while not stopping() and not all(_has_ended(folder / worker / "status") for worker in spec.workers):
        stopping.pause(0.1)
    if not stopping():
        log.info("decided %d signals", router.drain(stopping))
    router.stop(deliver_s=3600.0, end=State.STOPPED if stopping() else State.FINISHED)


def _run_paper_oms(spec: PaperOmsSpec, path: Path, stopping: StopFlag) -> int:
    from strategy_runner.oms.paper_process import PaperProcess

    set_up_interpreter()
    folder = Path(spec.folder)
    lock = FolderLock(folder)
    status = StatusFile(folder / "status")
    status.enter(State.STARTING, "waits for the feed")
    try:
        if not _wait_for_tape(Path(spec.market.tape), stopping):
            status.enter(State.STOPPED)
            return 0
        process = PaperProcess(spec, new_context(), status)
        loop(process, stopping, _Reload(path, PaperOmsSpec, process.reload))
    except Exception as error:
        status.fail(error)
        raise
    lock.release()
    return 0


def run_worker(spec: WorkerSpec, stopping: StopFlag) -> int:
    """Until it ends or is told to; returns its exit code. What it raises stands on its page."""
    folder, began = Path(spec.folder), time.monotonic()
    lock = FolderLock(folder)
    trouble, status = begin_life(spec)
    try:
        needs_tape = not trouble.is_parked or trouble.is_nameless
        if needs_tape and not _wait_for_tape(Path(spec.market.tape), stopping):
            status.enter(State.STOPPED)
            return 0
        if trouble.is_parked:
            park(spec, trouble, status)
            _stay_parked(stopping)
            return 0
        require_versions(spec)
        confinement = Confinement(spec.limits.memory_limit_mb)
        follower = make_follower(spec, status)
    except Exception as error:
        status.fail(error)
        raise
    try:
        loop(follower, stopping, None)
    except MemoryError as error:
        full = confinement.out_of_memory()
        _fail(follower, full, folder, stopping, began)
        raise full from error
    except Exception as error:
        confinement.make_room()
        _fail(follower, error, folder, stopping, began)
        raise
    lock.release()
    return 0


def _fail(follower: Follower, error: Exception, folder: Path, stopping: StopFlag, began: float) -> None:
    follower.fail(error)
    if strategy_raised(read_status(folder / "status")):
        # it had started well: how often it may end at records is for parking to say, and not for supervisord to give up before
        _outlast_start(stopping, began)


def _stay_parked(stopping: StopFlag) -> None:
    """Until supervisord takes the process for one that started well: only then is its end one that it leaves alone."""
    log.warning("parked: `explain` says why, `resume` lets it try again")
    _outlast_start(stopping, time.monotonic())


def _outlast_start(stopping: StopFlag, began: float) -> None:
    until = began + START_STAY_S
    while not stopping() and (left_s := until - time.monotonic()) > 0:
        stopping.pause(left_s)


def make_follower(spec: WorkerSpec, status: StatusFile) -> Follower:
    """A worker ready for its first turn. Raises StrategyRunnerError."""
    return Follower(
        spec,
        make_strategy(spec),
        reader=TapeReader(Path(spec.market.tape)),
        listener=StreamListener(spec.market.doorbell, spec.heard),
        router=SignalDoorbell(spec.router_doorbell, spec.key.folder),
        status=status,
        from_start=spec.from_start,
    )


# -- what they share ---------------------------------------------------------------------------------------------------


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
            try:
                spec = read_spec(self._path)
            except ConfigurationError as error:  # damaged: no reason to end what is at work
                log.error("%s; goes on as it was told before", error)
                return
            assert isinstance(spec, self._kind)
            self._reload(spec)


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
        stopping.pause(0.02)
    return True


def _market(spec: RouterSpec, stopping: StopFlag) -> Market | None:
    """The tape with its gate. In historical mode there is none: every record lies in files that nobody writes any more."""
    tape = Path(spec.market.tape)
    return None if spec.bulk or not _wait_for_tape(tape, stopping) else Market(tape)


def _has_ended(path: Path) -> bool:
    status = read_status(path)
    return status is not None and status.state in (State.FINISHED, State.FAILED)


def _slowest_snapshot(patterns: Sequence[str], count: int, silent_since_ns: int, unreadable: set[str]) -> int:
    """The lowest seq that some worker, or the paper OMS, would restart from: nothing at or above it may be deleted.

    One silent for longer than the tape is kept has been removed or stopped for good; it holds nothing back. One whose page
    cannot be read may restart from anywhere, and holds everything back until it writes the page anew or has been silent
    for as long. `unreadable` are the pages that were told of. A page has no checksum: nothing is removed on its word alone that
    a worker's snapshots need, or because of a beat that is older than the page's file.
    """
    slowest = count
    for path in [path for pattern in patterns for path in glob.glob(pattern)]:  # noqa: PTH207  Path takes no absolute ones
        status = read_status(Path(path))
        seq, seen_ns = (0, _written_ns(path)) if status is None else (status.snapshot_seq, status.beat_ns)
        if seen_ns < silent_since_ns and _written_ns(path) < silent_since_ns:
            continue
        slowest = min(slowest, seq, *snapshot_seqs(Path(path).parent))
        if status is None and path not in unreadable:
            unreadable.add(path)
            log.warning(
                "%s: expected a status page, found none: retention removes nothing until it is written anew", path
            )
    return slowest


def _written_ns(path: str) -> int:
    """When a file was last written, or a link that leads nowhere; 0 if it is gone."""
    try:
        return os.lstat(path).st_mtime_ns  # as glob, a thousand in a row
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
