"""Where strategies are found by name: the built-in ones, and those in a client's own strategies folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from strategy_runner.config.suggest import did_you_mean
from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.client_code import code_path, shown, strategies_in, strategy_files
from strategy_runner.strategies.guard import refuse_nondeterminism
from strategy_runner.strategies.guard_runtime import watch
from strategy_runner.strategies.interface import Strategy
from strategy_runner.strategies.kept_code import is_admitted
from strategy_runner.strategies.mean_reversion import MeanReversion
from strategy_runner.strategies.momentum_rider import MomentumRider
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover
from strategy_runner.strategies.swing_high import SwingHigh
from strategy_runner.strategies.swing_low import SwingLow

BUILTIN: dict[str, type[Strategy]] = {
    "mean_reversion": MeanReversion,
    "momentum_rider": MomentumRider,
    "moving_average_crossover": MovingAverageCrossover,
    "swing_high": SwingHigh,
    "swing_low": SwingLow,
}


def load(name: str, code: str) -> type[Strategy]:
    """The class a worker runs: built-in if `code` is "", else out of that file alone. Raises ConfigurationError."""
    if not code:
        return builtin(name)
    path = Path(code)
    if not path.is_file():
        raise ConfigurationError(f"{path}: expected a file that holds strategy {name}, found none")
    own = dict(_admitted(path))
    if name not in own:
        raise ConfigurationError(f"{shown(path)}: expected a class for strategy {name}, found {', '.join(own)}")
    return own[name]


def builtin(name: str) -> type[Strategy]:
    """The built-in strategy of a name. Raises ConfigurationError if there is none."""
    if name not in BUILTIN:
        raise unknown_strategy(name, {})
    return BUILTIN[name]


def load_client_strategies(
    folder: Path, importing: Callable[[Path], None] = lambda path: None
) -> dict[str, type[Strategy]]:
    """Every strategy in clients/CLIENT/strategies; {} if there is no such folder.

    Calls `importing` before each file. Raises ConfigurationError with one problem for each faulty file.
    """
    found: dict[str, type[Strategy]] = {}
    problems: list[str] = []
    for path in strategy_files(folder):
        importing(path)
        try:
            loaded = _admitted(path)
        except ConfigurationError as error:
            problems += error.problems
            continue
        for name, strategy in loaded:
            if name in found:
                other = f"{shown(Path(code_path(found[name])))}: {found[name].__qualname__}"
                problems.append(
                    f"{shown(path)}: {strategy.__qualname__}: expected a name of its own, found {name}, as {other}"
                )
            found[name] = strategy
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))  # two files may share a faulty one
    return found


def _admitted(path: Path) -> list[tuple[str, type[Strategy]]]:
    """The strategies of a client's file that the determinism guard has read, and will watch."""
    if not is_admitted(path):
        refuse_nondeterminism(path)
    watch()
    return strategies_in(path)


def unknown_strategy(name: str, own: Mapping[str, type[Strategy]]) -> ConfigurationError:
    known = sorted({*own, *BUILTIN})
    return ConfigurationError(
        f"strategy: expected one of {', '.join(known)}, found {name!r}{did_you_mean(name, known)}"
    )
