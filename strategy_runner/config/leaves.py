"""The single values of a decoded configuration, each under its path such as strategies[0].models[1].weight."""

from collections.abc import Mapping
from typing import Any

import msgspec

from strategy_runner.config.notation import join
from strategy_runner.config.secret import SecretReference


def leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    """The values of a decoded configuration with their paths. What was not given (None) is left out; a list of plain
    values, a secret reference and an empty table are one value each."""
    if value is None:
        return []
    if isinstance(value, msgspec.Struct) and not isinstance(value, SecretReference):
        members = {name: getattr(value, name) for name in value.__struct_fields__}
        return [leaf for name, item in members.items() for leaf in leaves(item, join(path, name))]
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in leaves(item, join(path, name))]
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, f"{path}[{index}]")]
    return [(path, value)]


def origin_around(origins: Mapping[str, str], path: str) -> str | None:
    """The origin of the value at a path, or of the nearest list or table around it."""
    while path and path not in origins:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return origins.get(path)
