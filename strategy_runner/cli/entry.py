"""Where the command begins. What the command line needs takes a moment to load: Ctrl-C then is one word, as it is later."""

import os
import sys

from strategy_runner.pinned_environment import PINNED_ENVIRONMENT


def main() -> None:
    """Runs the command line, as `main` there says, in the environment that every process of ours has."""
    try:
        _pin_environment()
        from strategy_runner.cli import main as command_line

        command_line.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _pin_environment() -> None:
    """What runs strategies in children of its own (backtest, parity, replay) must give what workers give, to whom a set of words
    has one order in every process. Python reads this at its start alone, so the command begins anew where it is not so."""
    if any(os.environ.get(name) != value for name, value in PINNED_ENVIRONMENT.items()):
        os.environ.update(PINNED_ENVIRONMENT)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
