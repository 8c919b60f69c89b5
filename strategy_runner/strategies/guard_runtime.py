"""The determinism guard while a strategy runs: what cannot be read in its code is refused when it happens.

A library that draws a number, asks for the time or opens a file does so below the frame of the strategy that called it. So
whoever is reached asks who is calling, and where nobody is reached that costs nothing: no callback is wrapped, no flag is
set. Python's own audit events tell of files, sockets and processes. The wall clock, threads and the generators that nobody
seeded have no events; they get a function in their place that asks first.

The nearest caller decides, so the worker around a strategy is free. A library may do what it likes while it is imported, and
`copy`, `logging`, `warnings` and `zoneinfo` may always. Not seen: what C code asks of the system itself, and stopwatches in
libraries (`time.perf_counter`), which measure and do not decide.
"""

import _thread
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from strategy_runner.errors import DeterminismError
from strategy_runner.strategies.client_code import CLIENTS_PACKAGE, shown
from strategy_runner.strategies.guard import broken
from strategy_runner.strategies.guard_rules import CLOCK, LUCK, SEED, THREADS, Rule, refused

_CLIENTS = f"{CLIENTS_PACKAGE}."
_PRODUCT = "strategy_runner."
# the strategy's own part of the product: what this does, it does for a strategy
_FOR_STRATEGIES = ("strategy_runner.strategies.", "strategy_runner.model.")
# `copy` makes a generator before it gives it the state of the one that it copies
_ON_ERRANDS = frozenset({"copy", "importlib", "zipimport", "linecache", "logging", "traceback", "warnings", "zoneinfo"})
_NUMPY_RANDOM = "numpy.random"


def watch() -> None:
    """From now on, and for good, refuses in this process what a client's strategy reaches by way of a library.

    Raises DeterminismError there, naming the strategy's file and line.
    """
    if any(isinstance(finder, _NumpyRandomFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _NumpyRandomFinder())
    sys.addaudithook(_on_event)
    for owner, name, stand_in in _STAND_INS:
        setattr(owner, name, stand_in)
    if _NUMPY_RANDOM in sys.modules:
        _guard_numpy_random(sys.modules[_NUMPY_RANDOM])


# -- who is calling ----------------------------------------------------------------------------------------------------


class _Role(Enum):
    STRATEGY = "a strategy's own file: it is its call"
    FREE = "may do what it likes: the worker, an import under way, a log line"
    BETWEEN = "does it for whoever called"


def _refuse(what: str, rule: Rule) -> None:
    """Raises DeterminismError if it is a strategy that wants `what`."""
    frame: FrameType | None = sys._getframe(2)
    library = ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        role = _role(module, frame.f_code.co_filename)
        if role is _Role.FREE:
            return
        if role is _Role.STRATEGY:
            where = f"{shown(Path(frame.f_code.co_filename))}:{frame.f_lineno}"
            raise DeterminismError(f"{where}: {what}{library}: {broken(rule)}")
        if not module.startswith(_CLIENTS):
            library = f" in {module}"
        frame = frame.f_back


@lru_cache(maxsize=4096)
def _role(module: str, file: str) -> _Role:
    if module.startswith(_CLIENTS):
        return _Role.BETWEEN if file.startswith("<") else _Role.STRATEGY  # code made of text: its file is further out
    if module.startswith(_PRODUCT) and not module.startswith(_FOR_STRATEGIES):
        return _Role.FREE
    return _Role.FREE if module.partition(".")[0] in _ON_ERRANDS else _Role.BETWEEN


# -- audit events ------------------------------------------------------------------------------------------------------

# of the events that the rules know by name; others are None
_watched: dict[str, Rule | None] = {
    "open": refused("builtins.open"),
    "builtins.id": None,  # copy.deepcopy may ask for an address, and forgets it
}


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Called by Python for each event of the process: quick where it is none of the guard's."""
    try:
        rule = _watched[event]
    except KeyError:
        rule = _watched[event] = refused(event)
    if rule is None:
        return
    if event == "open":
        if not _is_time_zone(arguments[0]):
            _refuse(f"open({arguments[0]!r})", rule)
    else:
        _refuse(f"{event.removesuffix('.__new__')}()", rule)


def _is_time_zone(path: object) -> bool:
    """zoneinfo opens its files from C, with no frame of its own."""
    folders = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())  # half loaded it has none yet
    return isinstance(path, str) and path.startswith(tuple(folders))


# -- what has no events ------------------------------------------------------------------------------------------------


class _AskFirst:
    """Stands in for a function. No function itself: kept in a class it does not become a method, as a builtin does not."""

    __slots__ = ("_real", "_rule", "_what")

    def __init__(self, real: Callable[..., Any], what: str, rule: Rule) -> None:
        self._real = real
        self._what = what
        self._rule = rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _refuse(self._what, self._rule)
        return self._real(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _ask_first(module: ModuleType, name: str, rule: Rule) -> tuple[ModuleType, str, _AskFirst]:
    """Where to put what stands in for a function of a module."""
    return module, name, _AskFirst(getattr(module, name), f"{module.__name__}.{name}()", rule)


def _seed_asking_first(real: Callable[..., None]) -> Callable[..., None]:
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            _refuse("random.Random()", SEED)
        real(self, a, version)

    return seed


def _start_asking_first(real: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        _refuse("threading.Thread.start()", THREADS)
        real(self)

    return start


def _stand_ins() -> list[tuple[ModuleType | type, str, Any]]:
    draws = [
        name for name, value in vars(random).items() if isinstance(getattr(value, "__self__", None), random.Random)
    ]
    urandom = _ask_first(os, "urandom", LUCK)
    return [
        *(_ask_first(time, name, CLOCK) for name in ("time", "time_ns")),
        *(_ask_first(random, name, LUCK) for name in draws),
        urandom,
        (random, "_urandom", urandom[2]),  # SystemRandom, secrets and numpy draw from it
        (random.Random, "seed", _seed_asking_first(random.Random.seed)),
        _ask_first(_thread, "start_new_thread", THREADS),
        (threading.Thread, "start", _start_asking_first(threading.Thread.start)),
    ]


# made once, in the process that workers are forked from: each of them has only to put them in place
_STAND_INS = _stand_ins()


# -- numpy's global generator ------------------------------------------------------------------------------------------


def _guard_numpy_random(module: ModuleType) -> None:
    """Its functions, and the generator behind them, which other libraries draw from where they are given no seed."""
    mtrand: Any = sys.modules["numpy.random.mtrand"]
    generator = mtrand._rand

    class AskingRandomState(mtrand.RandomState):  # type: ignore[misc]  # a class that is loaded late
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                _refuse(f"{_NUMPY_RANDOM}.{name}()", LUCK)
            return super().__getattribute__(name)

    for owner in (module, mtrand):
        for name, value in list(vars(owner).items()):
            if getattr(value, "__self__", None) is generator:
                setattr(*_ask_first(owner, name, LUCK))
    mtrand._rand = AskingRandomState(generator._bit_generator)


class _NumpyRandomFinder(MetaPathFinder):
    """Finds numpy.random, which numpy itself loads late: it is guarded as soon as it is there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NUMPY_RANDOM:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _NumpyRandomLoader(spec.loader)
        return spec


class _NumpyRandomLoader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._real
        _guard_numpy_random(module)
