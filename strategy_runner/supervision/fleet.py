"""The fleet as it is: what supervisord says of each process and what each process says of itself, side by side."""

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.config.spec import FeedSpec, RouterSpec, Spec, WorkerSpec, read_spec
from strategy_runner.errors import ConfigurationError
from strategy_runner.model.names import WorkerKey
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.reports import ProcessReport
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import Wish, read_latest_run, read_wishes
from strategy_runner.tape.status import State, Status, read_status

BEAT_SILENCE_S = 10.0
_WORKER_WORDS = {
    State.STARTING: "starting",
    State.CATCHING_UP: "catching_up",
    State.FOLLOWING: "trading",
    State.FINISHED: "finished",
    State.STOPPED: "stopped",
    State.FAILED: "failed",
    State.HALTED: "halted",
}


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `client`, `strategy` and `symbol` are None where the process has none; ages are in seconds."""

    client: str | None
    strategy: str | None
    symbol: str | None
    name: str
    mode: str
    process_state: str
    trading_state: str
    reason: str
    pid: int | None
    memory_mb: float | None
    lag_ms: float | None
    last_seq: int
    records: int
    signals: int
    refusals: int
    last_signal: str
    last_signal_age_s: float | None
    since_s: float | None
    last_error: str


def fleet(home: Home, target: Target, environ: Mapping[str, str]) -> tuple[list[FleetRow], list[str]]:
    """Rows of every process that matches, running or not, and the problems of files that could not be planned."""
    daemon = Daemon(home)
    is_running = daemon.is_running()
    reports = {report.full_name: report for report in daemon.processes()} if is_running else {}
    specs = {f"{path.parent.name}:{path.stem}": read_spec(path) for path in (home.daemon / "specs").glob("*/*.json")}
    problems: list[str] = []
    wishes = read_wishes(home)
    for client in client_names(home):
        if target.client not in (None, client):
            continue
        run = read_latest_run(home, client)
        asked = wishes.clients.get(client) or (run.wish if run else Wish())
        whole = wishes.with_client(client, msgspec.structs.replace(asked, stopped=()))
        try:
            plan = make_plan(home, whole, environ=environ, clients=[client])
        except ConfigurationError as error:
            problems.extend(error.problems)
            continue
        for process in plan.of_client(client):
            specs.setdefault(process.name, process.spec)
    now_ns = time.time_ns()
    names = sorted(
        specs,
        key=lambda name: (not isinstance(specs[name], FeedSpec), name.partition(":")[0], _rank(specs[name]), name),
    )
    absent = "stopped by an operator" if is_running else "no daemon is running"
    rows = [_row(name, specs[name], reports.get(name), absent, now_ns) for name in names if target.matches(name)]
    return rows, problems


def status_path(spec: Spec) -> Path:
    return Path(spec.folder) / "status"


def _rank(spec: Spec) -> int:
    return 0 if isinstance(spec, RouterSpec) else 1


def _row(name: str, spec: Spec, report: ProcessReport | None, absent: str, now_ns: int) -> FleetRow:
    status = read_status(status_path(spec)) or Status()
    alive = report is not None and report.pid > 0
    trading_state, reason = _trading(spec, status, report, absent, now_ns)
    key = WorkerKey.parse(name) if isinstance(spec, WorkerSpec) else None
    return FleetRow(
        client=spec.client if isinstance(spec, WorkerSpec | RouterSpec) else None,
        strategy=key.strategy if key else None,
        symbol=key.symbol if key else None,
        name=name,
        mode=spec.mode,
        process_state=report.state if report else "STOPPED",
        trading_state=trading_state,
        reason=reason,
        pid=report.pid if report is not None and alive else None,
        memory_mb=_memory_mb(report.pid) if report is not None and alive else None,
        lag_ms=round(status.lag_ns / 1e6, 3) if alive and isinstance(spec, WorkerSpec) and status.records else None,
        last_seq=status.position - 1 if not isinstance(spec, RouterSpec) else status.position,
        records=status.records if not isinstance(spec, RouterSpec) else status.position,
        signals=status.signals,
        refusals=status.refusals,
        last_signal=status.last_signal,
        last_signal_age_s=round((now_ns - status.last_signal_ns) / 1e9, 1) if status.last_signal_ns else None,
        since_s=round((now_ns - _since_ns(status, report)) / 1e9, 1) if _since_ns(status, report) else None,
        last_error=status.last_error,
    )


def _trading(spec: Spec, status: Status, report: ProcessReport | None, absent: str, now_ns: int) -> tuple[str, str]:
    """The trading state and why: what the process says of itself, unless it is not there to say it.

    `absent` is why the daemon has no process of this name.
    """
    if report is None:
        if status.state is State.FINISHED:
            return "finished", status.reason
        return "stopped", absent if status.pid else "never started"
    if report.pid != status.pid or not report.pid:
        if status.state is State.FINISHED:
            return "finished", status.reason
        if report.state in ("FATAL", "BACKOFF", "EXITED"):
            return "failed", status.last_error or report.spawn_error or f"exit status {report.exit_status}"
        return "starting", ""
    silent_s = (now_ns - status.beat_ns) / 1e9
    if status.state in (State.FOLLOWING, State.CATCHING_UP) and silent_s > BEAT_SILENCE_S:
        return "silent", f"no beat for {silent_s:.0f} s"
    word = _WORKER_WORDS[status.state]
    if status.state is State.FOLLOWING:
        word = {FeedSpec: "publishing", RouterSpec: "routing"}.get(type(spec), word)
    return word, status.last_error if status.state is State.FAILED else status.reason


def _since_ns(status: Status, report: ProcessReport | None) -> int:
    return status.since_ns or (report.started_ns if report else 0)


def _memory_mb(pid: int) -> float | None:
    """Proportional set size: shared pages count by their share."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        return None
    return None
