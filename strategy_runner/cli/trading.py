"""Verbs about what became of signals: orders, fills, report."""

import heapq
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import TypeVar

import click

from strategy_runner.cli.output import money, output_option, show_results, show_table
from strategy_runner.cli.positions import runs_of
from strategy_runner.cli.signal_lines import moment
from strategy_runner.cli.signals import mode_option, must_name_something
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, raise_all, sparing
from strategy_runner.model.fill import Fill
from strategy_runner.model.names import WorkerKey
from strategy_runner.router.order_journal import order_log
from strategy_runner.router.order_rows import OrderRow, order_rows
from strategy_runner.supervision.holdings import fills_told
from strategy_runner.supervision.performance_report import LEVELS, ReportRow
from strategy_runner.supervision.performance_report import report as report_on
from strategy_runner.supervision.target import Target, parse_target

T = TypeVar("T")

last_option = click.option("-n", "--last", type=click.IntRange(min=1), default=None, help="Only the last so many.")


@click.command()
@click.argument("target")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not over.")
@last_option
@mode_option
@output_option
@click.pass_obj
def orders(home: Home, target: str, only_open: bool, last: int | None, mode: str | None, output: str) -> None:
    """Show orders, and what has become of each."""
    parsed = parse_target(target)
    faults: list[StrategyRunnerError] = []
    runs = runs_of(home, parsed, mode, faults)
    logs = _logs(runs, lambda client, run: order_rows(order_log(home.router(client, run))), faults)
    found = [
        row
        for row in heapq.merge(*logs, key=lambda row: row.at_ns)
        if _is_meant(parsed, row.client, row.strategy, row.symbol) and (row.is_open or not only_open)
    ][-(last or 0) :]
    if not found:
        raise_all(faults)
        must_name_something(home, target)
    name = attrgetter("client_order_id")
    show_results(found, output, name=name, table=_show_orders, otherwise="no orders")
    raise_all(faults)


@click.command()
@click.argument("target")
@last_option
@mode_option
@output_option
@click.pass_obj
def fills(home: Home, target: str, last: int | None, mode: str | None, output: str) -> None:
    """Show fills, in the order in which they were told."""
    parsed = parse_target(target)
    faults: list[StrategyRunnerError] = []
    logs = _logs(runs_of(home, parsed, mode, faults), partial(fills_told, home), faults)
    found = [
        fill
        for fill in heapq.merge(*logs, key=lambda fill: fill.event_ns)
        if _is_meant(parsed, fill.client, fill.strategy, fill.symbol)
    ][-(last or 0) :]
    if not found:
        raise_all(faults)
        must_name_something(home, target)
    show_results(found, output, name=attrgetter("fill_id"), table=_show_fills, otherwise="no fills")
    raise_all(faults)


@click.command()
@click.argument("target")
@click.option("--by", "level", type=click.Choice(LEVELS), default=None, help="Only these groups [default: all].")
@mode_option
@output_option
@click.pass_obj
def report(home: Home, target: str, level: str | None, mode: str | None, output: str) -> None:
    """Show profit and how it was made, by client, strategy, symbol and model.

    A trade goes from flat to flat, its result is after fees; among models it is divided by weight times confidence.
    """
    parsed = parse_target(target)
    faults: list[StrategyRunnerError] = []
    rows = report_on(home, runs_of(home, parsed, mode, faults), parsed, os.environ, faults)
    found = [row for row in rows if level in (None, row.level)]
    if not found:
        raise_all(faults)
        must_name_something(home, target)
    name = "{0.level} {0.name}".format
    show_results(found, output, name=name, table=_show_report, otherwise="no fills yet")
    raise_all(faults)


# -- inside ------------------------------------------------------------------------------------------------------------


def _logs(
    runs: Mapping[str, str], read: Callable[[str, str], list[T]], faults: list[StrategyRunnerError]
) -> list[list[T]]:
    """What `read` gives of each client's run; `faults` gets why it gives nothing of one."""
    logs: list[list[T]] = []
    for client, run in runs.items():
        with sparing(faults):
            logs.append(read(client, run))
    return logs


def _is_meant(target: Target, client: str, strategy: str, symbol: str) -> bool:
    return target.matches(WorkerKey(client, strategy, symbol).name)


def _show_orders(found: Sequence[OrderRow]) -> None:
    columns = (
        Column("time (UTC)", spare=5),
        Column("worker", folds=True),
        Column("leg"),
        Column("side"),
        Column("type", spare=4),
        Column("quantity", right=True),
        Column("price", right=True, spare=3),
        Column("filled", right=True, spare=1),
        Column("at", right=True, spare=2),
        Column("state"),
        Column("reason", folds=True),
        Column("order", spare=6),
    )
    rows = [
        (
            moment(one.at_ns),
            WorkerKey(one.client, one.strategy, one.symbol).name,
            one.leg,
            one.side,
            one.type,
            _plain(one.quantity),
            None if one.price is None else _plain(one.price),
            _plain(one.filled),
            None if one.average_price is None else _plain(one.average_price),
            one.state,
            one.reason or None,
            one.client_order_id,
        )
        for one in found
    ]
    show_table(columns, rows)


def _show_fills(found: Sequence[Fill]) -> None:
    columns = (
        Column("event time (UTC)"),
        Column("worker", folds=True),
        Column("side"),
        Column("quantity", right=True),
        Column("price", right=True),
        Column("fee", right=True, spare=1),
        Column("currency", spare=2),
        Column("signal", spare=3),
    )
    rows = [
        (
            moment(one.event_ns),
            WorkerKey(one.client, one.strategy, one.symbol).name,
            one.side,
            _plain(one.quantity),
            _plain(one.price),
            money(one.fee),
            one.currency,
            one.signal_id,
        )
        for one in found
    ]
    show_table(columns, rows)


def _show_report(found: Sequence[ReportRow]) -> None:
    columns = (
        Column("by"),
        Column("name", folds=True),
        Column("trades", right=True),
        Column("won", right=True, spare=1),
        Column("profit factor", right=True, spare=4),
        Column("result", right=True),
        Column("open", right=True, spare=2),
        Column("profit", right=True),
        Column("fees", right=True, spare=3),
        Column("max drawdown", right=True, spare=5),
        Column("best", right=True, spare=6),
        Column("worst", right=True, spare=7),
        Column("currency"),
    )
    rows = [
        (
            one.level,
            one.name,
            one.closed.trades,
            None if one.closed.win_rate is None else f"{one.closed.win_rate:.0%}",
            None if one.closed.profit_factor is None else f"{one.closed.profit_factor:.2f}",
            money(one.closed.result),
            money(one.open),
            money(one.profit),
            money(one.fees),
            money(one.closed.max_drawdown),
            money(one.closed.best),
            money(one.closed.worst),
            one.currency,
        )
        for one in found
    ]
    show_table(columns, rows)


def _plain(number: Decimal) -> str:
    return f"{number:z.8f}".rstrip("0").rstrip(".")


COMMANDS = [orders, fills, report]
