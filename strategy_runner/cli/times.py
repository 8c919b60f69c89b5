"""Moments on the command line: 2026-01-05, 2026-01-05T10:00:00Z, as nanoseconds UTC."""

from typing import Any

import click

from strategy_runner.config.times import time_ns


class Moment(click.ParamType):
    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value if "T" in value else f"{value}T00:00:00Z"
        try:
            return time_ns(text)
        except ValueError as error:
            self.fail(
                f"expected a moment such as 2026-01-05 or 2026-01-05T10:00:00Z, found {value!r} ({error})", param, ctx
            )


MOMENT = Moment()
