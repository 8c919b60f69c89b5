"""Numbers on the command line: as click's own, and finite."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A float in a range. No range of click's keeps `nan` out, and one without an end lets `inf` in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, found {value}", param, ctx)
        return number
