"""What the names in a Python file mean: which of them lead to an imported module or a builtin, and where they are used.

Python's own rules of scope, so that a parameter called `time` or a loop over `open, high, low, close` is what it is. A name
that is imported and assigned to as well means nothing certain and is left alone. What never runs in a worker, below
`if TYPE_CHECKING:` and `if __name__ == "__main__":`, is not looked at.
"""

import ast
import builtins
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

_BUILTINS = frozenset(dir(builtins))
_OTHER = None
# what a name was bound to: a full name, an expression that may lead to one, or something else
_Bound = str | ast.expr | None


class Import(msgspec.Struct, frozen=True):
    """One name of an import statement: the module it names, with `level` dots before it, and the full name it brings."""

    line: int
    level: int
    module: str
    name: str


class Use(msgspec.Struct, frozen=True):
    """A place where a full name is used; `call` if it is called there."""

    line: int
    name: str
    call: ast.Call | None


class Names(msgspec.Struct, frozen=True):
    """All imports of a file, and all uses of what leads out of it."""

    imports: list[Import]
    uses: list[Use]


def read_names(tree: ast.Module, star_names: Callable[[str], Iterable[str]]) -> Names:
    """`star_names(module)` are the names that `from module import *` is known to bring."""
    reader = _Reader(star_names)
    reader.visit(tree)
    uses = [Use(node.lineno, name, call) for node, scope, call in reader.noted for name in scope.names_of(node)]
    return Names(reader.imports, uses)


class _Scope:
    """The names that one module, class, function or comprehension binds."""

    def __init__(self, parent: "_Scope | None" = None, *, is_class: bool = False, is_inline: bool = False) -> None:
        self.parent = parent
        self.is_inline = is_inline
        self._is_class = is_class
        self._bound: dict[str, list[tuple[_Bound, _Scope]]] = {}
        self._elsewhere: dict[str, _Scope] = {}

    def bind(self, name: str, to: _Bound, within: "_Scope | None" = None) -> None:
        home = self._elsewhere.get(name, self)
        home._bound.setdefault(name, []).append((to, within or self))

    def declare(self, name: str, *, is_global: bool) -> None:
        """`global name` or `nonlocal name`."""
        home = self.parent or self
        while home.parent is not None and (is_global or home._is_class):
            home = home.parent
        self._elsewhere[name] = home

    def names_of(self, node: ast.expr, seen: frozenset[tuple[int, str]] = frozenset()) -> list[str]:
        """Full names that an expression may stand for; none if it is the file's own or cannot be told."""
        match node:
            case ast.Name(id=name):
                return self._names_of(name, seen)
            case ast.Attribute(value=value, attr=attr):
                return [f"{name}.{attr}" for name in self.names_of(value, seen)]
            case ast.Call(func=ast.Name() | ast.Attribute() as function, args=[ast.Constant(value=str(module)), *_]):
                found = self.names_of(function, seen)
                if "importlib.import_module" in found:
                    return [module]
                return [module.partition(".")[0]] if "builtins.__import__" in found else []
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                return [f"{name}.{attr}" for name in self.names_of(value, seen)]
        return []

    def _names_of(self, name: str, seen: frozenset[tuple[int, str]]) -> list[str]:
        scope = self._scope_of(name)
        if scope is None:
            return [f"builtins.{name}"] if name in _BUILTINS else []
        if (id(scope), name) in seen:
            return []
        seen |= {(id(scope), name)}
        names: list[str] = []
        for to, within in scope._bound[name]:
            found = [to] if isinstance(to, str) else within.names_of(to, seen) if to is not None else []
            if not found:
                return []
            names += found
        return names

    def _scope_of(self, name: str) -> "_Scope | None":
        scope: _Scope | None = self._elsewhere.get(name, self)
        while scope is not None:
            if name in scope._bound and (scope is self or not scope._is_class):
                return scope
            scope = scope.parent
        return None


class _Reader(ast.NodeVisitor):
    """Fills the scopes of a file, and notes every expression that may lead out of it together with its scope."""

    def __init__(self, star_names: Callable[[str], Iterable[str]]) -> None:
        self._star_names = star_names
        self._scope = _Scope()
        self.imports: list[Import] = []
        self.noted: list[tuple[ast.expr, _Scope, ast.Call | None]] = []

    # -- uses ------------------------------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._note(node)
        else:
            self._scope.bind(node.id, _OTHER)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._reach(node, None)

    def visit_Call(self, node: ast.Call) -> None:
        self._note(node)  # what import_module("...") or getattr(...) leads to
        self._reach(node.func, node)
        self._visit_all(node.args)
        self._visit_all(keyword.value for keyword in node.keywords)

    def _reach(self, node: ast.expr, call: ast.Call | None) -> None:
        """Notes a whole `a.b.c` once, and visits what it begins with if that is no name."""
        self._note(node, call)
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name):
            self.visit(root)

    def _note(self, node: ast.expr, call: ast.Call | None = None) -> None:
        self.noted.append((node, self._scope, call))

    # -- bindings --------------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.append(Import(node.lineno, 0, alias.name, alias.name))
            top = alias.name.partition(".")[0]
            self._scope.bind(alias.asname or top, alias.name if alias.asname else top)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        for alias in node.names:
            name = f"{module}.{alias.name}"
            self.imports.append(Import(node.lineno, node.level, module, alias.name if node.level else name))
            if node.level:
                self._scope.bind(alias.asname or alias.name, _OTHER)
            elif alias.name == "*":
                for known in self._star_names(module):
                    self._scope.bind(known, f"{module}.{known}")
            else:
                self._scope.bind(alias.asname or alias.name, name)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._bind_target(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
        self._bind_target(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        home = self._scope
        while home.is_inline and home.parent is not None:
            home = home.parent
        home.bind(node.target.id, node.value, self._scope)

    def _bind_target(self, target: ast.expr, value: ast.expr | None) -> None:
        if not isinstance(target, ast.Name):
            self.visit(target)
        elif not (isinstance(value, ast.Constant) and value.value is None):  # None stands in for a missing library
            self._scope.bind(target.id, value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind_other(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._bind_other(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind_other(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind_other(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._scope.declare(name, is_global=True)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            self._scope.declare(name, is_global=False)

    def _bind_other(self, name: str | None) -> None:
        if name is not None:
            self._scope.bind(name, _OTHER)

    # -- scopes ----------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.bind(node.name, _OTHER)
        self._visit_all(node.decorator_list)
        if node.returns is not None:
            self.visit(node.returns)
        self._visit_function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  ast's names

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node.args, [node.body])

    def _visit_function(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        self._visit_all(argument.annotation for argument in every if argument.annotation is not None)
        self._visit_all(default for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None)
        self._enter(_Scope(self._scope))
        for argument in every:
            self._scope.bind(argument.arg, _OTHER)
        self._visit_all(body)
        self._leave()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.bind(node.name, _OTHER)
        self._visit_all((*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)))
        self._enter(_Scope(self._scope, is_class=True))
        self._visit_all(node.body)
        self._leave()

    def _visit_comprehension(self, node: Any) -> None:
        self.visit(node.generators[0].iter)  # runs outside
        self._enter(_Scope(self._scope, is_inline=True))
        for number, generator in enumerate(node.generators):
            self.visit(generator.target)
            if number:
                self.visit(generator.iter)
            self._visit_all(generator.ifs)
        self._visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self._leave()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815  ast's names

    def visit_If(self, node: ast.If) -> None:
        if not never_runs(node.test):
            self.visit(node.test)
            self._visit_all(node.body)
        self._visit_all(node.orelse)

    def _enter(self, scope: _Scope) -> None:
        self._scope = scope

    def _leave(self) -> None:
        assert self._scope.parent is not None, "left what was entered"
        self._scope = self._scope.parent

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def never_runs(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
    return False
