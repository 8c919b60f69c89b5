"""From a table of parameters in a file to a strategy's typed Params, with every fault named at once."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from math import isfinite
from typing import Any

import msgspec
import msgspec.inspect as inspect
from msgspec.structs import FieldInfo

from strategy_runner.config.notation import found, written
from strategy_runner.config.suggest import did_you_mean
from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.interface import Params, Strategy

# msgspec's own words: "Expected `int` >= 1, got `str` - at `$[0]`"
_MESSAGE = re.compile(r"(?P<expected>.*?)(?:, got .*?)?(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(?P<number>\d+)\]|\.(?P<key>\w+)")


def build_params(strategy: type[Strategy], params: Mapping[str, Any], where: str) -> Params:
    """The strategy's Params of a table. `where` begins each problem: `where: params.fast: expected ..., found ...`.

    A check across fields belongs into `__post_init__` of Params, as ValueError("fast: expected ..., found ...").
    Raises ConfigurationError.
    """
    fields = _fields(strategy.Params)
    problems: list[str] = []
    for key, value in params.items():
        if key not in fields:
            known = ", ".join(fields) or "no parameters"
            problems.append(f"params.{key}: expected one of {known}, found this unknown key{did_you_mean(key, fields)}")
        else:
            problems += _value_problems(f"params.{key}", value, fields[key].type)
    problems += [
        f"params.{key}: expected a value, found none"
        for key, field in fields.items()
        if field.required and key not in params
    ]
    if not problems:
        try:
            return msgspec.convert(dict(params), strategy.Params)
        except msgspec.ValidationError as error:
            problems.append(_across_fields(str(error), fields))
    raise ConfigurationError(*(f"{where}: {problem}" for problem in problems))


@cache
def _fields(kind: type[Params]) -> dict[str, FieldInfo]:
    """Kept, since to resolve annotations costs a worker's start more than the rest of this file."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _value_problems(where: str, value: Any, expected_type: Any) -> list[str]:
    missing_number = [
        f"{where}{path}: expected a finite number, found {found(number)}"
        for path, number in _floats(value)
        if not isfinite(number)
    ]
    if missing_number:
        return missing_number
    try:
        msgspec.convert(value, expected_type)
    except msgspec.ValidationError as error:
        match = _MESSAGE.fullmatch(str(error))
        assert match is not None, "every message matches: the pattern's parts are optional"
        expected = match["expected"].replace("`", "").replace("Expected", "expected", 1)
        if expected.startswith("Invalid enum value"):
            expected = f"expected one of {', '.join(map(written, _choices(inspect.type_info(expected_type))))}"
        path = match["path"] or ""
        return [f"{where}{path}: {expected}, found {found(_at(value, path))}"]
    return []


def _at(value: Any, path: str) -> Any:
    """What stands at msgspec's path in a value. Of a table's values it says `[...]`, and not which one: then the table."""
    while step := _STEP.match(path):
        value = value[step["key"] or int(step["number"])]
        path = path[step.end() :]
    return value


def _choices(kind: inspect.Type) -> list[Any]:
    """The values of a Literal or Enum, or of those that a list or a table may hold."""
    match kind:
        case inspect.LiteralType(values=values):
            return list(values)
        case inspect.EnumType(cls=cls):
            return [one.value for one in cls]
        case inspect.UnionType(types=types):
            return [choice for one in types for choice in _choices(one)]
        case (
            inspect.CollectionType(item_type=inner) | inspect.DictType(value_type=inner) | inspect.Metadata(type=inner)
        ):
            return _choices(inner)
        case _:
            return []


def _floats(value: Any, path: str = "") -> Iterable[tuple[str, float]]:
    """Every float in a value of a file, with its path in it."""
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _floats(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _floats(inner, f"{path}[{number}]")


def _across_fields(message: str, fields: Iterable[str]) -> str:
    key, colon, _ = message.partition(":")
    return f"params.{message}" if colon and key in fields else f"params: {message}"
