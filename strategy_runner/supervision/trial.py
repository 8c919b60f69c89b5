"""The trial of a client's own strategies that `check` makes: each is begun once, as its worker will begin it, and its state asked
for. Nothing is kept, and no record read: what only a record brings about is told by the bench, a backtest and the worker itself.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import ConfigurationError, StrategyError
from strategy_runner.model.signal import SignalBody
from strategy_runner.strategies.client_code import shown
from strategy_runner.strategies.describe import TIMEOUT_S, in_child
from strategy_runner.supervision.process import Process
from strategy_runner.worker.machine import Machine
from strategy_runner.worker.strategy import make_strategy


def refuse_what_cannot_begin(home: Home, processes: Iterable[Process]) -> None:
    """Raises ConfigurationError naming each strategy that raises when it is made or in `on_start`, or then keeps what no snapshot
    can. Blocks up to TIMEOUT_S."""
    specs = [process.spec for process in processes if isinstance(process.spec, WorkerSpec) and process.spec.code]
    first = {spec.strategy: spec for spec in reversed(specs)}  # its other symbols run the same code
    if not first:
        return

    def work(entering: Callable[[Path], None]) -> None:
        problems: list[str] = []
        for spec in reversed(first.values()):
            own = home.client_strategies(spec.client) / Path(spec.code).name  # where it is kept it may not be yet
            entering(own)
            try:
                _begin(msgspec.structs.replace(spec, code=str(own), fills=""))
            except ConfigurationError as error:
                problems += error.problems
            except StrategyError as error:
                problems.append(f"{shown(own)}: {spec.strategy}: {error}")
        if problems:
            raise ConfigurationError(*problems)

    in_child(work, type(None), TIMEOUT_S)


def _begin(spec: WorkerSpec) -> None:
    machine = Machine(spec, make_strategy(spec), _record)
    machine.start()
    machine.state()


def _record(n: int, body: SignalBody, seq: int) -> None:
    raise AssertionError("nothing is signalled before the first record")
