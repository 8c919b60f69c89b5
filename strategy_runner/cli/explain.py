"""Verb explain: the way of a signal, or of an order's signal, from its records to the sinks, or why a worker is parked."""

import click

from strategy_runner.cli.output import nameless_output_option, plain, show_json, takes_colours
from strategy_runner.cli.positions import runs_of
from strategy_runner.cli.signals import mode_option, run_of
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, UsageError, raise_all, sparing
from strategy_runner.model.names import WorkerKey
from strategy_runner.supervision.story import Story, tell, tell_order
from strategy_runner.supervision.target import Target, parse_target
from strategy_runner.supervision.worker_story import tell_worker


@click.command()
@click.argument("what", metavar="ID|WORKER")
@mode_option
@nameless_output_option
@click.pass_obj
def explain(home: Home, what: str, mode: str | None, output: str) -> None:
    """Show a signal's way from its records to the sinks, or why a worker (CLIENT:STRATEGY:SYMBOL) is parked.

    ID is a signal's, or that of an order or fill of it, as `orders -o name` and `fills -o name` print them.
    """
    story = _story_of(home, what, mode)
    if output == "json":
        show_json(story)
    else:
        _show_story(story)


def _story_of(home: Home, what: str, mode: str | None) -> Story:
    if "@" in what:
        return tell(home, what, mode)
    return _story_of_worker(home, what, mode) if ":" in what else _story_of_order(home, what, mode)


def _story_of_order(home: Home, order_id: str, mode: str | None) -> Story:
    """Whose order it is its id does not say: each client is asked."""
    faults: list[StrategyRunnerError] = []
    for client, run in runs_of(home, Target(), mode, faults).items():
        with sparing(faults):
            story = tell_order(home, client, run, order_id)
            if story is not None:
                return story
    raise_all(faults)
    raise _unknown(order_id)


def _unknown(what: str) -> UsageError:
    return UsageError(
        f"{what}: expected the id of a signal, order or fill that there is, or one worker such as CLIENT:STRATEGY:SYMBOL"
    )


def _story_of_worker(home: Home, target: str, mode: str | None) -> Story:
    parsed = parse_target(target)
    if parsed.client is None or parsed.strategy is None or parsed.symbol is None:
        raise _unknown(target)
    key = WorkerKey(parsed.client, parsed.strategy, parsed.symbol)
    return tell_worker(home, key, run_of(home, key.client, mode))


def _show_story(story: Story) -> None:
    for title, lines in story.chapters:
        click.echo(click.style(title, bold=True) if takes_colours() else title)
        for line in lines:
            click.echo(f"  {plain(line)}")


COMMANDS = [explain]
