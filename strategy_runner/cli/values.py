"""Values on the command line: moments such as 2026-01-05 or 2026-01-05T10:00:00Z, as nanoseconds UTC, and finite numbers."""

import math
from typing import Any

import click

from strategy_runner.config.times import time_ns

_FIRST_YEAR = 1700  # history may be old, and int64 nanoseconds begin in 1677


def moment_ns(text: str) -> int:
    """Never 0, which says that an end is open: 1970-01-01T00:00 is the nanosecond before."""
    try:
        return time_ns(text if "T" in text else f"{text}T00:00:00Z", _FIRST_YEAR) or -1
    except ValueError:
        raise click.BadParameter(
            f"expected a moment such as 2026-01-05 or 2026-01-05T10:00:00Z, found {text!r}"
        ) from None


class FiniteRange(click.FloatRange):
    """A float in a range. No range of click's keeps `nan` out, and one without an end lets `inf` in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, found {value}", param, ctx)
        return number
