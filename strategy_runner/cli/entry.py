"""Where the command begins. What the command line needs takes a moment to load: Ctrl-C then is one word, as it is later."""

import sys


def main() -> None:
    """Runs the command line, as `main` there says."""
    try:
        from strategy_runner.cli import main as command_line

        command_line.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
