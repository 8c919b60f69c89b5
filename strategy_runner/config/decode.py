"""Reads a layered tree against the schema: every fault explained at once, every value with its origin.

msgspec stops at the first fault, lets infinity through a bound and speaks of `$.strategies[...]`; so the tree is examined
here, and msgspec decodes what was found whole.
"""

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import msgspec.inspect as inspect

from strategy_runner.config.expectation import expected_instead, is_hidden, phrase
from strategy_runner.config.layers import BUILT_IN, Given
from strategy_runner.config.leaves import leaves, origin_around
from strategy_runner.config.notation import found, join
from strategy_runner.config.secret import SecretReference, quoted, reference_fault
from strategy_runner.config.suggest import bare, did_you_mean, key_paths, nearest

# stands where a value was at fault, so that rules over several keys can pass it by
BROKEN: Final = object()


class Reading:
    """One file being read: `file` is named where a value came from nowhere else, relative secrets lie below `root`."""

    def __init__(self, schema: type, *, file: str, root: Path, other: tuple[str, type] | None = None) -> None:
        """`other` is the file that keys put here by mistake may belong into, and its schema."""
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        self._schema = schema
        self._file = file
        self._root = root
        self._other = other

    def examine(self, given: Given) -> dict[str, Any]:
        """The tree as plain values, BROKEN where one is at fault."""
        tree = self._value(inspect.type_info(self._schema), given, "", "")
        assert isinstance(tree, dict), "a TOML document is a table"
        return tree

    def fault(self, path: str, text: str, *, label: str = "", origin: str | None = None) -> None:
        """One problem. `label` names the strategy the path lies in."""
        origin = origin or self.origin(path) or self._file
        self.problems.append(f"{origin}: {path}{f' ({label})' if label else ''}: {text}")

    def origin(self, path: str) -> str | None:
        """Where the value at a path, or the nearest table or list around it, came from."""
        origin = origin_around(self.origins, path)
        return None if origin == BUILT_IN else origin

    # -- tables and lists ----------------------------------------------------------------------------------------------

    def _value(self, kind: inspect.Type, given: Given, path: str, label: str) -> Any:
        match bare(kind):
            case inspect.StructType(cls=cls) if cls is SecretReference:
                return self._reference(given, path, label)
            case inspect.StructType() as struct:
                return self._struct(struct, given, path, label)
            case inspect.DictType() as table:
                return self._table(table, given, path, label)
            case inspect.VarTupleType() as items:
                return self._list(items, given, path, label)
            case inspect.AnyType():
                return self._anything(given, path, label)
            case _:
                return self._leaf(kind, given, path, label)

    def _struct(self, kind: inspect.StructType, given: Given, path: str, label: str) -> Any:
        if not isinstance(given.value, dict):
            return self._wrong(phrase(kind), given, path, label)
        fields = {field.name: field for field in kind.fields}
        aliases: dict[str, str] = getattr(kind.cls, "aliases", {})
        tree: dict[str, Any] = {}
        words: dict[str, str] = {}
        for word, item in given.value.items():
            key = str(aliases.get(word, word))
            inner = join(path, key)
            if key not in fields:
                self._unknown(word, item, kind, path, label)
            elif key in tree:
                self.fault(inner, f"expected it once, found {words[key]} and {word}", label=label, origin=item.origin)
            else:
                words[key] = word
                tree[key] = self._value(fields[key].type, item, inner, label)
        for key, field in fields.items():
            if key not in tree:
                self._absent(field, join(path, key), label)
        return tree

    def _table(self, kind: inspect.DictType, given: Given, path: str, label: str) -> Any:
        if not isinstance(given.value, dict):
            return self._wrong("a table", given, path, label)
        if not given.value:
            self.origins[path] = given.origin
        tree: dict[str, Any] = {}
        for key, item in given.value.items():
            expected = expected_instead(kind.key_type, key)
            if expected:
                self.fault(join(path, key), f"expected {expected} as key, found {found(key)}", origin=item.origin)
            tree[key] = self._value(kind.value_type, item, join(path, key), label)
        return tree

    def _list(self, kind: inspect.VarTupleType, given: Given, path: str, label: str) -> Any:
        if not isinstance(given.value, list):
            return self._wrong("a list", given, path, label)
        if kind.min_length and len(given.value) < kind.min_length:
            return self._wrong("a list with at least one item", given, path, label)
        self.origins[path] = given.origin
        return [
            self._value(kind.item_type, item, f"{path}[{index}]", label or _own_id(kind.item_type, item))
            for index, item in enumerate(given.value)
        ]

    # -- leaves --------------------------------------------------------------------------------------------------------

    def _leaf(self, kind: inspect.Type, given: Given, path: str, label: str) -> Any:
        expected = expected_instead(kind, given.value)
        if expected is not None:
            suggestion = ""
            literal = bare(kind)
            if isinstance(literal, inspect.LiteralType) and isinstance(given.value, str):
                near = nearest(given.value, (str(value) for value in literal.values))
                suggestion = f"; did you mean {quoted(near)}?" if near else ""
            if is_hidden(kind):
                self.fault(
                    path, f"expected {expected}, found something else (not shown)", label=label, origin=given.origin
                )
                return BROKEN
            return self._wrong(expected, given, path, label, suggestion)
        if not path.endswith("]"):
            self.origins[path] = given.origin
        return float(given.value) if isinstance(bare(kind), inspect.FloatType) else given.value

    def _reference(self, given: Given, path: str, label: str) -> Any:
        plain = given.plain()
        self.origins[path] = given.origin
        text = reference_fault(plain)
        if text is not None:
            self.fault(path, text, label=label, origin=given.origin)
            return BROKEN
        if "file" in plain:
            return {"file": str(self._root / plain["file"])}
        return plain

    def _anything(self, given: Given, path: str, label: str) -> Any:
        """A free value, such as a strategy's parameter: its own schema judges it later, but no number is ever not finite."""
        if isinstance(given.value, dict) and given.value:
            return {key: self._anything(item, join(path, key), label) for key, item in given.value.items()}
        self.origins[path] = given.origin
        if isinstance(given.value, list):
            return [self._anything(item, f"{path}[{index}]", label) for index, item in enumerate(given.value)]
        if isinstance(given.value, float) and not math.isfinite(given.value):
            return self._wrong("a finite number", given, path, label)
        if isinstance(given.value, int) and not -(2**63) <= given.value < 2**63:
            return self._wrong("an integer of at most 64 bits", given, path, label)
        return given.value

    # -- faults --------------------------------------------------------------------------------------------------------

    def _wrong(self, expected: str, given: Given, path: str, label: str, suggestion: str = "") -> Any:
        self.origins[path] = given.origin
        self.fault(path, f"expected {expected}, found {found(given.value)}{suggestion}", label=label)
        return BROKEN

    def _unknown(self, key: str, item: Given, kind: inspect.StructType, path: str, label: str) -> None:
        is_gone = key in getattr(kind.cls, "gone", ())
        fields = {field.name: field for field in kind.fields}
        advice = "; it never had an effect: remove it" if is_gone else self._advice(key, fields, path)
        self.fault(
            join(path, key),
            f"expected a known key, found {found(key)}{advice}",
            label=label,
            origin=item.origin,
        )

    def _advice(self, key: str, fields: dict[str, inspect.Field], path: str) -> str:
        """Near keys of the same table first, then the same key elsewhere in this file, then in the other file."""
        here = did_you_mean(key, fields)
        if here:
            return here
        for known in key_paths(inspect.type_info(self._schema)):
            if known.rpartition(".")[2] == key:
                return f"; did you mean {known}?"
        if self._other and not path:
            file, schema = self._other
            if key in key_paths(inspect.type_info(schema)):
                return f"; {key} belongs into {file}"
        return f"; known here: {', '.join(fields)}"

    def _absent(self, field: inspect.Field, path: str, label: str) -> None:
        if field.required:
            self.fault(path, f"expected {phrase(field.type)}, found nothing", label=label, origin=self._file)
            return
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for leaf, _ in leaves(default, path):
            self.origins[leaf] = BUILT_IN


def table_of(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """The table under a key of an examined tree; empty where there is none, or something else in its place."""
    table = tree.get(key)
    return table if isinstance(table, dict) else {}


def _own_id(kind: inspect.Type, given: Given) -> str:
    """The id of a table in a list, to name it beside its number."""
    own = given.get("id") if isinstance(bare(kind), inspect.StructType) else None
    return own.value if own is not None and isinstance(own.value, str) and len(own.value) <= 48 else ""
