"""Verb sql: questions to a client's DuckDB file, through its router."""

import click

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.signals import mode_option
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.supervision.sql import run_sql
from strategy_runner.supervision.wishes import latest_mode


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


COMMANDS = [sql]
