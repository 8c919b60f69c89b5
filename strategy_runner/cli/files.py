"""Verbs about files: check, show-config, init, new-client, new-strategy."""

import os
from pathlib import Path

import click
import msgspec

from strategy_runner.cli.output import output_option, show_json, show_table, talk
from strategy_runner.cli.table import Column
from strategy_runner.config.availability import unreadable_secrets
from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, load_client, load_environment, unknown_client
from strategy_runner.config.loaded import rows
from strategy_runner.config.schema import ClientConfig, RiskConfig, SizingConfig
from strategy_runner.errors import ConfigurationError, SafetyRefusal
from strategy_runner.model.counted import counted
from strategy_runner.strategies.describe import unheard_of
from strategy_runner.strategies.scaffold import new_client as scaffold_client
from strategy_runner.strategies.scaffold import new_strategy as scaffold_strategy
from strategy_runner.supervision.layout import init_home
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.plan_client import load_wished
from strategy_runner.supervision.programs import check_sockets, check_templates
from strategy_runner.supervision.stranded import refuse_other_books, stranded
from strategy_runner.supervision.trial import refuse_what_cannot_begin
from strategy_runner.supervision.wishes import Wish, Wishes, read_wishes

environment_option = click.option(
    "--environment", metavar="NAME", help="Environment file configs/NAME.toml [default: the one in use]."
)


class Finding(msgspec.Struct, frozen=True):
    """One thing check has to say: an error stops the client, a warning does not."""

    level: str
    message: str


@click.command()
@click.argument("client", required=False)
@environment_option
@output_option
@click.pass_obj
def check(home: Home, client: str | None, environment: str | None, output: str) -> None:
    """Validate the files of a client, or of all.

    Down to the strategies' code and parameters; warns of secrets that cannot be read, and of callbacks that nothing calls.
    """
    findings = _check(home, client, environment or read_wishes(home).environment)
    if output == "json":
        show_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.level}: {finding.message}")
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        raise ConfigurationError(f"{counted(errors, 'error')} in {home.root}")
    talk(f"ok: {client or ', '.join(client_names(home))}")


@click.command(name="show-config")
@click.argument("client", required=False)
@environment_option
@output_option
@click.pass_obj
def show_config(home: Home, client: str | None, environment: str | None, output: str) -> None:
    """Show every value in effect, and where it came from.

    Without a client those of the environment file. Secrets stay references.
    """
    name = environment or read_wishes(home).environment
    loaded = load_environment(home, name, environ=os.environ)
    if client is None:
        shown = rows(loaded)
    else:
        _must_know(home, client)
        shown = rows(load_client(home, client, loaded, environ=os.environ))
    if output == "json":
        show_json(shown)
    elif output == "name":
        for row in shown:
            click.echo(row.key)
    else:
        columns = (Column("key"), Column("value", folds=True), Column("origin", folds=True))
        show_table(columns, ((row.key, row.value, row.origin) for row in shown))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Lay out a home folder: clients/, configs/, supervisor/."""
    for path in init_home(folder):
        click.echo(path)
    talk(f"next: strategy-runner --home {folder} start all")


@click.command(name="new-client")
@click.argument("name")
@click.pass_obj
def new_client(home: Home, name: str) -> None:
    """Make a client with a commented file that works as it is."""
    for path in scaffold_client(home, name):
        click.echo(path)


@click.command(name="new-strategy")
@click.argument("client")
@click.argument("name")
@click.pass_obj
def new_strategy(home: Home, client: str, name: str) -> None:
    """Make a client's own working strategy, and a test beside it."""
    for path in scaffold_strategy(home, client, name):
        click.echo(path)


# -- checking ----------------------------------------------------------------------------------------------------------


def _check(home: Home, client: str | None, environment: str) -> list[Finding]:
    if client is not None:
        _must_know(home, client)
    try:
        check_sockets(home, client_names(home))
        check_templates(home)
        load_environment(home, environment, environ=os.environ)
    except ConfigurationError as error:
        return [Finding("error", problem) for problem in error.problems]
    findings: list[Finding] = []
    for name in [client] if client else client_names(home):
        findings += _check_client(home, name, environment)
    return list(dict.fromkeys(findings))


def _check_client(home: Home, client: str, environment: str) -> list[Finding]:
    wishes = Wishes(environment=environment)
    try:
        _, loaded = load_wished(home, environment, client, Wish(), os.environ)
        live = loaded.value.mode == "live"
        plan = make_plan(home, wishes.with_client(client, Wish(live=live)), environ=os.environ)
        refuse_other_books(home, plan.processes)
        refuse_what_cannot_begin(home, plan.processes)
    except ConfigurationError as error:
        return [Finding("error", problem) for problem in error.problems]
    except SafetyRefusal as error:
        return [Finding("error", str(error))]
    warnings = [Finding("warning", line) for line in unreadable_secrets(loaded, os.environ)]
    if "oms" not in loaded.value.routes:
        warnings += [Finding("warning", f"{loaded.file}: {line}") for line in _without_orders(loaded.value)]
    names = list(dict.fromkeys(strategy.strategy for strategy in loaded.value.strategies))
    warnings += [Finding("warning", line) for line in unheard_of(home.client_strategies(client), names)]
    return warnings + [Finding("warning", line) for line in stranded(home, plan.processes)]


def _without_orders(config: ClientConfig) -> list[str]:
    """What a client asks for that only orders can have."""
    why = "without the route oms there are no orders"
    lines = [f"risk: valid, and held to by no one: {why}"] if config.risk != RiskConfig() else []
    for index, strategy in enumerate(config.strategies):
        keys = ["sizing"] if strategy.sizing != SizingConfig() else []
        keys += ["on_restart"] if strategy.on_restart != "resume" else []
        lines += [f"strategies[{index}].{key} ({strategy.id}): valid, and without effect: {why}" for key in keys]
    return lines


def _must_know(home: Home, client: str) -> None:
    known = client_names(home)
    if client not in known:
        raise unknown_client(home, client, known)


COMMANDS = [check, show_config, init, new_client, new_strategy]
