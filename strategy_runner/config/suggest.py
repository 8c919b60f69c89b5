"""Did you mean: the known word nearest to the one somebody wrote."""

import difflib
from collections.abc import Iterable, Iterator

import msgspec.inspect as inspect

from strategy_runner.config.notation import join


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "mode"?`, or "" if no known word is near."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.72)
    return by_folded[near[0]] if near else None


def key_paths(kind: inspect.Type, path: str = "") -> Iterator[str]:
    """Every key a schema knows, with its path; SYMBOL and [] stand for what a file chooses."""
    match bare(kind):
        case inspect.StructType(fields=fields):
            for field in fields:
                inner = join(path, field.name)
                yield inner
                yield from key_paths(field.type, inner)
        case inspect.DictType(value_type=value_type):
            yield from key_paths(value_type, f"{path}.SYMBOL")
        case inspect.VarTupleType(item_type=item_type):
            yield from key_paths(item_type, f"{path}[]")


def bare(kind: inspect.Type) -> inspect.Type:
    """The type below descriptions and `| None`: TOML has no null, so what is given is never None."""
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            (kind,) = (option for option in kind.types if not isinstance(option, inspect.NoneType))
        else:
            return kind
