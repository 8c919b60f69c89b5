"""Verb sql: questions to a client's DuckDB file, through its router."""

from collections.abc import Sequence
from itertools import count

import click

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.signals import mode_option, run_of
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.model.counted import counted
from strategy_runner.router.sql import LIMIT_ROWS_MAX
from strategy_runner.supervision.sql import run_sql


@click.command()
@click.argument("client")
@click.argument("query")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=LIMIT_ROWS_MAX),
    default=10_000,
    show_default=True,
    help=f"At most so many rows, of {LIMIT_ROWS_MAX} that one answer can hold.",
)
@mode_option
@output_option
@click.pass_obj
def sql(home: Home, client: str, query: str, limit: int, mode: str | None, output: str) -> None:
    """Query a client's signals with SQL, through its router.

    Tables: signals, signal_models. Views: accepted_signals, refusals, signals_by_day.
    """
    columns, rows = run_sql(home, client, run_of(home, client, mode), query, limit)
    if output == "json":
        keys = _keys(columns)
        for row in rows:
            show_json(dict(zip(keys, row, strict=True)))
    elif output == "name":
        for row in rows:
            click.echo(row[0])
    else:
        numbers = [all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))]
        show_table((Column(title, right=right) for title, right in zip(columns, numbers, strict=True)), rows)
    if len(rows) == limit:
        more = "--limit shows more" if limit < LIMIT_ROWS_MAX else "the query may ask for the next, with OFFSET"
        talk(f"the first {counted(limit, 'row')}; {more}")


def _keys(columns: Sequence[str]) -> list[str]:
    """The names of columns, each its own: of `a`, `a` the second is `a_2`."""
    keys: list[str] = []
    for name in columns:
        numbered = (f"{name}_{number}" for number in count(2))
        keys.append(name if name not in keys else next(key for key in numbered if key not in {*keys, *columns}))
    return keys


COMMANDS = [sql]
