"""The strategy of a worker: its class found by name, its parameters checked, one instance made."""

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyError, VersionMismatchError
from strategy_runner.strategies.client_code import raised
from strategy_runner.strategies.generation import code_digest, generation, versions
from strategy_runner.strategies.interface import Strategy
from strategy_runner.strategies.params import build_params
from strategy_runner.strategies.registry import load


def make_strategy(spec: WorkerSpec) -> Strategy:
    """Imports the client's own code if it is one of theirs. Raises ConfigurationError, StrategyError."""
    found = load(spec.strategy_type, spec.code)
    params = build_params(found, spec.params, f"clients/{spec.client}/client.toml: {spec.strategy}: params")
    try:
        return found(params, symbol=spec.symbol, timeframe=spec.timeframe, seed=int(spec.generation, 16))
    except Exception as error:
        raise StrategyError(f"{found.__qualname__}.__init__: {raised(error)}") from error


def generation_now(spec: WorkerSpec) -> str:
    """The generation that a spec has with the code and versions of today. Raises ConfigurationError."""
    return generation(code_digest(load(spec.strategy_type, spec.code)), spec)


def require_versions(spec: WorkerSpec) -> None:
    """Raises VersionMismatchError where this process is not what the generation of a spec says that it is. The command that made
    it may run under another Python than the daemon, and what is installed may change under that one's feet."""
    here = versions()
    for name, expected in spec.versions.items():
        found = here.get(name)
        if found != expected:
            raise VersionMismatchError(
                f"{spec.key.name}: generation {spec.generation}: expected {name} {expected}, found {found}: "
                "`strategy-runner down`, then `check` and `up` by the one that is to run it"
            )
