"""Verb signals: what was decided, in the order of the decisions."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from strategy_runner.cli.output import output_option, show_json, talk
from strategy_runner.cli.signal_lines import WORKER_CHARACTERS, SignalLines
from strategy_runner.config.home import Home
from strategy_runner.errors import NotRunningError, StrategyRunnerError, UsageError, raise_all, sparing
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody, decode_body, worker_of
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.small_files import paths_below
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.wishes import latest_mode
from strategy_runner.tape.logs import refuse_garbage

FOLLOW_INTERVAL_S = 0.1

MODES = ("mock", "live", "simulation", "historical")

mode_option = click.option(
    "--mode", type=click.Choice(MODES), help="Run to read [default: the one under way, else the latest]."
)


@click.command()
@click.argument("target")
@click.option("-f", "--follow", is_flag=True, help="Go on as signals come, until Ctrl-C.")
@click.option(
    "-n", "--last", type=click.IntRange(min=0), default=None, help="Only the last so many [default: all; 10 with -f]."
)
@click.option("--body", is_flag=True, help="Print the canonical bodies alone, one a line.")
@click.option("--accepted", is_flag=True, help="Leave out refused and expired signals.")
@mode_option
@output_option
@click.pass_obj
def signals(
    home: Home, target: str, follow: bool, last: int | None, body: bool, accepted: bool, mode: str | None, output: str
) -> None:
    """Show decided signals, in the order of the decisions."""
    parsed = parse_target(target)
    clients = [parsed.client] if parsed.client else _clients_with_runs(home)
    faults: list[StrategyRunnerError] = []
    readers: list[DecisionReader] = []
    for client in clients:
        with sparing(faults):
            readers.append(_reader(home, client, mode))
    found = _of_each(readers, parsed, accepted, faults)
    if len(readers) > 1:
        found.sort(key=lambda decision: decision.decided_ns)
    if not found:
        if not (follow and readers):
            raise_all(faults)
        must_name_something(home, target)
    show = _printer(
        body, output, max((len(worker_of(decision.signal_id)) for decision in found), default=WORKER_CHARACTERS)
    )
    keep = 10 if follow and last is None else last
    show(found if keep is None else found[len(found) - keep :] if keep else [], True)
    told = 0
    with suppress(KeyboardInterrupt):
        while follow and readers:
            for fault in faults[told:]:
                talk(f"warning: {fault}")
            told = len(faults)
            time.sleep(FOLLOW_INTERVAL_S)
            show(_of_each(readers, parsed, accepted, faults), False)
    raise_all(faults)


# -- showing -----------------------------------------------------------------------------------------------------------


def flat(decision: Decision, body: SignalBody) -> dict[str, Any]:
    """A signal as other programs read it: body and decision side by side."""
    return {
        "id": body.id,
        "client": body.client,
        "strategy": body.strategy,
        "symbol": body.symbol,
        "action": body.action,
        "size": body.size,
        "entry_price": body.entry_price,
        "stop_loss": body.stop_loss,
        "take_profit": body.take_profit,
        "confidence": body.confidence,
        "strength": body.strength,
        "event_ns": body.cause.event_ns,
        "decision": decision.verdict,
        "reason": decision.reason,
        "decided_ns": decision.decided_ns,
        "reasons": body.reasons,
        "venue": body.venue,
        "timeframe": body.timeframe,
        "mode": decision.envelope.mode,
        "seq": decision.envelope.seq,
    }


def _printer(body: bool, output: str, longest: int) -> Any:
    lines = SignalLines(longest)

    def show(decisions: list[Decision], first: bool) -> None:
        if body:
            for decision in decisions:
                click.echo(decision.body.decode())
        elif output == "json":
            for decision in decisions:
                show_json(flat(decision, decode_body(decision.body)))
        elif output == "name":
            for decision in decisions:
                click.echo(decision.signal_id)
        else:
            if first:
                lines.show_header()
            for decision in decisions:
                click.echo(lines.line(decision, decode_body(decision.body)))

    return show


# -- reading -----------------------------------------------------------------------------------------------------------


def run_of(home: Home, client: str, mode: str | None) -> str:
    """The mode of the run to read. Raises UsageError for a client that has no such run."""
    if mode is None:
        return latest_mode(home, client)
    folder = home.client_state(client, mode)
    if not folder.is_dir():
        raise UsageError(f"{client}: expected a {mode} run, found none at {folder}")
    return mode


def must_name_something(home: Home, target: str) -> None:
    """Where nothing was found of a target: raises UsageError if there is no such worker, so that its name is not answered as if
    it had done nothing."""
    if not parse_target(target).is_client:
        from strategy_runner.cli.running import known_target  # slow to import, and seldom asked

        known_target(home, target)


def _reader(home: Home, client: str, mode: str | None) -> DecisionReader:
    path = decision_log(home.router(client, run_of(home, client, mode)))
    refuse_garbage(path)
    return DecisionReader(path)


def _of_each(
    readers: list[DecisionReader], target: Target, accepted: bool, faults: list[StrategyRunnerError]
) -> list[Decision]:
    """What has come of all. A reader of a damaged log is dropped, and `faults` gets why."""
    found: list[Decision] = []
    for reader in list(readers):
        before = len(faults)
        with sparing(faults):
            found += list(_decisions(reader, target, accepted))
        if len(faults) > before:
            readers.remove(reader)
    return found


def _decisions(reader: DecisionReader, target: Target, accepted: bool) -> Iterator[Decision]:
    while decisions := reader.read():
        for decision in decisions:
            if accepted and decision.verdict != "accepted":
                continue
            if target.matches(worker_of(decision.signal_id)):
                yield decision


def _clients_with_runs(home: Home) -> list[str]:
    clients = [path.parent.name for path in paths_below(home.var / "clients", "*/latest.json")]
    if not clients:
        raise NotRunningError(f"{home.var}: expected a client that has run, found none")
    return clients


COMMANDS = [signals]
