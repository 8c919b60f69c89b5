"""Verbs about signals: signals, explain, sql."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.config.home import Home
from strategy_runner.errors import NotRunningError
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody, decode_body
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.supervision.sql import run_sql
from strategy_runner.supervision.story import Story, tell
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.wishes import latest_mode

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
    """Show the decided signals of a client, strategy or worker, in the order of the decisions."""
    parsed = parse_target(target)
    clients = [parsed.client] if parsed.client else _clients_with_runs(home)
    readers = [(client, _reader(home, client, mode)) for client in clients]
    show = _printer(body, output)
    found = [d for _, reader in readers for d in _decisions(reader, parsed, accepted)]
    if len(readers) > 1:
        found.sort(key=lambda decision: decision.decided_ns)
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
@click.argument("signal_id")
@mode_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def explain(home: Home, signal_id: str, mode: str | None, output: str) -> None:
    """Show why a signal is what it is: from the records that caused it to the sinks that have it."""
    story = tell(home, signal_id, mode)
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
    """Query a client's signals with SQL, through its router. Tables: signals, signal_models; views: accepted_signals and more."""
    columns, rows = run_sql(home, client, mode or latest_mode(home, client), query, limit)
    if output == "json":
        for row in rows:
            show_json(dict(zip(columns, row, strict=True)))
    elif output == "name":
        for row in rows:
            click.echo(row[0])
    else:
        show_table(columns, rows)
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


def _printer(body: bool, output: str) -> Any:
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
            for line in _lines(decisions, header=first):
                click.echo(line)

    return show


def _lines(decisions: list[Decision], *, header: bool) -> Iterator[str]:
    """Fixed columns, so that lines that follow later stand under the first ones."""
    if header:
        yield f"{'event time (UTC)':<23} {'worker':<34} {'action':<6} {'size':>10} {'price':>12} {'conf':>5} {'decision':<9} why"
    for decision in decisions:
        body = decode_body(decision.body)
        name = f"{body.client}:{body.strategy}.{body.symbol}"
        confidence = "-" if body.confidence is None else f"{body.confidence:.2f}"
        why = decision.reason or "; ".join(body.reasons)
        yield (
            f"{moment(body.cause.event_ns):<23} {name:<34} {body.action:<6} {_number(body.size):>10} "
            f"{_number(body.entry_price):>12} {confidence:>5} {decision.verdict:<9} {why}"
        )


def moment(event_ns: int) -> str:
    return (
        datetime.fromtimestamp(event_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        + f".{event_ns // 1_000_000 % 1000:03d}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


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
            if target.matches(decision.signal_id.partition("@")[0]):
                yield decision


def _clients_with_runs(home: Home) -> list[str]:
    clients = sorted(path.parent.name for path in Path(home.var / "clients").glob("*/latest.json"))
    if not clients:
        raise NotRunningError(f"{home.var}: expected a client that has run, found none")
    return clients


COMMANDS = [signals, explain, sql]
