"""What the names in a Python file mean: which of them lead to an imported module or a builtin, and where they are used.

Python's own rules of scope, so that a parameter called `time` or a loop over `open, high, low, close` is what it is. A name
that is imported and assigned to as well means nothing certain and is left alone. What never runs in a worker, below
`if TYPE_CHECKING:` and `if __name__ == "__main__":`, is not looked at.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator

import msgspec

_BUILTINS = frozenset(dir(builtins))


class Use(msgspec.Struct, frozen=True):
    """A place where a full name is used; `call` if it is called there."""

    line: int
    name: str
    call: ast.Call | None


class Import(msgspec.Struct, frozen=True):
    """One name of an import statement: its module, the full name, and the name it is bound to. `level` counts dots."""

    line: int
    module: str
    name: str
    bound: str
    level: int


class Names(msgspec.Struct, frozen=True):
    """All imports of a file, and all uses of what leads out of it, each in the order of the file."""

    imports: list[Import]
    uses: list[Use]


def read_names(tree: ast.Module, star_names: "StarNames") -> Names:
    """`star_names(module)` are the names that `from module import *` brings."""
    reader = _Reader(star_names)
    for statement in tree.body:
        reader.visit(statement)
    uses = [
        Use(node.lineno, name, call) for node, scope, call in reader.references for name in scope.names_of(node)
    ]
    return Names(reader.imports, uses)


class StarNames:
    """Port: the names that a star import brings."""

    def __call__(self, module: str) -> Iterable[str]:
        raise NotImplementedError
