"""A generation: 8 hex digits for everything that decides what a worker signals. New code never answers for old code.

Two workers of one generation, given the same records, write the same signal bodies. So whatever can change a body goes
in; what cannot (limits, log level, folders) stays out, and changing it keeps the worker's snapshot and its ids.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

import strategy_runner
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.strategies import indicators, interface
from strategy_runner.strategies.client_code import code_path
from strategy_runner.strategies.interface import Strategy
from strategy_runner.strategies.kept_code import code_files


def generation(code_digest: str, spec: WorkerSpec) -> str:
    """8 hex digits of BLAKE2b over the canonical JSON of what a spec says that matters, and of the versions.

    Its `params` should be complete (Resolved.params of describe.py), so that writing a default out changes nothing. `venue` is
    part of a signal's body. A strategy that holds what was filled (`fills`), or what it fills itself (`paper`), is another one
    than one that holds what it asked for, and another one in each `account`; and one that is only observed has nothing to do
    with the positions of one that trades.
    """
    position: object = "observed" if spec.is_observed else "signals"
    if spec.paper is not None or spec.fills:
        position = (spec.paper or "fills", spec.account)
    decided_by = {
        "code": code_digest,
        "params": spec.params,
        "timeframe": spec.timeframe,
        "models": spec.models,
        "size": float(spec.size),
        "protection": spec.protection,
        "extra_symbols": spec.extra_symbols,
        "venue": spec.venue,
        "position": position,
        "versions": versions(),
    }
    return blake2b(msgspec.json.encode(decided_by, order="sorted"), digest_size=4).hexdigest()


def versions() -> dict[str, str]:
    """What this process runs beside the code of clients, and may change a signal."""
    return {
        "strategy_runner": strategy_runner.__version__,
        "numpy": np.__version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def code_digest(strategy: type[Strategy]) -> str:
    """32 hex digits over a strategy's name and the source it runs on.

    The rule: the files of the class and of the strategies it inherits from, interface.py and indicators.py, and for a
    client's strategy every code file below the client's strategies folder, since any of them may be imported, and the versions
    of what is installed that they import. Editing one gives all of this client's own strategies a new generation: never too
    few. The rest of the product is covered by its version. Paths count relative to their folder, so a home may move.
    """
    files = {Path(module.__file__ or "").name: Path(module.__file__ or "") for module in (interface, indicators)}
    for ancestor in strategy.__mro__:
        if issubclass(ancestor, Strategy) and not code_path(ancestor):
            source = Path(sys.modules[ancestor.__module__].__file__ or "")
            files[source.name] = source
    code = code_path(strategy)
    own = code_files(Path(code).parent) if code else {}
    files |= {f"client/{name}": path for name, path in own.items()}

    digest = blake2b(strategy.__qualname__.encode(), digest_size=16)
    for name in sorted(files):
        source_bytes = files[name].read_bytes()
        digest.update(f"\0{name}\0{len(source_bytes)}\0".encode())
        digest.update(source_bytes)
    for name, version in _libraries(own.values()):
        digest.update(f"\0{name}\0{version}\0".encode())
    return digest.hexdigest()


def _libraries(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and version of what is installed and some files import; the standard library, the product and numpy are told
    elsewhere."""
    modules = {name for file in files if file.suffix == ".py" for name in _imported(file)}
    modules -= {*sys.stdlib_module_names, "strategy_runner", "numpy"}
    if not modules:
        return []
    from importlib.metadata import version  # which workers have no need of

    names = {name for module in modules for name in _distributions().get(module, ())}
    return [(name, version(name)) for name in sorted(names)]


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    """By module who brings it: of all that is installed, which takes a tenth of a second."""
    from importlib.metadata import packages_distributions

    return packages_distributions()


def _imported(file: Path) -> Iterator[str]:
    """The first words of the modules that a file imports. One that does not parse imports none."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]
