"""A configuration that was read whole: its value, its file, and where each single value came from."""

from typing import Any, Generic, TypeVar

import msgspec

from strategy_runner.config.layers import BUILT_IN
from strategy_runner.config.leaves import leaves, origin_around
from strategy_runner.config.notation import written

T = TypeVar("T", bound=msgspec.Struct)


class Loaded(msgspec.Struct, Generic[T], frozen=True):
    """`file` is relative to the home; `origins` maps the path of a value, such as risk.max_drawdown, to its origin."""

    value: T
    file: str
    origins: dict[str, str]

    def origin(self, path: str) -> str:
        """Where the value at a path, or the nearest list or table around it, came from."""
        return origin_around(self.origins, path) or self.file


class Row(msgspec.Struct, frozen=True):
    """One line of show-config. A secret shows as its reference: there is nothing else to show."""

    key: str
    value: str
    origin: str


def rows(loaded: Loaded[Any]) -> list[Row]:
    """Every value of a configuration in the order of the schema; what was not given is left out."""
    return [Row(path, written(value), loaded.origins.get(path, BUILT_IN)) for path, value in leaves(loaded.value, "")]
