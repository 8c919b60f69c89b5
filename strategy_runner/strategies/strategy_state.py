"""The state of a strategy as bytes: a pickle in which the strategy itself is named and not copied.

Rules in an object of their own, or a bound method such as `self.enter = self.buy`, refer back to the strategy. Restored with a
copy of it they would ask the copy, and no signal would come of that.
"""

import pickle
from collections.abc import Iterable
from io import BytesIO
from itertools import chain
from typing import Any

from strategy_runner.errors import StrategyError
from strategy_runner.strategies.interface import Strategy

_NOT_KEPT = ("_proposals", "_predictions_of", "params")  # of what a strategy has in `self`: it belongs to who runs it

_ONCE_IN = "strategy_runner.worker.strategy_state"  # where `itself` is for snapshots written before it was moved here


def kept_by(strategy: Strategy) -> dict[str, Any]:
    """What a strategy has in `self`, by name."""
    return {name: value for name, value in _attributes(strategy) if name not in _NOT_KEPT}


def dumps(value: Any, strategy: Strategy) -> bytes:
    """The state, of which what the strategy keeps is a part. Raises StrategyError naming what of that cannot be kept."""
    try:
        return _dumped(value, strategy)
    except Exception as error:
        raise StrategyError(f"state: expected values that pickle, found {_unpicklable(strategy)}: {error}") from error


def loads(state: bytes, strategy: Strategy) -> Any:
    """What referred to the strategy whose state it was refers to this one. Raises what pickle raises."""
    return _Unpickler(BytesIO(state), strategy).load()


def itself() -> Strategy:
    """Stands for the strategy in its state."""
    raise AssertionError("a state is read by loads alone, which knows the strategy")


def _dumped(value: Any, strategy: Strategy) -> bytes:
    file = BytesIO()
    _Pickler(file, strategy).dump(value)
    return file.getvalue()


def _attributes(strategy: Strategy) -> Iterable[tuple[str, Any]]:
    """All of them, also what a class keeps in slots of its own, of which `vars` does not tell."""
    state: Any = object.__getstate__(strategy)
    return chain.from_iterable(part.items() for part in (state if isinstance(state, tuple) else (state,)) if part)


def _unpicklable(strategy: Strategy) -> str:
    """The first attribute of a strategy that cannot be kept, with its type."""
    for name, value in kept_by(strategy).items():
        try:
            _dumped(value, strategy)
        except Exception:
            return f"self.{name} ({type(value).__name__})"
    return "values that refer to one another"


class _Pickler(pickle.Pickler):
    def __init__(self, file: BytesIO, strategy: Strategy) -> None:
        super().__init__(file, protocol=5)
        self._strategy = strategy

    def reducer_override(self, value: Any) -> Any:
        """Asked for objects of classes alone: numbers, texts and lists cost nothing more (as with persistent_id they would)."""
        return (itself, ()) if value is self._strategy else NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, strategy: Strategy) -> None:
        super().__init__(file)
        self._strategy = strategy

    def find_class(self, module: str, name: str) -> Any:
        if name == itself.__name__ and module in (itself.__module__, _ONCE_IN):
            return lambda: self._strategy
        return super().find_class(module, name)
