"""Verbs about running processes: supervise, up, down, start, stop, restart, status, plan, apply, logs."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import click

from strategy_runner.cli.output import age, output_option, plain, show_json, show_results, show_table, talk
from strategy_runner.cli.progress import ready_bar
from strategy_runner.cli.signals import MODES
from strategy_runner.cli.table import Column
from strategy_runner.cli.values import FiniteRange, moment_ns
from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, unknown_client
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import ConfigurationError, NotRunningError, UsageError
from strategy_runner.model.counted import counted
from strategy_runner.supervision import steering
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.differences import differences
from strategy_runner.supervision.fleet import FleetRow, fleet
from strategy_runner.supervision.holdings import held_by
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.plan_whole import plan_whole, without_removed
from strategy_runner.supervision.readiness import wait_ready
from strategy_runner.supervision.reports import ChangeReport
from strategy_runner.supervision.stranded import stranded
from strategy_runner.supervision.target import Target, parse_target, split_symbols
from strategy_runner.supervision.wishes import Wish, read_wishes
from strategy_runner.supervision.written import Written, as_written, read_written

READY_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 86_400.0

targets_argument = click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
timeout_option = click.option(
    "--timeout",
    type=FiniteRange(min=0),
    metavar="S",
    help="Seconds to wait until ready [default: 60; a run over history: a day].",
)


@click.command()
@click.option("--stock", is_flag=True, help="Stock supervisord: fork and exec instead of the warm fork.")
@click.pass_obj
def supervise(home: Home, stock: bool) -> None:
    """Run the daemon in the foreground, as systemd does."""
    _warn(steering.prepare(home, os.environ))
    arguments = [sys.executable, "-m", "strategy_runner.supervision.daemon", "--home", str(home.root)]
    os.execv(sys.executable, arguments + (["--stock"] if stock else []))


@click.command()
@click.pass_obj
def up(home: Home) -> None:
    """Start the daemon in the background, with what ran before."""
    pid, problems = steering.up(home, os.environ)
    _warn(problems)
    wished = ", ".join(read_wishes(home).clients) or "nothing yet; see `strategy-runner start`"
    talk(f"daemon up, pid {pid}; should run: {wished}")


@click.command()
@click.pass_obj
def down(home: Home) -> None:
    """Stop the daemon and every process; `up` brings them back."""
    daemon = Daemon(home)
    if not daemon.is_running() and not daemon.keeper():
        talk("no daemon is running")
        return
    daemon.shutdown()
    talk("daemon down")


@click.command()
@targets_argument
@click.option("--mode", type=click.Choice(MODES), help="Instead of the mode in the client's file.")
@click.option("--live", is_flag=True, help="Confirm that real money is meant; live mode needs it.")
@click.option("--history", type=click.Path(path_type=Path), help="Folder of recorded history.")
@click.option("--speed", type=FiniteRange(min=0), metavar="X", help="Times real time; 0 is as fast as it goes.")
@click.option(
    "--from",
    "from_ns",
    type=moment_ns,
    metavar="TIME",
    help="First moment of history, such as 2026-01-05 or 2026-01-05T10:00:00Z.",
)
@click.option("--to", "to_ns", type=moment_ns, metavar="TIME", help="Moment at which history ends (not included).")
@click.option("--symbols", metavar="A,B", help="Only these symbols, separated by commas.")
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Historical workers at a time [default: cores].",
)
@click.option(
    "--environment",
    metavar="NAME",
    help="Environment file configs/NAME.toml [default: the one in use, else local-dev].",
)
@click.option("--observe", is_flag=True, help="Strategies run and are recorded; nothing is routed.")
@click.option("--no-wait", is_flag=True, help="Return at once instead of when ready.")
@timeout_option
@click.pass_obj
def start(
    home: Home,
    targets: tuple[str, ...],
    mode: str | None,
    live: bool,
    history: Path | None,
    speed: float | None,
    from_ns: int | None,
    to_ns: int | None,
    symbols: str | None,
    parallel: int | None,
    environment: str | None,
    observe: bool,
    no_wait: bool,
    timeout: float | None,
) -> None:
    """Start targets, and the daemon if need be; return when ready.

    A client runs by one state of its files: what was edited since takes effect for its other workers too, as by apply.
    """
    wish = Wish(
        mode=mode,
        live=live,
        history=str(history.absolute()) if history else None,
        speed=speed,
        from_ns=from_ns or 0,
        to_ns=to_ns or 0,
        symbols=split_symbols(symbols),
        parallel=parallel or 0,
        observe=observe,
    )
    parsed = [parse_target(target) for target in targets]
    before = read_written(home)
    plan, change = steering.start(home, parsed, wish, environment, os.environ)
    _report(change, "already running")
    _tell_of_left_alone(home, before, change.stopped)
    _warn(stranded(home, [p for p in plan.processes if any(_concerns(target, p.name) for target in parsed)]))
    if no_wait:
        return
    shared = ("feed", "oms")
    names = [p.name for p in plan.processes if p.kind in shared or any(_concerns(target, p.name) for target in parsed)]
    show_until_ready(home, plan, names, timeout)
    talk(f"ready: {counted(len(names), 'process')}")


@click.command()
@targets_argument
@click.pass_obj
def stop(home: Home, targets: tuple[str, ...]) -> None:
    """Stop targets; they stay stopped, whatever else restarts."""
    _report(steering.stop(home, [parse_target(target) for target in targets], os.environ), "already stopped")


@click.command()
@targets_argument
@timeout_option
@click.pass_obj
def restart(home: Home, targets: tuple[str, ...], timeout: float | None) -> None:
    """Restart running targets; return when ready."""
    parsed = [known_target(home, target) for target in targets]
    daemon = Daemon(home)
    names = [r.full_name for r in daemon.processes() if any(target.matches(r.full_name) for target in parsed)]
    if not names:
        raise NotRunningError(
            f"{', '.join(targets)}: expected running processes, found none; see `strategy-runner status`"
        )
    _report(steering.restart(home, names), "nothing to restart")
    show_until_ready(home, as_written(home), names, timeout)


@click.command()
@click.argument("target", default="all")
@output_option
@click.pass_obj
def status(home: Home, target: str, output: str) -> None:
    """Show every process, and whether it does its work."""
    show_results(_rows(home, target), output, name=attrgetter("name"), table=_show_status)


def _show_status(rows: Sequence[FleetRow]) -> None:
    reasons = [row.reason for row in rows]
    columns = [
        Column("name", folds=True),
        Column("process"),
        Column("state"),
        Column("for", right=True),
        Column("pid", right=True, spare=2),
        Column("MB", right=True, spare=5),
        Column("lag ms", right=True, spare=3),
        Column("seq", right=True, spare=7),
        Column("signals", right=True),
        Column("refused", right=True, spare=6),
        Column("last signal", right=True, spare=4),
    ]
    show_table(
        columns,
        (
            (
                row.name,
                row.process_state,
                row.trading_state,
                age(row.since_s),
                row.pid,
                row.memory_mb,
                None if row.lag_ms is None else f"{row.lag_ms:.1f}",
                row.last_seq if row.last_seq >= 0 else None,
                row.signals,
                row.refusals,
                age(row.last_signal_age_s),
            )
            for row in rows
        ),
    )
    for reason in dict.fromkeys(filter(None, reasons)):
        names = [row.name for row in rows if row.reason == reason]
        click.echo(f"{names[0] if len(names) == 1 else f'{len(names)} processes'}: {plain(reason)}")


@click.command()
@click.argument("target", default="all")
@output_option
@click.pass_obj
def plan(home: Home, target: str, output: str) -> None:
    """Show what the files ask for and what `apply` would change."""
    parsed = known_target(home, target)
    wishes = read_wishes(home)
    if not wishes.clients:
        for client in client_names(home):
            wishes = wishes.with_client(client, Wish())
    written = read_written(home)
    made, problems = plan_whole(home, without_removed(home, wishes), written, os.environ)
    found = [change for change in differences(made, written) if parsed.matches(change.name)]
    # what nobody can read is left as it runs, where the files cannot be read either
    left = {name for name in written.damaged if name.partition(":")[0] in problems}
    changes = [change for change in found if change.action != "stop" or change.name not in left]
    told = [line for client, lines in problems.items() if parsed.client in (None, client) for line in lines]
    broken = ConfigurationError(*dict.fromkeys(told)) if told else None
    if broken is not None and not changes:
        raise broken
    if output == "json":
        show_json(changes)
    elif output == "name":
        for change in changes:
            click.echo(change.name)
    else:
        columns = (Column("name"), Column("action"), Column("reason", folds=True))
        show_table(columns, ((c.name, c.action, c.reason) for c in changes))
    _tell_of_left_alone(home, written, [one.name for one in changes if one.action == "stop"])
    _warn(stranded(home, [process for process in made.processes if _concerns(parsed, process.name)]))
    if broken is not None:
        raise broken


@click.command(name="apply")
@click.pass_obj
def apply_(home: Home) -> None:
    """Bring running processes to what the files say now.

    Only those concerned are touched; every other process keeps its pid.
    """
    Daemon(home).pid()
    before = read_written(home)
    change, problems = steering.apply(home, os.environ)
    _report(change, "nothing to change")
    _tell_of_left_alone(home, before, change.stopped)
    _warn(stranded(home, as_written(home).processes))
    if problems:
        talk("clients with broken files run on as before")
        raise ConfigurationError(*problems)


@click.command()
@click.argument("target")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="Last lines of each log."
)
@click.pass_obj
def logs(home: Home, target: str, follow: bool, lines: int) -> None:
    """Show the log of each process of a target."""
    paths = [str(path) for row in _rows(home, target) if (path := home.log(row.name)).exists()]
    if not follow:
        paths = [path for path in paths if Path(path).stat().st_size] or paths[:1]
    if not paths:
        raise UsageError(f"{target}: expected a log below {home.var / 'logs'}, found none; it has not run yet")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *paths]
    sys.stdout.flush()
    with suppress(KeyboardInterrupt), subprocess.Popen(command, stderr=subprocess.DEVNULL) as tail:
        try:
            tail.wait()
        finally:
            tail.terminate()


def show_until_ready(home: Home, plan: Plan, names: Iterable[str], timeout_s: float | None) -> None:
    """Blocks until processes of the plan are ready, for as long as `timeout_option` says. Raises as `wait_ready` does."""
    over_history = any(process.spec.mode in ("simulation", "historical") for process in plan.processes)
    if timeout_s is None:
        timeout_s = RUN_TIMEOUT_S if over_history else READY_TIMEOUT_S
    with ready_bar(over_history) as show:
        wait_ready(home, plan, names, timeout_s=timeout_s, show=show)


def known_target(home: Home, text: str) -> Target:
    """The target of a text. Raises UsageError if it names no process, running or not."""
    _rows(home, text)
    return parse_target(text)


def _rows(home: Home, target: str) -> list[FleetRow]:
    """Every process that a target names, running or not; files that hide some are told of. Raises UsageError for none."""
    parsed = parse_target(target)
    rows, problems = fleet(home, parsed, os.environ)
    for problem in problems:
        talk(f"warning: {problem}")
    if rows or problems:
        return rows
    known = client_names(home)
    if parsed.client in known:
        workers = [row.name for row in fleet(home, Target(client=parsed.client), os.environ)[0]]
        raise UsageError(f"{target}: expected a strategy or worker of {parsed.client}, one of {', '.join(workers)}")
    raise unknown_client(home, target, known)


def _warn(problems: Iterable[str]) -> None:
    """Faults of files, with what becomes of their clients."""
    for problem in problems:
        talk(f"warning: {problem}")


def _concerns(target: Target, name: str) -> bool:
    """The target's own processes, and the router of its client."""
    return target.matches(name) or (target.client is not None and name == f"{target.client}:router")


def _tell_of_left_alone(home: Home, written: Written, gone: Iterable[str]) -> None:
    """What workers hold that are not to run any more."""
    specs = [written.specs.get(name) for name in gone]
    left = held_by(home, [spec for spec in specs if isinstance(spec, WorkerSpec)])
    for name, quantity in left.items():
        talk(
            f"warning: {name} holds {quantity.normalize():f}, which no strategy will close: "
            f"`strategy-runner flatten {name} --reason WHY` does, while its client runs"
        )


def _report(change: ChangeReport, otherwise: str) -> None:
    words = [("started", change.started), ("stopped", change.stopped), ("restarted", change.restarted)]
    said = [
        f"{word} {len(names)}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
        for word, names in words
        if names
    ]
    talk("\n".join(said) or otherwise)


COMMANDS = [supervise, up, down, start, stop, restart, status, plan, apply_, logs]
