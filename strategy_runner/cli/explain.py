"""Verb explain: a signal's way from its records to the sinks, or why a worker is parked."""

import click

from strategy_runner.cli.output import nameless_output_option, plain, show_json, takes_colours
from strategy_runner.cli.signals import mode_option, run_of
from strategy_runner.config.home import Home
from strategy_runner.errors import UsageError
from strategy_runner.model.names import WorkerKey
from strategy_runner.supervision.story import Story, tell
from strategy_runner.supervision.target import parse_target
from strategy_runner.supervision.worker_story import tell_worker


@click.command()
@click.argument("signal_id", metavar="ID|WORKER")
@mode_option
@nameless_output_option
@click.pass_obj
def explain(home: Home, signal_id: str, mode: str | None, output: str) -> None:
    """Show a signal's way from its records to the sinks, or why a worker (CLIENT:STRATEGY:SYMBOL) is parked."""
    story = tell(home, signal_id, mode) if "@" in signal_id else _story_of_worker(home, signal_id, mode)
    if output == "json":
        show_json(story)
    else:
        _show_story(story)


def _story_of_worker(home: Home, target: str, mode: str | None) -> Story:
    parsed = parse_target(target)
    if parsed.client is None or parsed.strategy is None or parsed.symbol is None:
        raise UsageError(f"{target}: expected the id of a signal or one worker such as CLIENT:STRATEGY:SYMBOL")
    key = WorkerKey(parsed.client, parsed.strategy, parsed.symbol)
    return tell_worker(home, key, run_of(home, key.client, mode))


def _show_story(story: Story) -> None:
    for title, lines in story.chapters:
        click.echo(click.style(title, bold=True) if takes_colours() else title)
        for line in lines:
            click.echo(f"  {plain(line)}")


COMMANDS = [explain]
