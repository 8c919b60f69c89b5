"""Layers of configuration put on top of each other, every value knowing where it came from.

A layer is a tree of `Given`. Tables merge key by key; anything else, a secret reference too, replaces what lies below.
"""

from typing import Any

import msgspec
import msgspec.inspect as inspect

from strategy_runner.config.secret import SecretReference
from strategy_runner.config.suggest import bare

BUILT_IN = "built-in"


class Given(msgspec.Struct, frozen=True):
    """A value with its origin; `value` of a table is a dict of Given, of a list a list of Given."""

    value: Any
    origin: str

    def get(self, key: str) -> "Given | None":
        return self.value.get(key) if isinstance(self.value, dict) else None

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def mark(raw: Any, origin: str) -> Given:
    """A raw value as a layer of one origin. TOML has no null: what is None was not given."""
    if isinstance(raw, dict):
        return Given({key: mark(item, origin) for key, item in raw.items() if item is not None}, origin)
    if isinstance(raw, list | tuple):
        return Given([mark(item, origin) for item in raw], origin)
    return Given(raw, origin)


def at(path: list[str], value: Given) -> Given:
    """A layer that holds one value at one path."""
    for key in reversed(path):
        value = Given({key: value}, value.origin)
    return value


def merge(kind: inspect.Type | None, lower: Given, upper: Given) -> Given:
    """`upper` on top of `lower`; `kind` is the schema's type of both, None where it knows none."""
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)) or _is_atomic(kind):
        return upper
    merged = dict(lower.value)
    for key, item in upper.value.items():
        below = merged.get(key)
        merged[key] = item if below is None else merge(_member(kind, key), below, item)
    return Given(merged, upper.origin)


def _is_atomic(kind: inspect.Type | None) -> bool:
    return isinstance(kind, inspect.StructType) and kind.cls is SecretReference


def _member(kind: inspect.Type | None, key: str) -> inspect.Type | None:
    match kind:
        case inspect.StructType(fields=fields):
            return next((bare(field.type) for field in fields if field.name == key), None)
        case inspect.DictType(value_type=value_type):
            return bare(value_type)
        case _:
            return None
