"""The entry point: finds the home, gathers the verbs, turns errors into messages and exit codes."""

import sys

import click

from strategy_runner import __version__
from strategy_runner.cli import audit, evidence, files, operating, positions, recorded, running, signals, trading
from strategy_runner.config.home import Home
from strategy_runner.errors import ConfigurationError, StrategyRunnerError

HOME_HELP = "Folder with clients/, configs/ and var/ [default: STRATEGY_RUNNER_HOME, or here]."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help=HOME_HELP)
@click.version_option(__version__, prog_name="strategy-runner")
@click.pass_context
def cli(context: click.Context, home: str | None) -> None:
    """Runs every client x strategy x symbol as one isolated process, from one tape.

    TARGET is CLIENT, CLIENT:STRATEGY, CLIENT:STRATEGY:SYMBOL or all.
    """
    context.obj = Home.find(home)


def _use_home(context: click.Context, _: click.Parameter, given: str | None) -> None:
    if given is not None:
        context.obj = Home.find(given)


for group in (running, operating, signals, positions, trading, audit, recorded, evidence, files):
    for command in group.COMMANDS:
        # --home may stand before the verb and after it
        command.params.append(
            click.Option(["--home"], metavar="DIR", expose_value=False, callback=_use_home, help=HOME_HELP)
        )
        cli.add_command(command)


def main() -> None:
    """Runs the command line. Exit codes: see errors.py; an interrupt ends with 130."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        code = error.exit_code
    except StrategyRunnerError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except SystemExit:
        code = 0  # click's way out when the reader of a pipe has left: it has what it wanted
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
