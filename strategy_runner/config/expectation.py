"""What a key wants, judged and put into words: `a number in (0, 1]`."""

import math
import re
from typing import Any

import msgspec.inspect as inspect

from strategy_runner.config.notation import written
from strategy_runner.config.suggest import bare


def expected_instead(kind: inspect.Type, value: Any) -> str | None:
    """What was expected instead of this value, or None if it is right."""
    if _fits(bare(kind), value):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return phrase(kind).replace("a number", "a finite number")
    return phrase(kind)


def phrase(kind: inspect.Type) -> str:
    """What a key wants, in words: `a number in (0, 1]`."""
    if isinstance(kind, inspect.UnionType):
        (kind,) = (option for option in kind.types if not isinstance(option, inspect.NoneType))
    if isinstance(kind, inspect.Metadata):
        assert kind.extra_json_schema is not None, "the schema's only metadata are descriptions"
        return str(kind.extra_json_schema["description"])
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"an integer{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}" if _bounds(kind) else "a finite number"
        case inspect.StrType():
            return "a text that is not empty"
        case inspect.LiteralType(values=values):
            return ("one of " if len(values) > 1 else "") + ", ".join(written(value) for value in values)
        case inspect.VarTupleType():
            return "a list"
        case inspect.StructType(fields=fields) if required := [field.name for field in fields if field.required]:
            return f"a table with {', '.join(required)}"
    return "a table"


def is_hidden(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(is_hidden(option) for option in kind.types)
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get("hidden"))


def _fits(kind: inspect.Type, value: Any) -> bool:
    match kind:
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool) and _inside(kind, value)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool) and _finite(kind, value)
        case inspect.StrType(pattern=pattern, min_length=shortest, max_length=longest):
            return (
                isinstance(value, str)
                and (pattern is None or re.fullmatch(pattern, value) is not None)
                and (shortest or 0) <= len(value) <= (longest or len(value))
            )
        case inspect.LiteralType(values=values):
            return isinstance(value, str) and value in values
    raise AssertionError(f"the schema uses a type that nothing here examines: {kind}")


def _finite(kind: inspect.FloatType, value: int | float) -> bool:
    try:
        return math.isfinite(value) and _inside(kind, float(value))
    except OverflowError:
        return False


def _inside(kind: inspect.IntType | inspect.FloatType, value: int | float) -> bool:
    return (
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
    )


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low, high = plain(kind.ge if kind.gt is None else kind.gt), plain(kind.le if kind.lt is None else kind.lt)
    if low is None:
        return "" if high is None else f" {'<=' if kind.lt is None else '<'} {high}"
    if high is None:
        return f" {'>=' if kind.gt is None else '>'} {low}"
    return f" in {'[' if kind.gt is None else '('}{low}, {high}{']' if kind.lt is None else ')'}"


def plain(limit: float | None) -> float | None:
    """0 for 0.0: typing keeps one of two equal annotations, so which of them a limit was written as is chance."""
    return int(limit) if limit is not None and limit == int(limit) else limit
