"""Readiness: RUNNING is not ready. A process is ready when its own status says that it has caught up."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, RouterSpec, WorkerSpec
from strategy_runner.errors import StrategyRunnerError, TimeoutExpiredError
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.fleet import is_parked, status_path, way_out
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.process import Process, last_lines
from strategy_runner.supervision.reports import ProcessReport
from strategy_runner.tape.status import State, Status, read_status

LOOK_INTERVAL_S = 0.1
LOOK_PAUSE = 4.0  # times what a look took: to ask after thousands takes the processor from those that start


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the processes waited for have come; `done` and `total` count records of runs over history."""

    ready: int
    processes: int
    done: int
    total: int


def wait_ready(
    home: Home, plan: Plan, names: Iterable[str], *, timeout_s: float, show: Callable[[Progress], None]
) -> None:
    """Returns when every named process is ready; a run over history as fast as it goes is ready when it has ended.

    A parked worker is not waited for; when all others are ready it is told of. Raises StrategyRunnerError for it, and at
    once with the last log lines of a process that supervisord gave up; TimeoutExpiredError.
    """
    daemon = Daemon(home)
    wanted = set(names)
    waiting = {process.name: process for process in plan.processes if process.name in wanted}
    processes = len(waiting)
    parked: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    while True:
        begun = time.monotonic()
        reports = {report.full_name: report for report in daemon.processes()}
        done = total = 0
        for name, process in list(waiting.items()):
            status = read_status(status_path(process.spec)) or Status()
            done, total = done + status.progress, total + status.total
            report = reports.get(name)
            if is_parked(status, report):
                parked[name] = status.last_error
            if name in parked or is_ready(plan, process, status, report):
                del waiting[name]
        given_up = [name for name in waiting if name in reports and reports[name].state == "FATAL"]
        if given_up:
            raise StrategyRunnerError(_gave_up(home, waiting, reports, given_up))
        show(Progress(ready=processes - len(waiting), processes=processes, done=done, total=total))
        if not waiting and parked:
            raise StrategyRunnerError("\n".join(f"{n}: parked: {why}; {way_out(n)}" for n, why in parked.items()))
        if not waiting:
            return
        now = time.monotonic()
        if now > deadline:
            raise TimeoutExpiredError(_too_late(home, waiting, reports, timeout_s))
        time.sleep(max(LOOK_INTERVAL_S, LOOK_PAUSE * (now - begun)))


def is_ready(plan: Plan, process: Process, status: Status, report: ProcessReport | None) -> bool:
    spec = process.spec
    if isinstance(spec, WorkerSpec) and spec.history:
        return status.state is State.FINISHED
    if isinstance(spec, RouterSpec) and (spec.bulk or _runs_flat_out(plan)):
        return _has_drained(spec, status)
    if report is None or not report.pid or report.pid != status.pid:
        return False
    if isinstance(spec, WorkerSpec) and _runs_flat_out(plan):
        return status.state is State.FINISHED
    return status.state in (State.FOLLOWING, State.FINISHED)


def _runs_flat_out(plan: Plan) -> bool:
    """Recorded history through the feed as fast as it goes: caught up is the end."""
    feed = next((process.spec for process in plan.processes if isinstance(process.spec, FeedSpec)), None)
    return feed is not None and feed.replay is not None and feed.replay.speed == 0


def _has_drained(spec: RouterSpec, status: Status) -> bool:
    """Every worker has ended or is parked, every byte of their signal logs is decided, and every sink has what was decided."""
    logged = 0
    for worker in spec.workers:
        folder = Path(spec.workers_folder) / worker
        worker_status = read_status(folder / "status")
        if worker_status is None or worker_status.state not in (State.FINISHED, State.PARKED):
            return False
        logged += (folder / "signals.log").stat().st_size
    if spec.bulk:
        return status.state is State.FINISHED
    return status.state is State.FOLLOWING and status.records == logged and status.progress == status.total


def _gave_up(home: Home, waiting: dict[str, Process], reports: dict[str, ProcessReport], given_up: list[str]) -> str:
    name, *others = given_up
    status, report = read_status(status_path(waiting[name].spec)) or Status(), reports[name]
    why = status.last_error or report.spawn_error or f"exit status {report.exit_status}"
    more = f"\nFATAL too: {', '.join(others)}" if others else ""
    return f"{name}: FATAL: {why}\nlast lines of {home.log(name)}:\n{last_lines(home.log(name))}{more}"


def _too_late(home: Home, waiting: dict[str, Process], reports: dict[str, ProcessReport], timeout_s: float) -> str:
    name = next(iter(waiting))
    states = ", ".join(f"{n} {reports[n].state if n in reports else 'absent'}" for n in sorted(waiting)[:5])
    return (
        f"expected all ready within {timeout_s:g} s, found {len(waiting)} not ready ({states})\n"
        f"last lines of {home.log(name)}:\n{last_lines(home.log(name))}"
    )
