"""The strategy of a worker: its class found by name, its parameters checked, one instance made."""

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyError
from strategy_runner.strategies import registry
from strategy_runner.strategies.interface import Strategy


def make_strategy(spec: WorkerSpec) -> Strategy:
    """Imports the client's own code if it is one of theirs. Raises ConfigurationError, StrategyError."""
    found = registry.load(spec.strategy_type, spec.code)
    params = registry.build_params(found, spec.params, f"clients/{spec.client}/client.toml: {spec.strategy}: params")
    try:
        return found(params, symbol=spec.symbol, timeframe=spec.timeframe, seed=int(spec.generation, 16))
    except Exception as error:
        raise StrategyError(f"{found.__qualname__}.__init__: {type(error).__name__}: {error}") from error


def generation_now(spec: WorkerSpec) -> str:
    """The generation that a spec has with the code and versions of today. Raises ConfigurationError."""
    found = registry.load(spec.strategy_type, spec.code)
    return registry.generation(
        registry.code_digest(found),
        params=spec.params,
        timeframe=spec.timeframe,
        models=spec.models,
        size=spec.size,
        protection=spec.protection,
        extra_symbols=spec.extra_symbols,
        venue=spec.venue,
        account=spec.account,
        has_fills=bool(spec.fills),
        paper=spec.paper,
        is_observed=spec.is_observed,
    )
