"""State outside `self`: what a class body or a default value holds and the code changes, so that a restart loses it.

A snapshot holds what is kept in `self`. `closes = deque(maxlen=20)` in a class body reads just like that, but then
`self.closes.append(price)` changes the class, of which the next process makes a new one. What is only read there is constant,
and what is assigned through `self` as well (`self.closes = deque(maxlen=20)`) is kept.

Only what is sure is told: a change through `self`, `type(self)` or the name of the class, in the file of the class; fields of
dataclasses and the like, which are each object's own, are left alone.
"""

import ast
from collections.abc import Iterator, Mapping

from strategy_runner.strategies.guard_rules import Rule
from strategy_runner.strategies.guard_scope import never_runs

_KEPT = "state in self, which is kept over a restart"
IN_CLASS = Rule(_KEPT, "a change of what the class holds, which is lost", "make it in on_start")
IN_DEFAULT = Rule(_KEPT, "a change of a default value, which is lost", "make it in on_start")

# methods that change their object, wherever they are called; and those that do if nobody wants what they return
_CHANGING = {"pop", "popleft", "popitem", "setdefault"}
_CHANGING_ALONE = {
    *(
        "append",
        "appendleft",
        "extend",
        "extendleft",
        "insert",
        "remove",
        "discard",
        "clear",
        "add",
        "update",
        "subtract",
    ),
    *("sort", "reverse", "rotate", "fill", "put", "push", "move_to_end"),
    *("intersection_update", "difference_update", "symmetric_difference_update"),
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef
Place = tuple[int, str, Rule]


def lost_state(tree: ast.Module) -> list[Place]:
    """Line, name and rule of each attribute of a class and each default value that is changed."""
    nodes = [*_made_once(tree)]
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    methods = [(owner, method) for owner in classes.values() for method in _methods(owner)]
    kept = {name for _, method in methods for name in _assigned(method)}
    plain = {name for node in nodes if isinstance(node, ast.ImportFrom) for name in _strategies_brought(node)}
    found: set[Place] = set()
    for owner, method in methods:
        shared = {name: at for name, at in _shared(owner, classes, plain).items() if name not in kept}
        found |= {(line, what, IN_CLASS) for line, what in _changed_in_class(method, owner, shared, classes)}
    for node in nodes:
        if isinstance(node, _Function):
            found |= {(node.lineno, f"{node.name}({name}=...)", IN_DEFAULT) for name in _changed_defaults(node)}
    return [*found]


def _made_once(node: ast.AST) -> Iterator[ast.AST]:
    """What is made when the file is imported: not what a function makes each time, nor what never runs in a worker."""
    yield node
    if isinstance(node, _Function | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and never_runs(child.test)):
            yield from _made_once(child)


# -- classes -----------------------------------------------------------------------------------------------------------


def _methods(node: ast.ClassDef) -> list[_Function]:
    """Those that are called with an object."""
    functions = [one for one in node.body if isinstance(one, _Function) and one.args.posonlyargs + one.args.args]
    return [one for one in functions if one.name != "__init_subclass__" and not _is_of_class(one)]


def _is_of_class(function: _Function) -> bool:
    return any(
        isinstance(one, ast.Name) and one.id in ("classmethod", "staticmethod") for one in function.decorator_list
    )


def _me(method: _Function) -> str:
    return (method.args.posonlyargs + method.args.args)[0].arg


def _assigned(method: _Function) -> Iterator[str]:
    """Names of `self.NAME = ...`. With += it would be the class's object still."""
    added = {id(node.target) for node in ast.walk(method) if isinstance(node, ast.AugAssign)}
    for node in ast.walk(method):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr, ctx=ast.Store()) if name == _me(method):
                if id(node) not in added:
                    yield attr


def _strategies_brought(node: ast.ImportFrom) -> Iterator[str]:
    """Names of classes to inherit from whose annotated attributes are no fields."""
    if (node.module or "").startswith("strategy_runner.strategies"):
        yield from (alias.asname or alias.name for alias in node.names if alias.name != "Params")


def _shared(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], plain: set[str], below: tuple[str, ...] = ()
) -> dict[str, tuple[int, str]]:
    """Line and full name of each attribute that the body of a class, or of one it inherits from, gives a value."""
    above = [base.id for base in node.bases if isinstance(base, ast.Name)]
    found: dict[str, tuple[int, str]] = {}
    for name in above:
        if name in classes and name not in below:
            found |= _shared(classes[name], classes, plain, (*below, node.name))
    has_fields = _has_fields(node, classes, plain)
    for statement in node.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if not has_fields:
                names = [name]
            case _:
                continue
        for name in names:
            found.pop(name, None)
            if not isinstance(value, ast.Constant) and not _is_property(value):
                found[name] = statement.lineno, f"{node.name}.{name}"
    return found


def _is_property(value: ast.expr) -> bool:
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in ("property", "cached_property")
    return False


def _has_fields(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], plain: set[str], below: int = 0) -> bool:
    """Whether an annotated attribute may be a field of each object: of a dataclass, a Struct, or of what nobody knows here."""
    if node.decorator_list or below > len(classes):
        return True
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
        if name in classes:
            if _has_fields(classes[name], classes, plain, below + 1):
                return True
        elif name not in plain and not name.endswith("Strategy"):
            return True
    return False


def _changed_in_class(
    method: _Function, node: ast.ClassDef, shared: Mapping[str, tuple[int, str]], classes: Mapping[str, ast.ClassDef]
) -> Iterator[tuple[int, str]]:
    """Where the attribute is made, if it is changed through `self`; where it is changed, if through the class."""
    me = _me(method)
    own = {one.arg for one in ast.walk(method) if isinstance(one, ast.arg)}
    own |= {one.id for one in ast.walk(method) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    classes = {name: one for name, one in classes.items() if name not in own}
    for line, changed in _changed(method):
        for part in _steps(changed):
            match part:
                case ast.Attribute(value=ast.Name(id=name), attr=attr) if name == me and attr in shared:
                    yield shared[attr]
                case ast.Attribute(value=value, attr=attr) if owner := _class_meant(value, me, node, classes):
                    yield line, f"{owner}.{attr}"
    for one in ast.walk(method):
        match one:
            case ast.Attribute(value=value, attr=attr, ctx=ast.Store()) if owner := _class_meant(
                value, me, node, classes
            ):
                yield one.lineno, f"{owner}.{attr}"


def _class_meant(value: ast.expr, me: str, node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> str:
    """The class that `type(self)`, `self.__class__` or a name stands for, "" if it is none."""
    match value:
        case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == me:
            return node.name
        case ast.Attribute(value=ast.Name(id=name), attr="__class__") if name == me:
            return node.name
        case ast.Name(id=name) if name in classes:
            return name
    return ""


# -- default values ----------------------------------------------------------------------------------------------------


def _changed_defaults(function: _Function) -> Iterator[str]:
    """Names of arguments with a default value that the function changes and never assigns to."""
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    given = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    given += [(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    names = {one.arg for one, value in given if not isinstance(value, ast.Constant)}
    if not names:
        return
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.discard(node.id)
    changed = {part.id for _, one in _changed(function) for part in _steps(one) if isinstance(part, ast.Name)}
    yield from sorted(names & changed)


# -- changes -----------------------------------------------------------------------------------------------------------


def _changed(function: _Function) -> Iterator[tuple[int, ast.expr]]:
    """What a function changes by an item, an attribute or a method of it, and where."""
    for node in ast.walk(function):
        match node:
            case ast.Subscript(value=changed, ctx=ast.Store() | ast.Del()):
                yield node.lineno, changed
            case ast.Attribute(value=changed, ctx=ast.Store() | ast.Del()):
                yield node.lineno, changed
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=changed, attr=attr))) if attr in _CHANGING_ALONE:
                yield node.lineno, changed
            case ast.Call(func=ast.Attribute(value=changed, attr=attr)) if attr in _CHANGING:
                yield node.lineno, changed


def _steps(node: ast.expr) -> Iterator[ast.expr]:
    """An expression such as `self.closes[symbol]`, and what it is taken from: a change of a part is one of the whole."""
    yield node
    match node:
        case ast.Attribute(value=whole) | ast.Subscript(value=whole):
            yield from _steps(whole)
        case ast.Call(func=ast.Attribute(value=whole, attr="get" | "setdefault")):
            yield from _steps(whole)
