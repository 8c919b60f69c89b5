"""The entry point: finds the home, gathers the verbs, turns errors into messages and exit codes."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from strategy_runner import __version__
from strategy_runner.cli.output import plain
from strategy_runner.config.home import Home
from strategy_runner.errors import ConfigurationError, StrategyRunnerError, UsageError

LINE_ENDS = "\n"  # of messages of several lines, such as the last ones of a log
HOME_HELP = "Folder with clients/, configs/ and var/ [default: STRATEGY_RUNNER_HOME, or here]."


# A module is imported when its verb is asked for: whoever types `signals` does not wait for what `start` needs.
VERBS = {
    "running": ("supervise", "up", "down", "start", "stop", "restart", "status", "plan", "apply", "logs"),
    "operating": ("halt", "resume", "flatten", "reconcile"),
    "risk": ("risk",),
    "signals": ("signals",),
    "explain": ("explain",),
    "sql": ("sql",),
    "positions": ("positions", "accounts"),
    "trading": ("orders", "fills", "report"),
    "audit": ("audit",),
    "recorded": ("backtest", "import", "export"),
    "evidence": ("parity", "replay", "doctor"),
    "files": ("check", "show-config", "init", "new-client", "new-strategy"),
}


class Verbs(click.Group):
    """The verbs of VERBS, each found in the COMMANDS of its module."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # names alone: what click suggests for one that it does not know
        self.commands = {verb: click.Command(verb) for verbs in VERBS.values() for verb in verbs}

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        module = next((module for module, verbs in VERBS.items() if name in verbs), None)
        if module is None:
            return None
        commands: list[click.Command] = import_module(f"strategy_runner.cli.{module}").COMMANDS
        command = next(command for command in commands if command.name == name)
        if not any(parameter.name == "home" for parameter in command.params):
            # --home may stand before the verb and after it
            command.params.append(
                click.Option(["--home"], metavar="DIR", expose_value=False, callback=_use_home, help=HOME_HELP)
            )
        return command


def every_verb() -> dict[str, click.Command]:
    """Every verb, by its name."""
    context = click.Context(cli)
    return {name: command for name in cli.list_commands(context) if (command := cli.get_command(context, name))}


def _use_home(context: click.Context, _: click.Parameter, given: str | None) -> None:
    if given is not None:
        context.obj = Home.find(given)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help=HOME_HELP)
@click.version_option(__version__, prog_name="strategy-runner")
@click.pass_context
def cli(context: click.Context, home: str | None) -> None:
    """Runs every client x strategy x symbol as one isolated process, from one tape.

    TARGET is CLIENT, CLIENT:STRATEGY, CLIENT:STRATEGY:SYMBOL or all.
    """
    context.obj = Home.find(home)


def main() -> None:
    """Runs the command line. Exit codes: see errors.py; an interrupt ends with 130."""
    _open_what_was_closed()
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
            click.echo(f"error: {plain(problem, keeps=LINE_ENDS)}", err=True)
        code = error.exit_code
    except StrategyRunnerError as error:
        click.echo(f"error: {plain(str(error), keeps=LINE_ENDS)}", err=True)
        code = error.exit_code
    except OSError as error:
        # whoever reads or writes a file names it; what says nothing of a file is about what is printed
        click.echo(f"error: {error.filename or 'output'}: {error.strerror or error}", err=True)
        code = StrategyRunnerError.exit_code
        _drop_output()
    except UnicodeEncodeError:
        wrong = _not_in_utf8()
        if not wrong:
            raise
        click.echo(f"error: {wrong}", err=True)
        code = UsageError.exit_code
    except SystemExit:
        code = 0  # click's way out when the reader of a pipe has left: it has what it wanted
    sys.exit(code if isinstance(code, int) else 0)


def _not_in_utf8() -> str:
    """What of all that the command was given cannot be written anywhere; "" if everything can. No variable's value is shown."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("STRATEGY_RUNNER")}
    given = {
        "arguments": {word: word for word in sys.argv},
        "variables": {name: name + value for name, value in ours.items()},
        "a current folder": {str(Path.cwd()): str(Path.cwd())},
    }
    for kind, words in given.items():
        wrong = [shown for shown, word in words.items() if any("\udc80" <= letter <= "\udcff" for letter in word)]
        if wrong:
            return f"expected {kind} in UTF-8, found {', '.join(map(ascii, wrong))}"
    return ""


def _open_what_was_closed() -> None:
    """A standard stream that the caller has closed, as `>&-` does, leads nowhere: else the next file that is opened, a lock or a
    log, would have its number, and get what is said there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # by a daemon
            setattr(sys, name, open(number, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115  a descriptor, for good


def _drop_output() -> None:
    """What could not be printed: the interpreter would try once more at its end, and say so in its own words."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
