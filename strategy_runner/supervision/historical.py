"""A historical run in the foreground: plan, empty folders, workers in a pool, then the router in bulk."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, unknown_client
from strategy_runner.config.spec import RouterSpec, WorkerSpec, write_spec
from strategy_runner.errors import LockedError, SafetyRefusal, StrategyRunnerError
from strategy_runner.history.quality import QualityReport
from strategy_runner.model.counted import counted
from strategy_runner.supervision.plan import Plan, make_plan
from strategy_runner.supervision.plan_client import refuse_slips
from strategy_runner.supervision.pool import run_all
from strategy_runner.supervision.process import HISTORICAL, Process, last_lines
from strategy_runner.supervision.room import make_sure_of_room
from strategy_runner.supervision.state_version import check_state_version
from strategy_runner.supervision.wishes import Run, Wish, forget_latest_run, read_wishes, running_mode, write_latest_run
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.status import Status, read_status

ORPHANS_S = 5.0  # the workers of a backtest that was killed end soon after it

Show = Callable[[int, int, str], None]


class WorkerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker did. `records` is how many its strategy was given, `way` how: one by one, or bars at once."""

    name: str
    records: int
    signals: int
    refusals: int
    seconds: float
    way: str
    quality: dict[str, QualityReport]


def backtest(
    home: Home, client: str, wish: Wish, environment: str | None, environ: Mapping[str, str], show: Show
) -> list[WorkerResult]:
    """Runs a client over history. `show` gets (rows done, rows in all, a word).

    Raises UsageError, ConfigurationError, SafetyRefusal, and StrategyRunnerError with the log of a worker that failed.
    """
    known = client_names(home)
    if client not in known:
        raise unknown_client(home, client, known)
    home.var.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_state_version(home)
    wishes = read_wishes(home)
    wished = msgspec.structs.replace(wishes, environment=environment or wishes.environment).with_client(client, wish)
    refuse_slips(home, wished.environment, [client], wish, environ)
    plan = make_plan(home, wished, environ=environ, clients=[client])
    with _only_run(home, client):
        return _run(home, client, wish, plan, show)


@contextmanager
def _only_run(home: Home, client: str) -> Iterator[None]:
    """One run over a client's history at a time: it begins with empty folders. Raises SafetyRefusal."""
    if running_mode(home, client) == HISTORICAL and client in read_wishes(home).clients:
        raise SafetyRefusal(f"{client}: a historical run is under way under the supervisor; stop it first")
    lock = backtest_lock(home, client)
    try:
        yield
    finally:
        lock.release()


def backtest_lock(home: Home, client: str) -> FolderLock:
    """What a backtest holds, and whoever begins another run over history finds free. Raises SafetyRefusal."""
    folder = home.backtest(client)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return FolderLock(folder, expected="no other backtest", orphans_s=ORPHANS_S)
    except LockedError as error:
        raise SafetyRefusal(f"{client}: {error}") from None


def _run(home: Home, client: str, wish: Wish, plan: Plan, show: Show) -> list[WorkerResult]:
    state = home.client_state(client, HISTORICAL)
    make_sure_of_room(home, plan, [state])
    forget_latest_run(home, client, HISTORICAL)
    shutil.rmtree(state, ignore_errors=True)
    workers = [_relocated(process, state) for process in plan.processes if isinstance(process.spec, WorkerSpec)]
    router = next(
        _relocated(_beside(home, client, process, process.spec), state)
        for process in plan.processes
        if isinstance(process.spec, RouterSpec)
    )
    for process in (*workers, router):
        write_spec(process.path, process.spec)
    home.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    # here once, and not in each child
    import strategy_runner.history.backtest_process
    import strategy_runner.sinks.duckdb_sink  # noqa: F401  for what it loads

    begins = {process.name: _size(home.log(process.name)) for process in (*workers, router)}
    started = {process.name: time.monotonic() for process in workers}
    codes = run_all(
        [(process.path, home.log(process.name)) for process in workers],
        parallel=wish.parallel or os.cpu_count() or 1,
        show=lambda: _show_progress(workers, show),
    )
    failed = [process for process in workers if codes[process.path] != 0]
    if failed:
        raise StrategyRunnerError(_failure(home, failed[0], begins, codes[failed[0].path], len(failed)))
    show(1, 1, "writing")
    code = run_all([(router.path, home.log(router.name))], parallel=1, show=lambda: None)[router.path]
    if code != 0:
        raise StrategyRunnerError(_failure(home, router, begins, code, 1))
    if running_mode(home, client) is None:  # else what trades stays the run that is shown, also once it is stopped
        write_latest_run(home, client, Run(mode=HISTORICAL, wish=wish))
    return [_result(process, time.monotonic() - started[process.name]) for process in workers]


def _relocated(process: Process, state: Path) -> Process:
    """The same process with its spec beside its state, apart from those of the daemon."""
    return msgspec.structs.replace(process, path=state / "specs" / f"{process.name.partition(':')[2]}.json")


def _beside(home: Home, client: str, process: Process, spec: RouterSpec) -> Process:
    """The same router on sockets of its own, of names no longer than theirs: those of a run under way are in use."""
    doorbell, sql = (home.router_endpoint(client, purpose) for purpose in ("run.bell", "run.sql"))
    return msgspec.structs.replace(process, spec=msgspec.structs.replace(spec, doorbell=doorbell, sql=sql))


def _status(process: Process) -> Status:
    return read_status(Path(process.spec.folder) / "status") or Status()


def _show_progress(workers: list[Process], show: Show) -> None:
    statuses = [_status(process) for process in workers]
    signals = sum(status.signals for status in statuses)
    show(sum(s.progress for s in statuses), sum(s.total for s in statuses), counted(signals, "signal"))


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _failure(home: Home, process: Process, begins: Mapping[str, int], code: int, count: int) -> str:
    """`begins` says where in each log this run begins."""
    error = _status(process).last_error or (
        f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    )
    more = f" (and {count - 1} more)" if count > 1 else ""
    log = home.log(process.name)
    return f"{process.name}{more}: {error}\nlast lines of {log}:\n{last_lines(log, begin=begins[process.name])}"


def _result(process: Process, seconds: float) -> WorkerResult:
    status = _status(process)
    path = Path(process.spec.folder) / "quality.json"
    quality = msgspec.json.decode(path.read_bytes(), type=dict[str, QualityReport]) if path.exists() else {}
    elapsed = (status.since_ns - status.started_ns) / 1e9 if status.started_ns else seconds
    return WorkerResult(
        name=process.name,
        records=status.records,
        signals=status.signals,
        refusals=status.refusals,
        seconds=elapsed,
        way=status.reason.partition("; ")[2],
        quality=quality,
    )
