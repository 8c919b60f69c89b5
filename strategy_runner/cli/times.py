"""Moments on the command line: 2026-01-05, 2026-01-05T10:00:00Z, as nanoseconds UTC."""

import click

from strategy_runner.config.times import time_ns


def moment_ns(text: str) -> int:
    try:
        return time_ns(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError:
        raise click.BadParameter(
            f"expected a moment such as 2026-01-05 or 2026-01-05T10:00:00Z, found {text!r}"
        ) from None
