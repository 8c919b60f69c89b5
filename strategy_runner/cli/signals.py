"""Verbs about signals: signals, explain, sql."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.running import known_target
from strategy_runner.cli.signal_lines import WORKER_CHARACTERS, SignalLines
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.errors import NotRunningError, UsageError
from strategy_runner.model.decision import Decision
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.signal import SignalBody, decode_body
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.supervision.sql import run_sql
from strategy_runner.supervision.story import Story, tell
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.wishes import latest_mode
from strategy_runner.supervision.worker_story import tell_worker

FOLLOW_INTERVAL_S = 0.1

mode_option = click.option("--mode", help="Run to read: mock, live, simulation or historical [default: the latest].")


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
    readers = [(client, _reader(home, client, mode)) for client in clients]
    found = [d for _, reader in readers for d in _decisions(reader, parsed, accepted)]
    if len(readers) > 1:
        found.sort(key=lambda decision: decision.decided_ns)
    if not found and not parsed.is_client:
        known_target(home, target)
    show = _printer(body, output, max((len(_worker(decision)) for decision in found), default=WORKER_CHARACTERS))
    keep = 10 if follow and last is None else last
    show(found if keep is None else found[len(found) - keep :] if keep else [], True)
    try:
        while follow:
            time.sleep(FOLLOW_INTERVAL_S)
            for _, reader in readers:
                show(list(_decisions(reader, parsed, accepted)), False)
    except KeyboardInterrupt:
        return


@click.command()
@click.argument("signal_id", metavar="ID|WORKER")
@mode_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the result.",
)
@click.pass_obj
def explain(home: Home, signal_id: str, mode: str | None, output: str) -> None:
    """Show a signal's way from its records to the sinks, or why a worker (CLIENT:STRATEGY:SYMBOL) is parked."""
    story = tell(home, signal_id, mode) if "@" in signal_id else _story_of_worker(home, signal_id, mode)
    if output == "json":
        show_json(story)
    else:
        _show_story(story)


@click.command()
@click.argument("client")
@click.argument("query")
@click.option("--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="At most so many rows.")
@mode_option
@output_option
@click.pass_obj
def sql(home: Home, client: str, query: str, limit: int, mode: str | None, output: str) -> None:
    """Query a client's signals with SQL, through its router.

    Tables: signals, signal_models. Views: accepted_signals, refusals, signals_by_day.
    """
    columns, rows = run_sql(home, client, mode or latest_mode(home, client), query, limit)
    if output == "json":
        for row in rows:
            show_json(dict(zip(columns, row, strict=True)))
    elif output == "name":
        for row in rows:
            click.echo(row[0])
    else:
        numbers = [all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))]
        show_table((Column(title, right=right) for title, right in zip(columns, numbers, strict=True)), rows)
    if len(rows) == limit:
        talk(f"the first {limit} rows; --limit shows more")


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
                click.echo(lines.header())
            for decision in decisions:
                click.echo(lines.line(decision, decode_body(decision.body)))

    return show


def _story_of_worker(home: Home, target: str, mode: str | None) -> Story:
    parsed = parse_target(target)
    if parsed.client is None or parsed.strategy is None or parsed.symbol is None:
        raise UsageError(f"{target}: expected the id of a signal or one worker such as CLIENT:STRATEGY:SYMBOL")
    key = WorkerKey(parsed.client, parsed.strategy, parsed.symbol)
    return tell_worker(home, key, mode or latest_mode(home, key.client))


def _show_story(story: Story) -> None:
    for title, lines in story.chapters:
        click.echo(click.style(title, bold=True) if os.isatty(1) and "NO_COLOR" not in os.environ else title)
        for line in lines:
            click.echo(f"  {line}")


# -- reading -----------------------------------------------------------------------------------------------------------


def _reader(home: Home, client: str, mode: str | None) -> DecisionReader:
    return DecisionReader(decision_log(home.router(client, mode or latest_mode(home, client))))


def _decisions(reader: DecisionReader, target: Target, accepted: bool) -> Iterator[Decision]:
    while decisions := reader.read():
        for decision in decisions:
            if accepted and decision.verdict != "accepted":
                continue
            if target.matches(_worker(decision)):
                yield decision


def _worker(decision: Decision) -> str:
    return decision.signal_id.partition("@")[0]


def _clients_with_runs(home: Home) -> list[str]:
    clients = sorted(path.parent.name for path in Path(home.var / "clients").glob("*/latest.json"))
    if not clients:
        raise NotRunningError(f"{home.var}: expected a client that has run, found none")
    return clients


COMMANDS = [signals, explain, sql]
