"""Single values from outside the files: STRATEGY_RUNNER__SECTION__KEY variables, and dotted paths of the command line."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import msgspec.inspect as inspect

from strategy_runner.config.layers import Given, at, mark, merge
from strategy_runner.config.notation import found
from strategy_runner.config.suggest import bare, key_paths, nearest
from strategy_runner.config.toml_file import is_too_deep

PREFIX = "STRATEGY_RUNNER__"
COMMAND_LINE = "command line"


class Assignment(msgspec.Struct, frozen=True):
    """One value and the keys that lead to it. `value` of a variable is its raw text."""

    kind: Literal["variable", "option"]
    name: str
    keys: tuple[str, ...]
    value: Any

    @property
    def origin(self) -> str:
        return self.name if self.kind == "variable" else COMMAND_LINE


def assignments(environ: Mapping[str, str], overrides: Mapping[str, object]) -> list[Assignment]:
    """All of them, the weakest first."""
    variables = [
        Assignment("variable", name, tuple(name.removeprefix(PREFIX).split("__")), text)
        for name, text in sorted(environ.items())
        if name.startswith(PREFIX)
    ]
    options = [
        Assignment("option", name, _keys(name), str(value) if isinstance(value, Path) else value)
        for name, value in overrides.items()
    ]
    return variables + options


def apply(given: Given, schema: type, assigned: Sequence[Assignment]) -> Given:
    """The layers with every assignment that this schema knows on top."""
    root = inspect.type_info(schema)
    for assignment in assigned:
        located = _locate(root, given, assignment.keys)
        if located is not None:
            path, kind = located
            value = assignment.value
            if assignment.kind == "variable":
                value = _read(assignment.value, kind)
            given = merge(root, given, at(path, mark(value, assignment.origin)))
    return given


def unknown(assigned: Sequence[Assignment], schemas: Sequence[type]) -> list[str]:
    """A problem for each assignment that no schema knows. Its value is not repeated: it may be a secret."""
    kinds = [inspect.type_info(schema) for schema in schemas]
    empty = Given({}, "")
    return [
        f"{_place(one)}: expected a known key, found {found('.'.join(one.keys))}{_advice(one, kinds)}"
        for one in assigned
        if not any(_locate(kind, empty, one.keys) for kind in kinds)
    ]


def _locate(kind: inspect.Type, given: Given | None, keys: Sequence[str]) -> tuple[list[str], inspect.Type] | None:
    """The keys as schema and files spell them (a variable has capitals only), and the type at their end."""
    path: list[str] = []
    for key in keys:
        match bare(kind):
            case inspect.StructType(fields=fields):
                field = next((field for field in fields if field.name.casefold() == key.casefold()), None)
                if field is None:
                    return None
                name, kind = field.name, field.type
            case inspect.DictType(value_type=value_type):
                known = given.value if given is not None and isinstance(given.value, dict) else {}
                name = next((name for name in known if name.casefold() == key.casefold()), key)
                kind = value_type
            case _:
                return None
        path.append(name)
        given = given.get(name) if given is not None else None
    return (path, bare(kind)) if path else None


def _read(text: str, kind: inspect.Type) -> Any:
    """A variable's text as a TOML value, else as a string; where the schema wants a string it is taken as it stands."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # a text with a line end could smuggle in further keys
    if parsed.keys() != {"value"} or is_too_deep(parsed):
        return text
    wants_text = isinstance(kind, inspect.StrType | inspect.LiteralType)
    return text if wants_text and not isinstance(parsed["value"], str) else parsed["value"]


def _keys(dotted: str) -> tuple[str, ...]:
    """The keys of a dotted path, spelled as TOML spells it, so that `instruments."BRK.B".price` has three."""
    try:
        node: Any = tomllib.loads(f"{dotted} = 0")
    except ValueError:
        return (dotted,)
    keys: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        ((key, node),) = node.items()
        keys.append(key)
    return tuple(keys)


def _place(assignment: Assignment) -> str:
    return assignment.name if assignment.kind == "variable" else f"{COMMAND_LINE}: {assignment.name}"


def _advice(assignment: Assignment, kinds: Sequence[inspect.Type]) -> str:
    known = {path for kind in kinds for path in key_paths(kind) if "[]" not in path}
    near = nearest(".".join(assignment.keys), known)
    if near is None:
        return ""
    spelled = PREFIX + near.upper().replace(".", "__") if assignment.kind == "variable" else near
    return f"; did you mean {spelled}?"
