"""Steering: turn changed wishes into running processes. Every verb that starts or stops something comes through here."""

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.config.spec import RouterSpec, Spec, WorkerSpec
from strategy_runner.errors import ConfigurationError, LockedError, SafetyRefusal, StrategyRunnerError
from strategy_runner.model.names import FEED_NAME, OMS_NAME, RESERVED_CLIENTS, WATCHDOG_NAME, router_name
from strategy_runner.router.operator_log import Request, record
from strategy_runner.strategies.generation import versions
from strategy_runner.strategies.kept_code import keep
from strategy_runner.supervision.asked import clients_of, wishes_started, wishes_stopped
from strategy_runner.supervision.background import spawn_background
from strategy_runner.supervision.beginning import (
    finished_runs,
    note_latest_runs,
    refuse_beside_backtest,
    refuse_late_comers,
)
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.differences import differences
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.plan_client import refuse_slips
from strategy_runner.supervision.plan_whole import lines_of, plan_of, plan_whole, without_removed
from strategy_runner.supervision.programs import Program, configuration_path, render
from strategy_runner.supervision.reports import ChangeReport
from strategy_runner.supervision.room import make_sure_of_room
from strategy_runner.supervision.state_version import check_state_version
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import (
    Wish,
    Wishes,
    known_clients,
    one_operator_at_a_time,
    operator_name,
    read_wishes,
    write_wishes,
)
from strategy_runner.supervision.written import Written, read_written, spared, still_wished, write_plan

_WRITTEN_ANEW = "`strategy-runner apply` writes it anew, as the files say"
NOTHING = ChangeReport(started=(), stopped=(), restarted=())


def start(
    home: Home, targets: list[Target], wish: Wish, environment: str | None, environ: Mapping[str, str]
) -> tuple[Plan, ChangeReport]:
    """Makes the targets run, with the daemon if none does yet. Returns the whole plan and what changed.

    Raises UsageError, ConfigurationError, SafetyRefusal; then nothing has changed.
    """
    with one_operator_at_a_time(home):
        home.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_state_version(home)
        _refuse_other_versions(home)
        before, written = read_wishes(home), read_written(home)
        if environment is not None and environment != before.environment and before.clients:
            raise SafetyRefusal(
                f"environment {environment}: expected {before.environment}, in which {', '.join(before.clients)} run; "
                "stop them first"
            )
        wishes = msgspec.structs.replace(before, environment=environment or before.environment)
        clients = clients_of(home, targets, client_names(home))
        refuse_slips(home, wishes.environment, clients, wish, environ)
        wishes = wishes_started(home, wishes, clients, targets, wish, environ)
        plan = plan_of(home, wishes, clients, written, environ)
        refuse_late_comers(home, before, plan, written)
        kept = _spared(home, wishes, plan, written, clients)
        _refuse_to_leave_behind(written, kept)
        _make_sure(home, plan, written)
        refuse_beside_backtest(home, before, plan)
        finished = finished_runs(home, before, plan, written)
        make_sure_of_room(home, plan, finished)
        for folder in finished:
            shutil.rmtree(folder, ignore_errors=True)
        note_latest_runs(home, wishes, plan, clients)
        return plan, _with_another_try(home, targets, _carry_out(home, wishes, plan, written, kept, launch=True))


def stop(home: Home, targets: list[Target], environ: Mapping[str, str]) -> ChangeReport:
    """Makes the targets not run, and remembers that a person said so. Stopping what is stopped changes nothing.

    Without a daemon the next one is told so. Raises UsageError, TimeoutExpiredError for a daemon that cannot be asked, for whom
    it has been written down then, and StrategyRunnerError where they are stopped, and not all of it could be written down.
    """
    with one_operator_at_a_time(home):
        before, written = read_wishes(home), read_written(home)
        clients = clients_of(home, targets, known_clients(home))
        wishes = wishes_stopped(home, before, clients, targets, written, environ)
        if not configuration_path(home).exists():  # nothing has ever run here
            write_wishes(home, wishes)
            return NOTHING
        plan = still_wished(home, wishes, written)
        try:
            kept = _spared(home, wishes, plan, written, ())
            return _carry_out(home, wishes, plan, written, kept, launch=False)
        except (ConfigurationError, OSError) as error:
            _stop_unwritten(home, clients, plan, error)
            raise


def apply(home: Home, environ: Mapping[str, str]) -> tuple[ChangeReport, tuple[str, ...]]:
    """Brings the daemon to what files and wishes say now; only the processes concerned are touched.

    A client whose files are broken stays as it is; its problems are returned. One whose folder was removed is stopped, and asked
    for no more.
    """
    with one_operator_at_a_time(home):
        _refuse_other_versions(home)
        wishes, written = without_removed(home, read_wishes(home)), read_written(home)
        plan, problems = plan_whole(home, wishes, written, environ)
        kept = _spared(home, wishes, plan, written, {*wishes.clients, *RESERVED_CLIENTS} - problems.keys())
        change = _carry_out(home, wishes, plan, written, kept, launch=False)
        return change, lines_of(problems)


def restart(home: Home, names: Sequence[str]) -> ChangeReport:
    """Stops and starts processes. Raises ConfigurationError where one of them could not begin again, for a specification that
    nobody can read; then none is stopped."""
    damaged = read_written(home).damaged
    told = [
        f"{damaged[name]}; it runs on as it was told before, and {_WRITTEN_ANEW}" for name in names if name in damaged
    ]
    if told:
        raise ConfigurationError(*told)
    return Daemon(home).restart(names)


def up(home: Home, environ: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Starts the daemon in the background with what should run; returns its pid, also when it runs already, and problems."""
    with one_operator_at_a_time(home):
        daemon = Daemon(home)
        if daemon.listens():
            return daemon.pid(), ()
        problems = _prepare(home, environ)
        return spawn_background(home), problems


def prepare(home: Home, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Writes specs and the daemon's configuration for what should run. For a home without a daemon.

    A client whose files are broken runs as it did before, one whose folder was removed does not run; the problems of both are
    returned. Raises VersionMismatchError, and LockedError when a daemon runs: it takes its changes from `apply` alone.
    """
    with one_operator_at_a_time(home):
        return _prepare(home, environ)


# -- inside ------------------------------------------------------------------------------------------------------------


def _refuse_other_versions(home: Home) -> None:
    daemon = Daemon(home)
    if daemon.is_running():
        daemon.refuse_other_versions(versions())


def _prepare(home: Home, environ: Mapping[str, str]) -> tuple[str, ...]:
    daemon = Daemon(home)
    if daemon.listens():
        raise LockedError(f"{home.root}: expected no other daemon on this home, found process {daemon.pid()}")
    check_state_version(home)
    asked, written = read_wishes(home), read_written(home)
    wishes = without_removed(home, asked)
    plan, problems = plan_whole(home, wishes, written, environ)
    unnoted = _write_down(home, wishes, plan, written, {})
    removed = sorted(asked.clients.keys() - wishes.clients.keys())
    return (
        *(f"{problem}; runs as before" for problem in lines_of(problems)),
        *(f"clients/{client}: its folder was removed; it is not started, and asked for no more" for client in removed),
        *(f"not in the audit trail: {fault}" for fault in unnoted),
    )


def _stop_unwritten(home: Home, clients: Sequence[str], plan: Plan, error: ConfigurationError | OSError) -> None:
    """Stops what the plan leaves out of these clients, for a disk that takes nothing, or a template that is gone. Raises
    StrategyRunnerError if there was something."""
    daemon = Daemon(home)
    kept = {process.name for process in plan.processes}
    reports = daemon.processes() if daemon.listens() else ()
    names = [one.full_name for one in reports if one.group in clients and one.full_name not in kept]
    if names:
        daemon.stop(names)
        raise StrategyRunnerError(
            f"{', '.join(names)}: stopped, and not for good, since that could not be written down: {error}; "
            "mend it and stop them again, or the next daemon may start them"
        ) from error


def _spared(
    home: Home, wishes: Wishes, plan: Plan, written: Written, applied: Collection[str]
) -> Mapping[str, Program]:
    """Without a daemon nothing runs that could be spared."""
    return spared(home, wishes, plan, written, applied) if written.damaged and Daemon(home).is_running() else {}


def _refuse_to_leave_behind(written: Written, kept: Mapping[str, Program]) -> None:
    """Who starts may need what these do not know of. Raises ConfigurationError."""
    told = [
        f"{written.damaged[name]}; it runs on as it was told before, which is not what the files say now: {_WRITTEN_ANEW}"
        for name in (FEED_NAME, OMS_NAME)
        if name in kept
    ]
    if told:
        raise ConfigurationError(*told)


def _carry_out(
    home: Home, wishes: Wishes, plan: Plan, written: Written, kept: Mapping[str, Program], *, launch: bool
) -> ChangeReport:
    unnoted = _write_down(home, wishes, plan, written, kept)
    change = _handed_over(home, plan, launch=launch)
    if unnoted:
        raise StrategyRunnerError(f"done, and not in the audit trail: {'; '.join(unnoted)}")
    return change


def _handed_over(home: Home, plan: Plan, *, launch: bool) -> ChangeReport:
    # what a daemon that starts has read may be from before this: it is asked as soon as it can be
    daemon = Daemon(home)
    if not daemon.listens():
        if not launch:
            return NOTHING
        spawn_background(home)
        return ChangeReport(started=tuple(sorted(process.name for process in plan.processes)), stopped=(), restarted=())
    return daemon.reconcile()


def _with_another_try(home: Home, targets: list[Target], change: ChangeReport) -> ChangeReport:
    """Whoever asks for a start gets one, even where supervisord gave up, or where what was stopped could not be written down;
    some processes serve all targets."""
    daemon = Daemon(home)
    idle = [report.full_name for report in daemon.processes() if report.state == "FATAL" or report.was_stopped]
    again = [
        name
        for name in idle
        if name in (FEED_NAME, WATCHDOG_NAME, OMS_NAME)
        or any(t.matches(name) or name == router_name(t.client or "") for t in targets)
    ]
    if not again:
        return change
    tried = daemon.restart(again).restarted
    return msgspec.structs.replace(change, restarted=tuple(sorted({*change.restarted, *tried})))


def _write_down(home: Home, wishes: Wishes, plan: Plan, written: Written, kept: Mapping[str, Program]) -> list[str]:
    """Returns what could not be noted of it in audit trails."""
    _keep_code(home, plan, written)
    write_wishes(home, wishes)
    unnoted = _record_changes(home, plan, written, kept)
    write_plan(home, plan, written, kept)
    return unnoted


def _make_sure(home: Home, plan: Plan, written: Written) -> None:
    """Before a start changes anything, all that its plan can be refused for. Raises ConfigurationError."""
    render(home, plan.programs(home))
    _keep_code(home, plan, written)


def _keep_code(home: Home, plan: Plan, written: Written) -> None:
    """What the workers import. Raises ConfigurationError for a worker that is to change and whose code was edited since it was
    planned; where what was kept before has been removed, and the files are others by now, nothing can be done."""
    workers: dict[Path, list[WorkerSpec]] = {}  # by the folder that they import from
    for process in plan.processes:
        if isinstance(process.spec, WorkerSpec) and process.spec.code:
            workers.setdefault(Path(process.spec.code).parent, []).append(process.spec)
    for kept, specs in workers.items():
        if kept.exists():
            continue
        try:
            keep(home.client_strategies(specs[0].client), kept)
        except ConfigurationError:
            if any(written.specs.get(spec.key.name) != spec for spec in specs):
                raise


def _record_changes(home: Home, plan: Plan, written: Written, kept: Collection[str]) -> list[str]:
    """For the audit trail of each client: what changes with its router and its workers, before it does. A trail that is damaged
    keeps nobody from being stopped; returns what is wrong with such."""
    specs: dict[str, Spec] = {**written.specs, **{process.name: process.spec for process in plan.processes}}
    requests: dict[Path, list[Request]] = {}
    for change in differences(plan, written):
        spec = specs.get(change.name)  # None of one that goes and is damaged
        if change.action == "keep" or change.name in kept or not isinstance(spec, RouterSpec | WorkerSpec):
            continue
        detail = f"{change.action} {change.name}: {change.reason}"
        asked = Request(verb="configure", detail=detail)
        if isinstance(spec, WorkerSpec):
            asked = Request(verb="configure", strategy=spec.strategy, symbol=spec.symbol, detail=detail)
        requests.setdefault(home.client_state(spec.client, spec.mode), []).append(asked)
    faults = []
    for folder, asked_for in requests.items():
        try:
            record(folder, asked_for, who=operator_name(), at_ns=time.time_ns())
        except (StrategyRunnerError, OSError) as fault:
            faults.append(str(fault))
    return faults
