"""The verbs positions and accounts: what clients hold, what it has gained, and what that makes of their accounts."""

import os
from collections.abc import Sequence
from decimal import Decimal

import click

from strategy_runner.cli.output import money, output_option, show_results, show_table, talk
from strategy_runner.cli.signals import mode_option, must_name_something, run_of
from strategy_runner.cli.table import Column
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, UsageError, raise_all, sparing
from strategy_runner.supervision.balances import Balance, balances
from strategy_runner.supervision.holdings import Holding, holdings, unprotected_of
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.wishes import clients_with_state, shown_mode

_COLUMNS = (
    Column("worker", folds=True),
    Column("account", spare=5),
    Column("fills", right=True, spare=2),
    Column("quantity", right=True),
    Column("average", right=True, spare=4),
    Column("last", right=True, spare=4),
    Column("realised", right=True, spare=1),
    Column("unrealised", right=True),
    Column("fees", right=True, spare=3),
    Column("funding", right=True, spare=6),
    Column("profit", right=True),
    Column("currency"),
)
_ACCOUNT_COLUMNS = (
    Column("client", folds=True),
    Column("account", folds=True),
    Column("cash", right=True, folds=True),
    Column("positions", right=True, spare=3),
    Column("equity", right=True),
    Column("margin", right=True, spare=2),
    Column("free", right=True, spare=1),
    Column("currency"),
)


@click.command()
@click.argument("target")
@mode_option
@output_option
@click.pass_obj
def positions(home: Home, target: str, mode: str | None, output: str) -> None:
    """Show what workers hold, and their profit, by their fills and the last prices of the run."""
    parsed = parse_target(target)
    faults: list[StrategyRunnerError] = []
    runs = runs_of(home, parsed, mode, faults)
    found = holdings(home, runs, parsed, os.environ, faults)
    if not found:
        raise_all(faults)
        must_name_something(home, target)
    show_results(found, output, name=lambda one: one.key.name, table=_show_positions, otherwise="no fills yet")
    for name, one in unprotected_of(home, runs, parsed, os.environ, faults).items():
        talk(
            f"warning: {name} holds {one.quantity.normalize():f} without a stop loss: {one.why}; "
            f"`strategy-runner flatten {name} --reason WHY` exits it"
        )
    raise_all(faults)


def _show_positions(found: Sequence[Holding]) -> None:
    show_table(_COLUMNS, [*map(_row, found), *_totals(found)])


@click.command()
@click.argument("target", metavar="CLIENT|all")
@mode_option
@output_option
@click.pass_obj
def accounts(home: Home, target: str, mode: str | None, output: str) -> None:
    """Show accounts: cash, equity and margin in the client's currency, at the last prices of the run."""
    parsed = parse_target(target)
    if parsed.strategy is not None or parsed.symbol is not None:
        raise UsageError(f"{target}: expected a client, or all: accounts belong to clients")
    faults: list[StrategyRunnerError] = []
    runs = runs_of(home, parsed, mode, faults)
    found = balances(home, runs, os.environ, faults)
    if not found:
        raise_all(faults)
    otherwise = "no account has traded, and none has cash to begin with" if runs else "no client has run yet"
    show_results(
        found, output, name=lambda one: f"{one.client} {one.account}", table=_show_accounts, otherwise=otherwise
    )
    raise_all(faults)


def _show_accounts(found: Sequence[Balance]) -> None:
    show_table(_ACCOUNT_COLUMNS, map(_account_row, found))
    for one in found:
        if one.problem:
            talk(one.problem)


def _account_row(one: Balance) -> tuple[object, ...]:
    cash = ", ".join(f"{money(amount)} {currency}" for currency, amount in sorted(one.cash.items())) or None
    value = one.value
    if value is None:
        return one.client, one.account, cash, None, None, None, None, None
    numbers = (value.value, value.equity, value.margin, value.free)
    return one.client, one.account, cash, *map(money, numbers), value.currency


def _row(one: Holding) -> tuple[object, ...]:
    return (
        one.key.name,
        one.account,
        one.fills,
        f"{one.quantity.normalize():f}",
        _short(one.average_price) if one.quantity else None,
        None if one.last_price is None else _short(one.last_price),
        money(one.realised),
        money(one.unrealised),
        money(one.fees),
        money(one.funding),
        money(one.profit),
        one.currency,
    )


def runs_of(home: Home, target: Target, mode: str | None, faults: list[StrategyRunnerError]) -> dict[str, str]:
    """The run that is read of each client that is meant, and has run; of all clients, `faults` gets why one's cannot be told."""
    if target.client is not None:
        return {target.client: run_of(home, target.client, mode)}
    clients = clients_with_state(home)
    if mode is None:
        runs: dict[str, str] = {}
        for client in clients:
            with sparing(faults):
                run = shown_mode(home, client)
                if run is not None:
                    runs[client] = run
        return runs
    found = {client: mode for client in clients if home.client_state(client, mode).is_dir()}
    if not found:
        raise UsageError(f"{target}: expected a {mode} run of some client, found none")
    return found


def _totals(found: Sequence[Holding]) -> list[tuple[object, ...]]:
    """One row for each client and currency, where it has more than one worker."""
    rows: list[tuple[object, ...]] = []
    for client, currency in dict.fromkeys((one.client, one.currency) for one in found):
        own = [one for one in found if (one.client, one.currency) == (client, currency)]
        if len(own) > 1:
            sums = (
                money(_sum([getattr(one, what) for one in own]))
                for what in ("realised", "unrealised", "fees", "funding", "profit")
            )
            rows.append((f"{client} total", None, sum(one.fills for one in own), None, None, None, *sums, currency))
    return rows


def _sum(numbers: Sequence[Decimal | None]) -> Decimal | None:
    """What is unknown of one is unknown of all."""
    known = [number for number in numbers if number is not None]
    return sum(known, Decimal(0)) if len(known) == len(numbers) else None


def _short(price: Decimal) -> str:
    return f"{Decimal(f'{price:.8g}').normalize():f}"


COMMANDS = [positions, accounts]
