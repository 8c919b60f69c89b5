"""Steering: turn changed wishes into running processes. Every verb that starts or stops something comes through here."""

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.config.spec import (
    FeedSpec,
    PaperOmsSpec,
    RouterSpec,
    Spec,
    WatchdogSpec,
    WorkerSpec,
    read_specs,
    write_spec,
)
from strategy_runner.errors import (
    ConfigurationError,
    LockedError,
    SafetyRefusal,
    StrategyRunnerError,
    UsageError,
)
from strategy_runner.model.names import FEED_NAME, OMS_NAME, WATCHDOG_NAME, router_name
from strategy_runner.router.operator_log import Request, record
from strategy_runner.strategies.kept_code import keep
from strategy_runner.supervision.background import spawn_background
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.historical import backtest_lock
from strategy_runner.supervision.plan import NOT_PLANNED, Plan, make_plan, problems_of
from strategy_runner.supervision.plan_client import worker_keys
from strategy_runner.supervision.plan_oms import is_paper, only_clients
from strategy_runner.supervision.process import HISTORICAL, SIMULATION, Process, lasting
from strategy_runner.supervision.programs import Kind, configuration_path, render, write_configuration
from strategy_runner.supervision.reports import ChangeReport
from strategy_runner.supervision.state_version import check_state_version
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import (
    Run,
    Wish,
    Wishes,
    known_clients,
    one_operator_at_a_time,
    operator_name,
    read_latest_run,
    read_wishes,
    write_latest_run,
    write_wishes,
)

DIFFERENCES_MAX = 8
WRITERS = 16  # that wait for the disk together: a thousand files take less than a second, one by one it is five
# in the order of a plan; the first three serve all clients
_KINDS: dict[type[Spec], Kind] = {
    FeedSpec: "feed",
    WatchdogSpec: "watchdog",
    PaperOmsSpec: "oms",
    RouterSpec: "router",
    WorkerSpec: "worker",
}
_SHARED = 3
_FOLLOWING = ("generation", "code", "freshness")
Problems = dict[str, tuple[str, ...]]  # by client
NOTHING = ChangeReport(started=(), stopped=(), restarted=())


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What apply would do with one process, and why."""

    name: str
    action: str
    reason: str


def start(
    home: Home, targets: list[Target], wish: Wish, environment: str | None, environ: Mapping[str, str]
) -> tuple[Plan, ChangeReport]:
    """Makes the targets run, with the daemon if none does yet. Returns the whole plan and what changed.

    Raises UsageError, ConfigurationError, SafetyRefusal; then nothing has changed.
    """
    with one_operator_at_a_time(home):
        home.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_state_version(home)
        before = read_wishes(home)
        if environment is not None and environment != before.environment and before.clients:
            raise SafetyRefusal(
                f"environment {environment}: expected {before.environment}, in which {', '.join(before.clients)} run; "
                "stop them first"
            )
        wishes = msgspec.structs.replace(before, environment=environment or before.environment)
        clients = _clients_of(home, targets, client_names(home))
        for client in clients:
            wishes = _wished(home, wishes, client, targets, wish, environ)
        plan = _plan(home, wishes, clients, environ)
        _refuse_late_comers(home, before, plan)
        _make_sure(home, plan)
        _refuse_beside_backtest(home, before, plan)
        _clear_finished_runs(home, before, wishes, plan)
        return plan, _with_another_try(home, targets, _carry_out(home, wishes, plan, launch=True))


def stop(home: Home, targets: list[Target], environ: Mapping[str, str]) -> ChangeReport:
    """Makes the targets not run, and remembers that a person said so. Stopping what is stopped changes nothing.

    Without a daemon the next one is told so. Raises UsageError, TimeoutExpiredError for a daemon that cannot be asked, for whom
    it has been written down then, and StrategyRunnerError where they are stopped, and not all of it could be written down.
    """
    with one_operator_at_a_time(home):
        wishes = before = read_wishes(home)
        clients = _clients_of(home, targets, known_clients(home))
        for client in clients:
            asked = before.clients.get(client)
            if asked is None:
                _check_known(home, before, client, targets, environ)
                continue
            workers = _check_known(home, before, client, targets, environ)
            hit = {folder for folder in workers if any(t.matches(f"{client}:{folder}") for t in targets)}
            left = set(workers) - hit - set(asked.stopped)
            stopped = tuple(sorted(hit | set(asked.stopped)))
            wishes = wishes.with_client(client, msgspec.structs.replace(asked, stopped=stopped) if left else None)
        if not configuration_path(home).exists():  # nothing has ever run here
            write_wishes(home, wishes)
            return NOTHING
        plan = _without_stopped(home, wishes)
        try:
            return _carry_out(home, wishes, plan, launch=False)
        except (ConfigurationError, OSError) as error:
            _stop_unwritten(home, clients, plan, error)
            raise


def apply(home: Home, environ: Mapping[str, str]) -> tuple[ChangeReport, tuple[str, ...]]:
    """Brings the daemon to what files and wishes say now; only the processes concerned are touched.

    A client whose files are broken stays as it is; its problems are returned. One whose folder was removed is stopped, and asked
    for no more.
    """
    with one_operator_at_a_time(home):
        wishes = _without_removed(home, read_wishes(home))
        plan, problems = _plan_what_is_whole(home, wishes, environ)
        change = _carry_out(home, wishes, plan, launch=False)
        return change, _lines(problems)


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


def as_files_say(home: Home, wishes: Wishes, environ: Mapping[str, str]) -> tuple[Plan, Problems]:
    """What `apply` would run, and of which clients it could make no plan."""
    return _plan_what_is_whole(home, _without_removed(home, wishes), environ)


def as_written(home: Home) -> Plan:
    """The processes as they run, whatever has been edited since."""
    wishes = read_wishes(home)
    return _without_stopped(home, wishes)


def differences(home: Home, plan: Plan) -> list[Change]:
    """What separates the plan from the processes whose specifications were written last."""
    written, damaged = read_specs(_specs(home))
    planned = {process.name: process for process in plan.processes}
    changes = [
        _change(process, written.get(name), "what it was told is unreadable" if name in damaged else "not running yet")
        for name, process in planned.items()
    ]
    gone = sorted({*written, *damaged} - planned.keys())
    return changes + [Change(name=name, action="stop", reason="no longer in the plan") for name in gone]


# -- inside ------------------------------------------------------------------------------------------------------------


def _prepare(home: Home, environ: Mapping[str, str]) -> tuple[str, ...]:
    daemon = Daemon(home)
    if daemon.listens():
        raise LockedError(f"{home.root}: expected no other daemon on this home, found process {daemon.pid()}")
    check_state_version(home)
    asked = read_wishes(home)
    wishes = _without_removed(home, asked)
    plan, problems = _plan_what_is_whole(home, wishes, environ)
    _keep_code(home, plan)
    write_wishes(home, wishes)
    unnoted = _write(home, plan)
    removed = sorted(asked.clients.keys() - wishes.clients.keys())
    return (
        *(f"{problem}; runs as before" for problem in _lines(problems)),
        *(f"clients/{client}: its folder was removed; it is not started, and asked for no more" for client in removed),
        *(f"not in the audit trail: {fault}" for fault in unnoted),
    )


def _stop_unwritten(home: Home, clients: Sequence[str], plan: Plan, error: ConfigurationError | OSError) -> None:
    """Stops what the plan leaves out of these clients, for a disk that takes nothing, or a template that is gone. Raises
    StrategyRunnerError if there was something."""
    daemon = Daemon(home)
    kept = {process.name for process in plan.processes}
    running = [one.full_name for one in daemon.processes() if one.pid] if daemon.listens() else []
    names = [name for name in running if name.partition(":")[0] in clients and name not in kept]
    if names:
        daemon.stop(names)
        raise StrategyRunnerError(
            f"{', '.join(names)}: stopped, and not for good, since that could not be written down: {error}; "
            "mend it and stop them again, or the next daemon may start them"
        ) from error


def _without_removed(home: Home, wishes: Wishes) -> Wishes:
    """Removing a client's folder removes the client. Where the folder of all is missing, that is a fault of the home."""
    with contextlib.suppress(ConfigurationError):
        for client in wishes.clients.keys() - set(client_names(home)):
            wishes = wishes.with_client(client, None)
    return wishes


def _plan(home: Home, wishes: Wishes, clients: Sequence[str], environ: Mapping[str, str]) -> Plan:
    """These clients from their files, all others as they run: what was edited since waits for `apply`."""
    written = _without_stopped(home, wishes)
    unwritten = wishes.clients.keys() - {_client(process) for process in written.processes} - {*clients}
    whole, _ = _whole(home, wishes, sorted(unwritten), environ)
    return _beside(home, wishes, [*clients, *whole], written, environ)


def _plan_what_is_whole(home: Home, wishes: Wishes, environ: Mapping[str, str]) -> tuple[Plan, Problems]:
    """All clients from their files; one of which no plan can be made, alone or beside the others, as it ran before, with its
    problems."""
    written = _without_stopped(home, wishes)
    whole, problems = _whole(home, wishes, list(wishes.clients), environ)
    if not whole:
        return written, problems
    try:
        if not problems:
            return make_plan(home, wishes, environ=environ), problems
        return _beside(home, wishes, whole, written, environ), problems
    except NOT_PLANNED:
        pass
    # each can run by itself, and not all together: beside what runs, whoever can does
    plan, fitting = written, list[str]()
    for client in whole:
        try:
            plan = _beside(home, wishes, [*fitting, client], written, environ)
            fitting.append(client)
        except NOT_PLANNED as error:
            problems[client] = problems_of(error)
    return plan, problems


def _whole(
    home: Home, wishes: Wishes, clients: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[str], Problems]:
    """Those of the clients of which a plan can be made, and the problems of the others."""
    whole, problems = [], Problems()
    for client in clients:
        try:
            make_plan(home, wishes, environ=environ, clients=[client])
            whole.append(client)
        except NOT_PLANNED as error:
            problems[client] = problems_of(error)
    return whole, problems


def _beside(home: Home, wishes: Wishes, fresh: Sequence[str], written: Plan, environ: Mapping[str, str]) -> Plan:
    """These clients from their files, beside the processes of all others as they were written."""
    kept = [process for process in written.processes if _client(process) not in fresh]
    return make_plan(home, wishes, environ=environ, clients=sorted(fresh), kept=kept)


def _client(process: Process) -> str:
    return process.name.partition(":")[0]


def _lines(problems: Problems) -> tuple[str, ...]:
    """Each once: of the home itself every client tells."""
    return tuple(dict.fromkeys(line for lines in problems.values() for line in lines))


def _carry_out(home: Home, wishes: Wishes, plan: Plan, *, launch: bool) -> ChangeReport:
    _keep_code(home, plan)
    write_wishes(home, wishes)
    unnoted = _write(home, plan)
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
    """Whoever asks for a start gets one, even where supervisord gave up; some processes serve all targets."""
    daemon = Daemon(home)
    given_up = [report.full_name for report in daemon.processes() if report.state == "FATAL"]
    again = [
        name
        for name in given_up
        if name in (FEED_NAME, WATCHDOG_NAME, OMS_NAME)
        or any(t.matches(name) or name == router_name(t.client or "") for t in targets)
    ]
    if not again:
        return change
    tried = daemon.restart(again).restarted
    return msgspec.structs.replace(change, restarted=tuple(sorted({*change.restarted, *tried})))


def _write(home: Home, plan: Plan) -> list[str]:
    """Returns what could not be noted of it in audit trails."""
    unnoted = _record_changes(home, plan)
    written = _written(home)
    changed = [process for process in plan.processes if written.get(process.name) != process.spec]
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda process: write_spec(process.path, process.spec), changed))
    write_configuration(home, plan.programs(home))
    kept = {process.path for process in plan.processes}
    for path in _specs(home).glob("*/*.json"):
        if path not in kept:
            path.unlink()
    return unnoted


def _make_sure(home: Home, plan: Plan) -> None:
    """Before a start changes anything, all that its plan can be refused for. Raises ConfigurationError."""
    render(home, plan.programs(home))
    _keep_code(home, plan)


def _keep_code(home: Home, plan: Plan) -> None:
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
            written = _written(home)
            if any(written.get(spec.key.name) != spec for spec in specs):
                raise


def _record_changes(home: Home, plan: Plan) -> list[str]:
    """For the audit trail of each client: what changes with its router and its workers, before it does. A trail that is damaged
    keeps nobody from being stopped; returns what is wrong with such."""
    written = _written(home)
    specs: dict[str, Spec] = {**written, **{process.name: process.spec for process in plan.processes}}
    requests: dict[Path, list[Request]] = {}
    for change in differences(home, plan):
        spec = specs.get(change.name)  # None of one that goes and is damaged
        if change.action == "keep" or not isinstance(spec, RouterSpec | WorkerSpec):
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


def _specs(home: Home) -> Path:
    return home.daemon / "specs"


def _written(home: Home) -> dict[str, Spec]:
    """What processes were told last, but for what cannot be read."""
    return read_specs(_specs(home))[0]


def _change(process: Process, written: Spec | None, otherwise: str) -> Change:
    """`otherwise` is why there is nothing written to compare with."""
    if written is None:
        return Change(name=process.name, action="start", reason=otherwise)
    old, new = msgspec.to_builtins(written), msgspec.to_builtins(process.spec)
    differing = [key for key in new if old.get(key) != new[key]]
    if not differing:
        return Change(name=process.name, action="keep", reason="")
    # the generation follows from the rest; without more, it and where the code is kept say that the strategy's code is another
    told = [_difference(key, old.get(key), new[key]) for key in differing if key not in _FOLLOWING]
    if "freshness" in differing:
        told += _changed_limits(old["freshness"], new["freshness"])
    reason = "; ".join(told) or "the strategy's code"
    reloads = lasting(process.kind, old) == lasting(process.kind, new)
    return Change(name=process.name, action="reload" if reloads else "restart", reason=reason)


def _difference(key: str, old: object, new: object) -> str:
    """Of two lists what came and what went, and of two tables which keys, since both together are too long to read."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if 0 < len(keys) <= DIFFERENCES_MAX:
            return "; ".join(_difference(f"{key}.{name}", old.get(name), new.get(name)) for name in keys)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        changed = [f"+{_short(one)}" for one in new if one not in old]
        changed += [f"-{_short(one)}" for one in old if one not in new]
        if 0 < len(changed) <= DIFFERENCES_MAX:
            return f"{key}: {' '.join(changed)}"
    return f"{key}: {_short(old)} -> {_short(new)}"


def _changed_limits(old: dict[str, dict[str, object]], new: dict[str, dict[str, object]]) -> list[str]:
    """Limits by worker: of those who stay, each change once. Who comes and who goes is told by another key."""
    stay = [(old[worker], limits) for worker, limits in new.items() if worker in old]
    changes = (
        f"{key}: {_short(before[key])} -> {_short(value)}"
        for before, limits in stay
        for key, value in limits.items()
        if before[key] != value
    )
    return list(dict.fromkeys(changes))


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _clients_of(home: Home, targets: list[Target], known: list[str]) -> list[str]:
    """The clients among the known ones that targets name; raises UsageError for one that is not there."""
    named = [target.client for target in targets if target.client is not None]
    for client in named:
        if client not in known:
            raise UsageError(f"{client}: expected a client of {home.clients}, one of {', '.join(known) or 'none'}")
    return known if len(named) < len(targets) else sorted(set(named))


def _wished(
    home: Home, wishes: Wishes, client: str, targets: list[Target], wish: Wish, environ: Mapping[str, str]
) -> Wishes:
    """The wishes with one client's targets running."""
    asked = wishes.clients.get(client)
    if asked is not None:
        _refuse_other_run(client, asked, wish)
        base = asked
    else:
        base = wish
    workers = _planned(home, wishes, client, base, environ)
    hit = {folder for folder in workers if any(target.matches(f"{client}:{folder}") for target in targets)}
    if not hit and not any(target.client is None or target.is_client for target in targets):
        raise UsageError(_unknown(client, targets, workers))
    before = set(base.stopped) if asked is not None else set(workers)
    return wishes.with_client(client, msgspec.structs.replace(base, stopped=tuple(sorted(before - hit))))


def _check_known(
    home: Home, wishes: Wishes, client: str, targets: list[Target], environ: Mapping[str, str]
) -> list[str]:
    """Folder names of a client's workers, as running or as planned; raises UsageError for a target that names none."""
    written = {path.stem for path in (_specs(home) / client).glob("*.json")} - {"router"}  # damaged ones run as well
    asked = wishes.clients.get(client)
    known = sorted({*written, *(asked.stopped if asked else ())})
    own = [target for target in targets if target.client == client and not target.is_client]
    if own and not any(target.matches(f"{client}:{folder}") for target in own for folder in known):
        planned = _planned(home, wishes, client, _last_wish(home, client), environ)
        if not any(target.matches(f"{client}:{folder}") for target in own for folder in planned):
            raise UsageError(_unknown(client, own, planned))
    return known


def _planned(home: Home, wishes: Wishes, client: str, wish: Wish, environ: Mapping[str, str]) -> list[str]:
    """Folder names of all workers that a client's file and a wish ask for."""
    return [key.folder for key in worker_keys(home, wishes.environment, client, wish, environ)]


def _last_wish(home: Home, client: str) -> Wish:
    run = read_latest_run(home, client)
    return run.wish if run else Wish()


def _unknown(client: str, targets: list[Target], workers: list[str]) -> str:
    asked = ", ".join(str(target) for target in targets if target.client in (client, None))
    return f"{asked}: expected a worker of {client}, one of {', '.join(workers) or 'none'}"


def _refuse_other_run(client: str, asked: Wish, wish: Wish) -> None:
    given = msgspec.structs.replace(wish, stopped=(), live=asked.live)
    running = msgspec.structs.replace(asked, stopped=())
    if given not in (Wish(live=asked.live), running):
        what = ", ".join(
            f"{name} {getattr(running, name)}"
            for name in ("mode", "history", "speed", "symbols")
            if getattr(running, name) not in (None, ())
        )
        raise SafetyRefusal(f"{client}: already runs with {what or 'the settings of its files'}; stop it first")


def _refuse_late_comers(home: Home, before: Wishes, plan: Plan) -> None:
    """A simulation under way cannot begin again for one more symbol, or one client's account, without doing so for all."""
    feed = next((p.spec for p in plan.processes if isinstance(p.spec, FeedSpec)), None)
    written = _written(home).get(FEED_NAME)
    if feed is None or feed.replay is None or not isinstance(written, FeedSpec) or written.mode != feed.mode:
        return
    missing = sorted(set(feed.streams) - set(written.streams))
    if missing:
        raise SafetyRefusal(
            f"the simulation of {', '.join(before.clients)} is under way without {', '.join(missing)}; "
            "stop it first and start all its clients in one command"
        )
    for router in (process.spec for process in plan.processes if isinstance(process.spec, RouterSpec)):
        has_traded = (home.oms(SIMULATION) / router.client).exists()
        if is_paper(router.oms) and router.client not in before.clients and has_traded:
            raise SafetyRefusal(
                f"the simulation is under way, and the paper OMS has what {router.client} traded in it before; "
                "stop it first and start all its clients in one command"
            )


def _refuse_beside_backtest(home: Home, before: Wishes, plan: Plan) -> None:
    """A run over history begins with empty folders, and may not be those of a backtest under way."""
    for router in (process.spec for process in plan.processes if isinstance(process.spec, RouterSpec)):
        if router.mode == HISTORICAL and router.client not in before.clients:
            backtest_lock(home, router.client).release()


def _clear_finished_runs(home: Home, before: Wishes, wishes: Wishes, plan: Plan) -> None:
    """A simulation or historical run begins with empty folders; nothing of an earlier one is running any more."""
    routers = [process.spec for process in plan.processes if isinstance(process.spec, RouterSpec)]
    for router in routers:
        if router.mode in (SIMULATION, HISTORICAL) and router.client not in before.clients:
            shutil.rmtree(home.client_state(router.client, router.mode), ignore_errors=True)
    if not _has_feed(home) and any(router.mode == SIMULATION for router in routers):
        shutil.rmtree(home.market(SIMULATION), ignore_errors=True)
        shutil.rmtree(home.oms(SIMULATION), ignore_errors=True)
    for router in routers:
        wish = msgspec.structs.replace(wishes.clients[router.client], stopped=())
        write_latest_run(home, router.client, Run(mode=router.mode, wish=wish))


def _has_feed(home: Home) -> bool:
    """Whether one was told to run, be it legible or not."""
    group, _, name = FEED_NAME.partition(":")
    return (_specs(home) / group / f"{name}.json").exists()


def _without_stopped(home: Home, after: Wishes) -> Plan:
    """The processes as they were written, less those that are no longer wished for; files edited since stay unread."""
    written, damaged = read_specs(_specs(home))
    processes = _wished_for(home, after, written)
    if damaged:
        processes = _with_damaged(home, after, processes, damaged)
    followers = [p for p in processes if isinstance(p.spec, WorkerSpec) and not p.spec.history]
    if not followers:
        processes = [process for process in processes if process.kind != "feed"]
    processes = _without_idle_oms(processes)
    if all(process.kind == "watchdog" for process in processes):
        processes = []
    return Plan(processes=tuple(sorted(processes, key=_place)))


def _wished_for(home: Home, after: Wishes, written: Mapping[str, Spec]) -> list[Process]:
    processes: list[Process] = []
    for name, spec in sorted(written.items()):
        group, _, rest = name.partition(":")
        kind = _KINDS[type(spec)]
        if kind in ("router", "worker"):
            wish = after.clients.get(group)
            if wish is None or (kind == "worker" and rest in wish.stopped):
                continue
        if isinstance(spec, RouterSpec):
            wish = after.clients[group]
            left = tuple(worker for worker in spec.workers if worker not in wish.stopped)
            spec = msgspec.structs.replace(spec, workers=left)  # noqa: PLW2901
        processes.append(Process(name=name, kind=kind, spec=spec, path=_specs(home) / group / f"{rest}.json"))
    return processes


def _with_damaged(home: Home, after: Wishes, readable: list[Process], damaged: Collection[str]) -> list[Process]:
    """With the processes whose specifications are damaged, as the files say; those of a client whose files are broken too are
    left out, since nothing says what they do."""
    whole = []
    for client in after.clients:
        with contextlib.suppress(*NOT_PLANNED):
            make_plan(home, after, environ=os.environ, clients=[client])
            whole.append(client)
    with contextlib.suppress(*NOT_PLANNED):
        planned = make_plan(home, after, environ=os.environ, clients=whole).processes
        kept = [*readable, *(process for process in planned if process.name in damaged)]
        if FEED_NAME not in damaged or any(process.name == FEED_NAME for process in kept):
            # once more, so that a shared one serves those too whom the files do not name
            return list(make_plan(home, after, environ=os.environ, clients=[], kept=kept).processes)
    return readable


def _without_idle_oms(processes: list[Process]) -> list[Process]:
    """The paper OMS serves the clients that run, and nobody else."""
    routers = [process.spec for process in processes if isinstance(process.spec, RouterSpec)]
    asking = {router.client: router for router in routers if is_paper(router.oms)}
    return [
        msgspec.structs.replace(process, spec=only_clients(process.spec, asking))
        if isinstance(process.spec, PaperOmsSpec)
        else process
        for process in processes
        if asking or process.kind != "oms"
    ]


def _place(process: Process) -> tuple[int, str, int, str]:
    """The feed first, then the watchdog, then the paper OMS, then by client the router and its workers."""
    rank = list(_KINDS.values()).index(process.kind)
    return min(rank, _SHARED), process.name.partition(":")[0], rank, process.name
