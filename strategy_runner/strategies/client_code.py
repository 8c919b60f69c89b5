"""A client's own strategy files: importing them, and finding the strategies they define.

A client's file is the module `strategy_runner_clients.CLIENT.FILE`, so two clients' files of one name never collide, a
snapshot can name its classes, and a file imports what lies beside it with `from .FILE import ...`. Files whose name
starts with `_` and tests (`test_*.py`, `conftest.py`) are not searched for strategies. A process sees a file as it was
when it first imported it.
"""

import re
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import msgspec

from strategy_runner.config.suggest import did_you_mean
from strategy_runner.errors import ConfigurationError, DeterminismError
from strategy_runner.model.names import STRATEGY_PATTERN, SYMBOL_PATTERN
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.strategies.interface import Inputs, Params, Strategy

CLIENTS_PACKAGE = "strategy_runner_clients"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def strategy_files(folder: Path) -> list[Path]:
    """The files that must hold a strategy, by name."""
    return sorted(
        path
        for path in folder.glob("*.py")
        if not path.name.startswith(("_", "test_")) and path.name != "conftest.py" and path.is_file()
    )


def strategies_in(path: Path) -> list[tuple[str, type[Strategy]]]:
    """Names and classes of the strategies a client's file defines, at least one. Raises ConfigurationError."""
    module = _import(path)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Strategy)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if not classes:
        raise ConfigurationError(
            f"{shown(path)}: expected a subclass of Strategy, found none (a file that only others import starts with _)"
        )
    problems = [f"{shown(path)}: {problem}" for strategy in classes for problem in _declaration_problems(strategy)]
    if problems:
        raise ConfigurationError(*problems)
    return [(strategy_name(strategy), strategy) for strategy in dict.fromkeys(classes)]


def strategy_name(strategy: type[Strategy]) -> str:
    """The class attribute `name` where the class itself has one, else the class name in snake_case."""
    return str(strategy.__dict__.get("name") or snake_case(strategy.__name__))


def snake_case(class_name: str) -> str:
    """`SwingHigh` → `swing_high`, `RSIReversal` → `rsi_reversal`."""
    return _WORD_START.sub("_", class_name).lower()


def unheard(strategy: type[Strategy]) -> Iterator[str]:
    """Callbacks that nothing calls, and records that nothing hears: valid, and mostly a slip."""
    where, inputs = strategy.__qualname__, strategy.inputs
    own = {name for name in dir(strategy) if name.startswith("on_") and name not in vars(Strategy)}
    for name in sorted(own):
        if hint := did_you_mean(name, [known for known in vars(Strategy) if known.startswith("on_")]):
            yield f"{where}.{name}: valid, and called by nothing{hint}"
    for asks, wanted, names in (
        ("trades", inputs.trades, ["on_trade"]),
        ("quotes", inputs.quotes, ["on_quote"]),
        ("bars", inputs.bars or inputs.timeframes, ["on_bar", "on_bars"]),
        ("predictions", inputs.predictions, ["on_prediction"]),
        ("timer", inputs.timer, ["on_timer"]),
    ):
        heard = [name for name in names if getattr(strategy, name) is not getattr(Strategy, name)]
        if wanted and not heard:
            yield f"{where}.inputs.{asks}: valid, and heard by nothing: there is no {names[0]}"
        if heard and not wanted:
            yield f"{where}.{heard[0]}: valid, and never called: its inputs name no {asks}"


def code_path(strategy: type[Strategy]) -> str:
    """Absolute path of the client's file that defines a class; "" for a built-in one."""
    if not strategy.__module__.startswith(f"{CLIENTS_PACKAGE}."):
        return ""
    return str(sys.modules[strategy.__module__].__file__)


def raised(error: BaseException) -> str:
    """What a strategy raised: `TypeError: text at dip.py:24`, the deepest line that lies in a client's files."""
    at = ""
    if not isinstance(error, DeterminismError):  # which names its place already
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith(f"{CLIENTS_PACKAGE}."):
                at = f" at {Path(frame.f_code.co_filename).name}:{line}"
    return f"{type(error).__name__}: {error}{at}"


def shown(path: Path) -> str:
    """A path as messages show it: below the home, as in clients/CLIENT/strategies/FILE."""
    return str(Path(*path.absolute().parts[-4:]))


def _declaration_problems(strategy: type[Strategy]) -> Iterator[str]:
    where = strategy.__qualname__
    if not re.fullmatch(STRATEGY_PATTERN, strategy_name(strategy)):
        yield f"{where}.name: expected letters, digits, - and _ after a letter, found {strategy_name(strategy)!r}"
    if not (isinstance(strategy.Params, type) and issubclass(strategy.Params, Params)):
        yield f"{where}.Params: expected a subclass of Params, found {strategy.Params!r}"
    if isinstance(strategy.inputs, Inputs):
        yield from _input_problems(f"{where}.inputs", strategy.inputs)
    else:
        yield f"{where}.inputs: expected Inputs(...), found {strategy.inputs!r}"


def _input_problems(where: str, inputs: Inputs) -> Iterator[str]:
    """What Inputs cannot check itself: a Struct's constructor takes anything."""
    try:
        msgspec.convert(msgspec.to_builtins(inputs), Inputs)
    except (msgspec.ValidationError, TypeError) as error:
        yield f"{where}: {error}"
        return
    for timeframe in (*inputs.timeframes, *filter(None, [inputs.timer])):
        try:
            timeframe_ns(timeframe)
        except ValueError as error:
            yield f"{where}: {error}"
    for symbol in inputs.symbols:
        if not re.fullmatch(SYMBOL_PATTERN, symbol):
            yield f"{where}.symbols: expected a symbol such as BTC-USD, found {symbol!r}"
    if inputs.warmup_bars < 0:
        yield f"{where}.warmup_bars: expected 0 or more, found {inputs.warmup_bars}"


def _import(path: Path) -> ModuleType:
    """The module of a client's file. Raises ConfigurationError with file, line and exception if importing it raises."""
    package = _client_package(path.absolute().parent)
    writing = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a client's folder holds what the client put there
    try:
        return import_module(f"{package}.{path.stem}")
    except ConfigurationError:
        raise  # names its place already
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_import_problem(path, error)) from error
    finally:
        sys.dont_write_bytecode = writing


def _client_package(folder: Path) -> str:
    """Name of the package a client's files are modules of, made on first use: a worker, which imports one file, looks at no
    other module."""
    name = f"{CLIENTS_PACKAGE}.{folder.parent.name}"
    known = sys.modules.get(name)
    if known is not None:
        invalidate_caches()  # a file may have come since
        if list(known.__path__) == [str(folder)]:
            return name
        for stale in [module for module in sys.modules if module.startswith(f"{name}.")]:
            del sys.modules[stale]
    sys.modules.setdefault(CLIENTS_PACKAGE, _package(CLIENTS_PACKAGE, []))
    sys.modules[name] = _package(name, [str(folder)])
    return name


def _package(name: str, search: list[str]) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = search
    return package


def _import_problem(path: Path, error: BaseException) -> str:
    """`file: line N: Exception: text`, at the deepest line that lies in the client's folder."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}: line {error.lineno}: {type(error).__name__}: {error.msg}"
    folder = str(path.absolute().parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    where = f"{shown(Path(frames[-1].filename))}: line {frames[-1].lineno}" if frames else shown(path)
    return f"{where}: {type(error).__name__}: {error}"
