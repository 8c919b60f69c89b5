"""The fleet as it is: what supervisord says of each process and what each process says of itself, side by side."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, PaperOmsSpec, RouterSpec, Spec, WatchdogSpec, WorkerSpec, read_specs
from strategy_runner.config.times import duration
from strategy_runner.errors import StateError, StrategyRunnerError, TimeoutExpiredError, sparing
from strategy_runner.model.names import RESERVED_CLIENTS, WATCHDOG_NAME, WorkerKey
from strategy_runner.risk.breakers import strictest
from strategy_runner.risk.state import Latch
from strategy_runner.router.cut_off import read_cut_off
from strategy_runner.router.operator_log import Request
from strategy_runner.router.stops import read_stops, told
from strategy_runner.small_files import read_whole
from strategy_runner.supervision.conditions import Condition, read_conditions
from strategy_runner.supervision.control import Daemon, unheard
from strategy_runner.supervision.plan import NOT_PLANNED, make_plan, problems_of
from strategy_runner.supervision.reports import ProcessReport
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.watchdog.process import read_stat
from strategy_runner.supervision.wishes import Wish, known_clients, read_latest_run, read_wishes
from strategy_runner.tape.lock import holder
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
    State.PARKED: "parked",
}
_OTHER_WORDS: Mapping[type[Spec], str] = {
    FeedSpec: "publishing",
    PaperOmsSpec: "filling",
    RouterSpec: "routing",
    WatchdogSpec: "watching",
}
_BY_A_PERSON = "stopped by an operator"
_GOING_ON = ("catching_up", "trading")


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
    heard, keeper, problems = _heard(home, daemon)
    reports = heard or {}
    specs, damaged = read_specs(home.daemon / "specs")
    problems += [told for name, told in sorted(damaged.items()) if target.client in (None, name.partition(":")[0])]
    wishes = read_wishes(home)
    # what a damaged one said of a process that serves all clients, any plan says
    serves_all = any(target.matches(name) and name.partition(":")[0] in RESERVED_CLIENTS for name in damaged)
    for client in known_clients(home):
        if target.client not in (None, client) and not serves_all:
            continue
        try:
            run = read_latest_run(home, client)
        except StateError as error:
            run = None
            problems.append(str(error))
        asked = wishes.clients.get(client) or (run.wish if run else Wish())
        whole = wishes.with_client(client, msgspec.structs.replace(asked, stopped=()))
        try:
            plan = make_plan(home, whole, environ=environ, clients=[client])
        except NOT_PLANNED as error:
            problems.extend(problems_of(error))
            continue
        for process in plan.processes:
            if process.name in damaged or process.name.startswith(f"{client}:"):
                specs.setdefault(process.name, process.spec)
    now_ns = time.time_ns()
    names = sorted(
        specs,
        key=lambda name: (
            not isinstance(specs[name], FeedSpec | WatchdogSpec | PaperOmsSpec),
            name.partition(":")[0],
            _rank(specs[name]),
            name,
        ),
    )
    absent = _BY_A_PERSON if heard is not None else "its daemon is not heard" if keeper else "no daemon is running"
    if keeper:
        reports = {name: _unreported(name, pid) for name in names if (pid := holder(Path(specs[name].folder)))}
    rows = [_row(name, specs[name], reports.get(name), absent, now_ns) for name in names if target.matches(name)]
    is_watched = heard is not None and WATCHDOG_NAME in heard
    seen = read_conditions(home.monitor) if is_watched else {}  # of one that was stopped it is what it saw last
    rows = [_observed(row, specs) for row in _with_stops(rows, specs, now_ns, problems)]
    rows = [_with_conditions(row, seen.get(row.name, ()), now_ns) for row in rows]
    return rows, list(dict.fromkeys(problems))  # each client tells of a broken environment


def _heard(home: Home, daemon: Daemon) -> tuple[dict[str, ProcessReport] | None, int, list[str]]:
    """What the daemon says of its processes, by name; None where none does. Of one that is there and says nothing, its process
    and what is wrong."""
    try:
        if daemon.is_running():
            return {report.full_name: report for report in daemon.processes()}, 0, []
        keeper = daemon.keeper()
        problem = unheard(home, keeper)
    except TimeoutExpiredError as error:
        keeper, problem = daemon.keeper(), str(error)
    return None, keeper, [f"{problem}; states are what processes say themselves"] if keeper else []


def _unreported(name: str, pid: int) -> ProcessReport:
    """A process that is there, and that supervisord says nothing of."""
    group, _, rest = name.partition(":")
    return ProcessReport(group, rest, state="UNKNOWN", pid=pid, started_ns=0, exit_status=None, spawn_error="")


def _with_stops(
    rows: Sequence[FleetRow], specs: Mapping[str, Spec], now_ns: int, problems: list[str]
) -> list[FleetRow]:
    """Of workers that trade, what an operator or a breaker lets them do no longer. Adds to `problems` what cannot be read."""
    stops: dict[Path, tuple[Latch, ...]] = {}
    found = []
    for row in rows:
        spec = specs[row.name]
        if isinstance(spec, WorkerSpec) and row.trading_state in _GOING_ON:
            folder = router_folder(spec).parent
            if folder not in stops:
                stops[folder] = ()
                faults: list[StrategyRunnerError] = []
                with sparing(faults):
                    stops[folder] = read_stops(folder, spec.client, spec.mode)
                problems += [f"{spec.client}: what stops it is not known: {fault}" for fault in faults]
            latch = strictest(stops[folder], spec.strategy, spec.symbol)
            found.append(row if latch is None else _stopped(row, latch, now_ns))
        else:
            found.append(row)
    return found


def _observed(row: FleetRow, specs: Mapping[str, Spec]) -> FleetRow:
    """A worker that trades, and a router, whose signals go nowhere."""
    router = specs.get(f"{row.client}:router")
    if not isinstance(router, RouterSpec) or not router.is_observed or row.trading_state not in ("trading", "routing"):
        return row
    return msgspec.structs.replace(row, trading_state="observing")


def _stopped(row: FleetRow, latch: Latch, now_ns: int) -> FleetRow:
    way = ""
    if latch.reset == "operator":
        target = f"{row.client}{Request(verb='resume', strategy=latch.strategy, symbol=latch.symbol).scope}"
        way = f"; `strategy-runner resume {target} --reason TEXT` lifts it"
    reason = f"{told(latch)} (for {duration(now_ns - latch.since_ns)}){way}"
    said = f"{row.reason}; {reason}" if row.reason else reason
    return msgspec.structs.replace(row, trading_state=latch.posture.value, reason=said)


def status_path(spec: Spec) -> Path:
    return Path(spec.folder) / "status"


def _rank(spec: Spec) -> int:
    return 0 if isinstance(spec, RouterSpec) else 1


def _row(name: str, spec: Spec, report: ProcessReport | None, absent: str, now_ns: int) -> FleetRow:
    status = read_status(status_path(spec)) or Status()
    alive = report is not None and report.pid > 0
    trading_state, reason = _trading(spec, status, report, absent, now_ns)
    if alive and isinstance(spec, WorkerSpec) and trading_state in _GOING_ON:
        cut_off = read_cut_off(router_folder(spec)).get(spec.key.folder)
        if cut_off:
            trading_state, reason = "cut_off", f"its router does not trust its log: {cut_off}"
    key = WorkerKey.parse(name) if isinstance(spec, WorkerSpec) else None
    since_ns = _since_ns(status, report, trading_state)
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
        since_s=round((now_ns - since_ns) / 1e9, 1) if since_ns else None,
        last_error=status.last_error,
    )


def router_folder(spec: WorkerSpec) -> Path:
    return Path(spec.folder).parents[1] / "router"


def _with_conditions(row: FleetRow, conditions: Sequence[Condition], now_ns: int) -> FleetRow:
    """What the process says of itself, and behind it what the watchdog says of it, if that is not the same."""
    told = [one.told(now_ns) for one in conditions if not row.reason or one.reason not in row.reason]
    return msgspec.structs.replace(row, reason="; ".join([row.reason, *told] if row.reason else told)) if told else row


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
        if is_parked(status, report):
            return "parked", _parked_reason(spec, status)
        if report.state in ("FATAL", "BACKOFF", "EXITED"):
            return "failed", status.last_error or report.spawn_error or f"exit status {report.exit_status}"
        if report.was_stopped:
            return "stopped", _BY_A_PERSON
        return "starting", _other_copy(spec, report)
    if status.state is State.PARKED:
        return "parked", _parked_reason(spec, status)
    silent_s = (now_ns - status.beat_ns) / 1e9
    if status.state in (State.FOLLOWING, State.CATCHING_UP) and silent_s > BEAT_SILENCE_S:
        return "silent", f"no beat for {silent_s:.0f} s"
    word = _WORKER_WORDS[status.state]
    if status.state is State.FOLLOWING:  # what it waits for, such as a full disk, is its last error until that is over
        return _OTHER_WORDS.get(type(spec), word), status.reason or status.last_error
    return word, status.last_error if status.state is State.FAILED else status.reason


def is_parked(status: Status, report: ProcessReport | None) -> bool:
    """Whether a worker is parked and nobody is about to start it again: its process has gone, or says so and is going."""
    if status.state is not State.PARKED or report is None:
        return False
    return report.pid == status.pid or report.state in ("EXITED", "FATAL", "STOPPED")


def way_out(name: str) -> str:
    """What to type about a parked worker."""
    return f"`strategy-runner explain {name}` shows why, `strategy-runner resume {name}` lets it try again"


def _parked_reason(spec: Spec, status: Status) -> str:
    assert isinstance(spec, WorkerSpec), "only workers are parked"
    return f"{status.last_error}; {way_out(spec.key.name)}"


def _other_copy(spec: Spec, report: ProcessReport) -> str:
    """Who holds the folder of a process that waits for it: a copy that no daemon started."""
    try:
        holder = int(read_whole(Path(spec.folder) / "lock"))
    except (FileNotFoundError, ValueError):
        return ""
    other, own = read_stat(holder), read_stat(report.pid)
    if other is None or own is None or other.parent == own.parent:
        return ""  # the daemon's own: one comes while the other goes
    return f"its folder is held by process {holder}, which the daemon did not start"


def _since_ns(status: Status, report: ProcessReport | None, trading_state: str) -> int:
    """What has just begun has written no page yet: the one there is tells of the process before it."""
    began = report.started_ns if report else 0
    return began if began and trading_state == "starting" else status.since_ns or began


def _memory_mb(pid: int) -> float | None:
    """Proportional set size: shared pages count by their share."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        return None
    return None
