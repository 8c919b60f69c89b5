"""The doctor: every check of a home, in the order in which a person would look."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.errors import ConfigurationError, SafetyRefusal, StrategyRunnerError
from strategy_runner.model.instrument import Instrument
from strategy_runner.monitor import (
    checks_home,
    checks_host,
    checks_logs,
    checks_orders,
    checks_processes,
    checks_records,
    checks_sinks,
    checks_tape,
)
from strategy_runner.monitor.finding import Finding, error
from strategy_runner.monitor.host import Host
from strategy_runner.small_files import paths_below, paths_in
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.wishes import Wish, Wishes, environment_in_use, instruments_in_use, read_wishes

Check = Callable[[], list[Finding]]


def examine(
    home: Home, host: Host, environ: Mapping[str, str], show: Callable[[int, int, str], None] = lambda *_: None
) -> list[Finding]:
    """Runs every check, those of large files last. Changes nothing. `show` gets (done, of, what comes next)."""
    checks = list(_checks(home, host, environ))
    findings: list[Finding] = []
    for number, (name, check) in enumerate(checks):
        show(number, len(checks), name)
        findings += _result(name, check)
    return findings


def _result(name: str, check: Check) -> list[Finding]:
    """One check that cannot be made keeps no other from being made."""
    try:
        return check()
    except StrategyRunnerError as fault:
        return [error(name, name, "a check that can be made", str(fault), "mend what it names and ask again")]
    except OSError as fault:
        where = fault.filename or name
        return [
            error(name, where, "a file that can be read", fault.strerror or str(fault), "check disk and permissions")
        ]


def _checks(home: Home, host: Host, environ: Mapping[str, str]) -> Iterator[tuple[str, Check]]:
    planned, problems = _planned(home, environ)
    retention_gb = _retention_gb(home, environ)
    yield "versions", checks_host.check_versions
    yield "clock", partial(checks_host.check_clock, home, host)
    yield "disk", partial(checks_host.check_disk, home, host, retention_gb=retention_gb)
    yield "limits", partial(checks_host.check_limits, host, planned)
    yield "files", partial(checks_home.check_files, problems)
    if home.var.exists():
        yield "permissions", partial(checks_home.check_permissions, home, host.user)
        yield "version", partial(checks_home.check_state_version, home)
    yield "sockets", partial(checks_home.check_sockets, home)
    yield "specs", partial(checks_home.check_specs, home)
    yield "code", partial(checks_home.check_code, home)
    yield "daemon", partial(checks_processes.check_daemon, home, host)
    yield "strays", lambda: checks_processes.check_strays(home, host, checks_processes.daemon_pid(home))
    yield "locks", partial(checks_processes.check_locks, home, host)
    yield "beats", partial(checks_processes.check_beats, home, host)
    yield "watchdog", lambda: checks_processes.check_watchdog(home, host, checks_processes.daemon_pid(home))
    unreadable: list[OSError] = []
    markets = [path.parent for path in paths_below(home.var, "market/*/tape", unreadable)]
    states = [path.parent for path in paths_below(home.var, "clients/*/*/workers", unreadable)]
    for fault in unreadable:
        yield "folders", partial(_raise, fault)
    for folder in markets:
        yield "checkpoints", partial(checks_sinks.check_checkpoints, folder)
        yield "tape", partial(checks_tape.check_tape, folder / "tape")
    for state in states:
        yield "snapshots", partial(_snapshots, state)
        yield "signals", partial(checks_logs.check_client, state, state.parent.name)
        yield "orders", partial(_orders, home, state)
        yield "protection", partial(_protection, home, environ, state)
        yield "records", partial(_records, state, host)
        yield "sinks", partial(_sinks, state, host)


def _raise(fault: OSError) -> list[Finding]:
    raise fault


def _snapshots(state: Path) -> list[Finding]:
    return [one for folder in paths_in(state / "workers") for one in checks_sinks.check_snapshots(folder)]


def _orders(home: Home, state: Path) -> list[Finding]:
    mode, client = state.name, state.parent.name
    return checks_orders.check_orders(state, home.oms(mode) / client, client)


def _protection(home: Home, environ: Mapping[str, str], state: Path) -> list[Finding]:
    return checks_orders.check_protection(state, state.parent.name, _instruments(home, environ))


def _records(state: Path, host: Host) -> list[Finding]:
    return checks_records.check_records(state, router_runs=_router_runs(state, host))


def _sinks(state: Path, host: Host) -> list[Finding]:
    return checks_sinks.check_sinks(state, router_runs=_router_runs(state, host))


def _router_runs(state: Path, host: Host) -> bool:
    return checks_processes.is_locked(state / "router" / "lock", host)


def _planned(home: Home, environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many processes would run if every client did, and what is wrong with files of clients that could not."""
    specs = paths_below(home.daemon / "specs", "*/*.json", [])  # the check of specs tells of what cannot be read
    names: set[str] = {f"{path.parent.name}:{path.stem}" for path in specs}
    problems: list[str] = []
    try:
        environment, clients = read_wishes(home).environment, client_names(home)
    except StrategyRunnerError as fault:
        return len(names), [str(fault)]
    for client in clients:
        wishes = Wishes(environment=environment).with_client(client, Wish())
        try:
            names |= {process.name for process in make_plan(home, wishes, environ=environ).processes}
        except ConfigurationError as fault:
            problems += fault.problems
        except SafetyRefusal:
            continue  # live: it runs only when the command line says so
    return len(names), problems


def _retention_gb(home: Home, environ: Mapping[str, str]) -> float:
    """What the environment's file says; without one that can be read, nothing is to come."""
    try:
        return environment_in_use(home, environ).value.tape.retention_gb
    except StrategyRunnerError:
        return 0.0


def _instruments(home: Home, environ: Mapping[str, str]) -> dict[str, Instrument]:
    """None where there is no file that can be read: a journal says itself what its money was counted with."""
    try:
        return instruments_in_use(home, environ)
    except StrategyRunnerError:
        return {}
