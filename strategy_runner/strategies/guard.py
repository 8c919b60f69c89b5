"""The determinism guard: a client's strategy reaches no clock, no luck, no socket, no file and no thread by accident.

Records in, signals out: a signal that depends on anything else is another one after a restart, and in a backtest. So the
guard reads the code before anything of it runs. `check`, `plan`, `start` and `backtest` refuse with exit code 6 and name
file and line; a worker that is given such code refuses it as well:

    clients/ada/strategies/breakout.py:12: time.time(): expected the time of the record, found the clock of this machine;
    use self.now_ns

What is read: the file of a strategy and the files beside it that it imports (`from .levels import Levels`), wherever in
them the name is used and whatever it is called there (`from time import time as now`). Not read: tests, and what lies
below `if TYPE_CHECKING:` or `if __name__ == "__main__":`.

| Refused | Instead |
|---|---|
| the clock: `time.time()`, `datetime.now()`, `date.today()`, `pandas.Timestamp.now()` | `self.now_ns`, `event.event_ns` |
| the local time zone: `time.localtime()`, `datetime.fromtimestamp(t)` | `datetime.fromtimestamp(t, tz=UTC)` |
| unseeded randomness: `random.random()`, `Random()`, `numpy.random.rand()`, `secrets`, `uuid4()` | `self.random`, `Random(7)` |
| `numpy.random.RandomState(7)`, which draws from the system before it is seeded | `numpy.random.default_rng(7)` |
| files: `open`, `pathlib.Path`, `os`, `shutil`, `sqlite3`, `numpy.load`, `pandas.read_csv` | `params` |
| the network: `socket`, `urllib.request`, `requests`, `zmq`, ... | records |
| threads and processes: `threading`, `asyncio`, `concurrent`, `multiprocessing`, `subprocess` | the `on_...` callbacks |
| the machine: `os.environ`, `platform`, `sys.stdin`, `input()`, `id()`, `hash(self)` | `params` |
| the inside of the product: all of strategy_runner but `model` and `strategies` | |
| state in a class or a default value: `closes = deque()` in its body, `self.closes.append(...)` | `self` |

Allowed is everything else: the pure parts of the standard library (`math`, `statistics`, `collections`, `decimal`,
`zoneinfo`, `datetime` arithmetic, `os.path.join`, `time.gmtime(seconds)`, ...), `logging` and `print`, which go to the
worker's log, and any other library, numpy and pandas among them. There is no way to switch the guard off.

What cannot be read in the code (a library that draws numbers or opens a file on a strategy's behalf) is refused while it
runs: guard_runtime.py. The guard is against accidents and not against malice, and there are accidents that it does not
see: a library that asks for the time through C (pandas, datetime), the order of a set of objects after a restart, the hash
of an object that is its address, and state that is neither in `self` nor where guard_state.py looks: in a module or a
closure, in an attribute of a class that another file changes, or in an object there that changes by a method of a name of
its own. `strategy-runner parity` finds these by their effect.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from strategy_runner.errors import DeterminismError
from strategy_runner.strategies.client_code import shown
from strategy_runner.strategies.guard_rules import Rule, names_below, refused, refused_call
from strategy_runner.strategies.guard_scope import Names, Use, read_names
from strategy_runner.strategies.guard_state import Place, lost_state


def refuse_nondeterminism(path: Path) -> None:
    """Reads a client's strategy file and the files beside it that it imports; runs nothing of them.

    Raises DeterminismError with one problem for each place. A file that does not parse is left to its import, which says
    why.
    """
    problems: list[str] = []
    waiting, seen = [path], {path}
    while waiting:
        file = waiting.pop(0)
        names, lost = _read(file)
        where = Path(shown(path)).parent / file.relative_to(path.parent)
        faults = sorted([*_faults(names), *lost], key=lambda place: place[:2])
        problems += (f"{where}:{line}: {what}: {broken(rule)}" for line, what, rule in faults)
        for beside in _files_beside(file, names, path.parent):
            if beside not in seen:
                seen.add(beside)
                waiting.append(beside)
    if problems:
        raise DeterminismError(*problems)


def broken(rule: Rule) -> str:
    """The part of a message that says what is wrong."""
    return f"expected {rule.expected}, found {rule.found}; {rule.instead}"


def _read(file: Path) -> tuple[Names, list[Place]]:
    """The names in a file, and the places of state that a restart would lose."""
    try:
        tree = ast.parse(file.read_bytes())
        return read_names(tree, names_below), lost_state(tree)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return Names([], []), []


def _faults(names: Names) -> list[Place]:
    """Line, name and rule of each place. A refused module is told once, where it is imported."""
    found: dict[tuple[int, str], Rule] = {}
    modules: set[str] = set()
    for one in names.imports:
        if not one.level and (rule := refused(one.module)):
            found[one.line, f"import {one.module}"] = rule
            modules.add(one.module)
    uses = [use for use in names.uses if not _is_in(use.name, modules)]
    for use in sorted(uses, key=lambda use: use.call is None):
        rule = _rule_of(use)
        what = use.name.removeprefix("builtins.")
        if rule is not None and (use.line, f"{what}()") not in found:
            found[use.line, f"{what}()" if use.call else what] = rule
    for one in names.imports:  # brought in, and used elsewhere
        unused = not one.level and not any(_is_in(use.name, {one.name}) for use in uses)
        if unused and not _is_in(one.name, modules) and (rule := refused(one.name)):
            found[one.line, f"import {one.name}"] = rule
    return [(line, what, rule) for (line, what), rule in found.items()]


def _rule_of(use: Use) -> Rule | None:
    rule = refused(use.name)
    if rule is None and use.call is not None:
        rule = refused_call(use.name, use.call)
    return rule


def _is_in(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _files_beside(file: Path, names: Names, folder: Path) -> Iterator[Path]:
    """Files below the client's folder that the relative imports of a file lead to."""
    for one in names.imports:
        if not 0 < one.level <= len(file.parents):
            continue
        base = file.parents[one.level - 1]
        if not base.is_relative_to(folder):
            continue
        parts = [*filter(None, one.module.split(".")), one.name]
        for depth in range(1, len(parts) + 1):
            target = base.joinpath(*parts[:depth])
            yield from filter(Path.is_file, (target.with_suffix(".py"), target / "__init__.py"))
