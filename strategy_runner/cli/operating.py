"""The operator's hand: halt, resume, flatten, reconcile."""

import time

import click

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.running import known_target, show_until_ready, targets_argument, timeout_option
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, TimeoutExpiredError, UsageError, raise_all
from strategy_runner.model.counted import counted
from strategy_runner.risk.breakers import RESETS
from strategy_runner.risk.state import Latch
from strategy_runner.router.operator_log import Request
from strategy_runner.router.reconciliation import Reconciliation, read_reconciliation
from strategy_runner.router.stops import told
from strategy_runner.supervision import operating
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.operating import Operated, operate
from strategy_runner.supervision.resuming import resume_parked
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.written import as_written

RECONCILE_S = 10.0


def _legible(_: click.Context, __: click.Parameter, text: str) -> str:
    """A reason with bytes that are no UTF-8 is one all the same: what is asked must not fail at it."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


reason_option = click.option(
    "--reason", required=True, callback=_legible, metavar="TEXT", help="Why; it is kept in the audit trail."
)


@click.command()
@targets_argument
@click.option("--hard", is_flag=True, help="Exits of strategies are stopped too; their stop losses stay in place.")
@reason_option
@click.pass_obj
def halt(home: Home, targets: tuple[str, ...], hard: bool, reason: str) -> None:
    """Let no entries through any more, and cancel those that are working.

    TARGET may also be CLIENT:*:SYMBOL or all:*:SYMBOL. It holds over restarts, until `resume` of the same target.
    """
    request = Request(verb="halt", is_hard=hard, reason=_worded(reason))
    word = "halted" if hard else "halted, exits pass"
    raise_all(_told_of(operate(home, [parse_target(target) for target in targets], request), word))


@click.command()
@targets_argument
@click.option("--halt", "halts", is_flag=True, help="Let no new entries through either.")
@reason_option
@click.pass_obj
def flatten(home: Home, targets: tuple[str, ...], halts: bool, reason: str) -> None:
    """Cancel open orders, and exit at the market what the workers hold.

    Once: strategies go on, and may enter again, unless --halt is given.
    """
    parsed = [parse_target(target) for target in targets]
    without = {client for target in parsed for client in _without_orders(home, target)}
    failures = []
    if halts:
        done = operate(home, parsed, Request(verb="halt", reason=_worded(reason)))
        failures += _told_of(done, "halted, exits pass")
    done = operate(home, parsed, Request(verb="flatten", reason=_worded(reason)), but=without)
    raise_all([*failures, *_told_of(done, "flattening")])


@click.command()
@targets_argument
@click.option("--skip", is_flag=True, help="Without the record that it was parked at: it is never given that again.")
@click.option(
    "--reason", default="", callback=_legible, metavar="TEXT", help="Why; it is kept. Needed for what was stopped."
)
@timeout_option
@click.pass_obj
def resume(home: Home, targets: tuple[str, ...], skip: bool, reason: str, timeout: float | None) -> None:
    """Let go on what is stopped: trading that a person or a breaker halted, workers that are parked.

    Of trading it lifts what was stopped for exactly this target, and says what else still stops it.
    """
    parsed = [parse_target(target) for target in targets]
    faults: list[StrategyRunnerError] = []
    stopped = [target for target in parsed if any(_is_at(target, one) for _, one in _stops(home, target, faults))]
    if stopped and not reason.strip():
        raise UsageError("--reason: expected why what was stopped may go on, found nothing")
    parked = _unpark(home, parsed, targets, skip, reason, is_needed=not stopped and not faults)
    if stopped:
        faults += _told_of(operate(home, stopped, Request(verb="resume", reason=_worded(reason))), "resumed")
    raise_all(faults)
    assert parked or stopped
    for target in parsed:
        for client, one in _stops(home, target, faults):
            name = f"{client}{_scope(one)}"
            way = f"`strategy-runner resume {name} --reason TEXT` lifts it"
            talk(
                f"still stopped: {name}: {told(one)}; {way if one.reset == 'operator' else f'closes {RESETS[one.reset]}'}"
            )
    if not parked:
        return
    if Daemon(home).is_running():
        show_until_ready(home, as_written(home), parked, timeout)
    else:
        talk("no daemon is running; `strategy-runner up` starts them")


@click.command()
@click.argument("client")
@click.option("--accept", is_flag=True, help="What the OMS says becomes the truth here.")
@click.option("--reason", default="", callback=_legible, metavar="TEXT", help="Why; needed with --accept.")
@output_option
@click.pass_obj
def reconcile(home: Home, client: str, accept: bool, reason: str, output: str) -> None:
    """Compare positions and orders with the OMS, and show the differences; they stop entries until they are settled."""
    target = parse_target(client)
    if not target.is_client:
        raise UsageError(f"{client}: expected a client, since all its accounts are compared")
    _without_orders(home, target)
    if accept and not reason.strip():
        raise UsageError("--reason: expected why the OMS is right, found nothing")
    request = Request(verb="reconcile", accepts=accept, reason=_worded(reason) if reason else "asked for")
    (done,) = operate(home, [target], request)
    if done.outcome == "not recorded":
        raise StrategyRunnerError(f"{client}: not recorded, so nothing is compared: {done.problem}")
    if done.outcome == "at the next start":
        if output == "json":
            show_json(None)
        talk(f"{client}: not running; it is compared at every start")
        return
    found = _outcome(home, done)
    if output == "json":
        show_json(found)
        return
    if output == "name":
        for difference in found.differences:
            click.echo(difference.name)
        return
    columns = (Column("symbol"), Column("kind"), Column("whose"), Column("here"), Column("OMS", folds=True))
    rows = [(one.symbol, one.kind, one.whose, one.ours, one.theirs) for one in found.differences]
    if rows:
        show_table(columns, rows)
        stop = f"{counted(len(rows), 'difference')} {'stops' if len(rows) == 1 else 'stop'}"
        talk(f"{client}: {stop} entries; `reconcile {client} --accept --reason TEXT` settles them")
    else:
        talk(f"{client}: positions and orders are those of the OMS")


# -- inside ------------------------------------------------------------------------------------------------------------


def _told_of(done: list[Operated], word: str) -> list[StrategyRunnerError]:
    """Says what holds, and returns what does not."""
    failures: list[StrategyRunnerError] = []
    for one in done:
        name = f"{one.client}{one.scope}"
        if one.ended_router:
            talk(f"{one.client}: its router, process {one.ended_router}, did not answer and was ended")
        if one.outcome == "in force":
            talk(f"{name}: {word}, {one.mode} run, action {one.number}, in force after {one.took_s:.2f} s")
        elif one.outcome == "at the next start":
            talk(
                f"{name}: recorded as action {one.number} of the {one.mode} run; no router runs, the next one begins with it"
            )
        elif one.outcome == "not recorded":
            way = "" if word == "resumed" else f"; `strategy-runner stop {one.client}` ends its trading"
            failures.append(StrategyRunnerError(f"{name}: not recorded, so nothing has changed: {one.problem}{way}"))
        else:
            failures.append(
                TimeoutExpiredError(
                    f"{name}: action {one.number}: {one.outcome}; see `strategy-runner status {one.client}`"
                )
            )
    return failures


def _unpark(
    home: Home, parsed: list[Target], texts: tuple[str, ...], skip: bool, reason: str, *, is_needed: bool
) -> list[str]:
    """Lets parked workers try again; their names. Raises UsageError if there are none and there should be."""
    try:
        resumed = resume_parked(home, parsed, skip=skip, reason=reason)
    except UsageError:
        for text in texts:
            known_target(home, text)
        if is_needed or skip:
            raise UsageError(_nothing_to_resume(home, parsed)) from None
        return []
    for one in resumed:
        talk(f"resumed {one.name}" + (f", without {one.skipped}" if one.skipped else ""))
    return [one.name for one in resumed]


def _nothing_to_resume(home: Home, parsed: list[Target]) -> str:
    asked = ", ".join(map(str, parsed))
    others = {f"{client}{_scope(one)}" for target in parsed for client, one in _stops(home, target, [])}
    hint = f"; stopped is {', '.join(sorted(others))}" if others else "; `strategy-runner status` shows how they are"
    return f"{asked}: expected something stopped or parked, found nothing of exactly that{hint}"


def _stops(home: Home, target: Target, faults: list[StrategyRunnerError]) -> list[tuple[str, Latch]]:
    """What stops a target now, or a part of it; `faults` gets why it cannot be told of a client."""
    return [
        (client, one)
        for client, latches in operating.stops(home, target, faults).items()
        for one in latches
        if operating.concerns(target, one)
    ]


def _is_at(target: Target, latch: Latch) -> bool:
    return latch.reset == "operator" and (latch.strategy, latch.symbol) == (target.strategy or "", target.symbol or "")


def _without_orders(home: Home, target: Target) -> list[str]:
    """A target's clients whose orders go to no OMS, with a word on each. Raises UsageError if they all are."""
    clients = operating.clients_of(home, target)
    without = [client for client in clients if not operating.has_orders(home, client)]
    if len(without) == len(clients):
        raise UsageError(
            f"{target}: expected a client whose orders go to an OMS, found that those of {', '.join(without)} go to none"
        )
    for client in without:
        talk(f"{client}: its orders go to no OMS, so there is nothing to exit")
    return without


def _outcome(home: Home, done: Operated) -> Reconciliation:
    deadline = time.monotonic() + RECONCILE_S
    while time.monotonic() < deadline:
        found = read_reconciliation(home.router(done.client, done.mode))
        if found is not None and found.action >= done.number:
            return found
        time.sleep(0.05)
    raise TimeoutExpiredError(
        f"{done.client}: expected an answer of the OMS within {RECONCILE_S:g} s, found none; it is asked on"
    )


def _scope(one: Latch) -> str:
    return Request(verb="halt", strategy=one.strategy, symbol=one.symbol).scope


def _worded(reason: str) -> str:
    if not reason.strip():
        raise UsageError("--reason: expected why, found nothing")
    return reason.strip()


COMMANDS = [halt, resume, flatten, reconcile]
