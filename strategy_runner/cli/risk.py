"""The verb risk: a client's breakers and limits, with all that they are measured by."""

import time
from decimal import Decimal

import click

from strategy_runner.cli.output import age, money, output_option, show_json, show_table, talk
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.errors import UsageError
from strategy_runner.risk.report import Gauge, Use, gauges, uses
from strategy_runner.risk.state import RiskState, limits_in_force
from strategy_runner.router.operator_log import Request
from strategy_runner.router.risk_record import read_risk
from strategy_runner.supervision.wishes import latest_mode

NUMBER_DIGITS = 6


@click.command()
@click.argument("client")
@output_option
@click.pass_obj
def risk(home: Home, client: str, output: str) -> None:
    """Show each breaker: what it measures, how far it is from opening, and how it closes; and of each limit what is used."""
    mode = latest_mode(home, client)
    state = read_risk(home.router(client, mode), client, mode)
    if state is None:
        raise UsageError(
            f"{client}: expected risk state of its {mode} run, found none: it is kept for clients with the route oms"
        )
    found = gauges(state, time.time_ns())
    if output == "json":
        show_json(found)
    elif output == "name":
        for one in found:
            click.echo(f"{one.breaker} {_where(client, one)}")
    else:
        _show_equity(state)
        _show_gauges(client, found)
        _show_uses(client, uses(state, time.time_ns()))
        _show_rules(found)


# -- inside ------------------------------------------------------------------------------------------------------------


def _show_gauges(client: str, found: list[Gauge]) -> None:
    now_ns = time.time_ns()
    columns = [
        Column("breaker"),
        Column("scope", folds=True),
        Column("state"),
        Column("value", right=True),
        Column("limit", right=True),
        Column("left", right=True),
        Column("for", right=True, spare=1),
    ]
    rows = [
        (
            one.breaker,
            _where(client, one),
            one.posture,
            _short(one.value),
            _short(one.limit),
            _short(one.distance),
            age((now_ns - one.since_ns) / 1e9) if one.since_ns else None,
        )
        for one in found
    ]
    if rows:
        show_table(columns, rows)
    else:
        talk("no breaker is configured, and none is open: [risk] of the client's file says which there are")
    for one in found:
        if one.since_ns:
            click.echo(f"{one.breaker} {_where(client, one)} is open: {one.facts}")


def _show_equity(state: RiskState) -> None:
    """What the formulas of losses are made of."""
    now = "not known, a rate is missing" if state.equity is None else money(state.equity)
    currency = limits_in_force(state).currency
    words = (
        f"equity {now} {currency}",
        f"at the day's start {money(state.day_start_equity)}",
        f"highest {money(state.peak_equity)}",
    )
    click.echo("; ".join(words))


def _show_uses(client: str, found: list[Use]) -> None:
    columns = [
        Column("limit"),
        Column("scope", folds=True),
        Column("used", right=True),
        Column("of", right=True),
        Column("left", right=True),
    ]
    rows = [
        (
            one.limit,
            _where(client, one),
            None if one.used is None else _plain(one.used),
            _plain(one.allowed),
            None if one.used is None else _plain(max(one.allowed - one.used, Decimal(0))),
        )
        for one in found
    ]
    if rows:
        click.echo()
        show_table(columns, rows)


def _show_rules(found: list[Gauge]) -> None:
    """How each breaker that is shown opens and closes, once."""
    rules = {one.breaker: (one.formula, one.reset) for one in found}
    columns = [Column("breaker"), Column("opens when", folds=True), Column("closes", folds=True)]
    if rules:
        click.echo()
        show_table(columns, [(name, *rule) for name, rule in rules.items()])


def _plain(number: Decimal) -> str:
    return f"{number:z,.8f}".rstrip("0").rstrip(".")


def _where(client: str, one: Gauge | Use) -> str:
    return client + Request(verb="halt", strategy=one.strategy, symbol=one.symbol).scope


def _short(number: Decimal | None) -> str | None:
    return None if number is None else _plain(Decimal(f"{number:.{NUMBER_DIGITS}g}"))


COMMANDS = [risk]
