"""The paper OMS's part of the plan: one for all clients whose orders it fills."""

from collections.abc import Mapping, Sequence

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.instruments import instruments_of
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.paper import fill_settings, opening_cash
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.config.spec import OmsSpec, PaperOmsSpec, RouterSpec
from strategy_runner.model.names import OMS_NAME
from strategy_runner.supervision.plan_client import load_wished
from strategy_runner.supervision.process import Process, market_of, new_process
from strategy_runner.supervision.wishes import Wishes


def oms_process(
    home: Home,
    environment: Loaded[EnvironmentConfig],
    planned: Sequence[Process],
    kept: Sequence[Process],
    wishes: Wishes,
    environ: Mapping[str, str],
) -> Process | None:
    """None where no client's orders go to it. What it knows of clients that are `kept` stays as it is."""
    fresh, others = asking(planned), asking(kept)
    if not fresh and not others:
        return None
    modes = {router.mode for router in (*fresh.values(), *others.values())}
    assert len(modes) == 1, "one feed serves all clients, and was planned before"
    mode, config = modes.pop(), environment.value
    spec = PaperOmsSpec(
        mode=mode,
        endpoints={},
        instruments=instruments_of(config.instruments),
        fills=fill_settings(config.paper),
        fills_by_symbol={},
        opening={},
        market=market_of(home, mode),
        folder=str(home.oms(mode)),
        log=str(home.log(OMS_NAME)),
        log_level=config.log_level,
    )
    running = next((process.spec for process in kept if isinstance(process.spec, PaperOmsSpec)), None)
    if running is not None:
        instruments = {**spec.instruments, **running.instruments}
        spec = msgspec.structs.replace(only_clients(running, others), instruments=instruments)
    for client, router in fresh.items():
        loaded = load_wished(home, wishes.environment, client, wishes.clients[client], environ)[1]
        spec = _with_client(spec, router, loaded.value)
    return new_process(home, OMS_NAME, "oms", spec)


def only_clients(spec: PaperOmsSpec, clients: Mapping[str, object]) -> PaperOmsSpec:
    """As it is, less the clients that are not among these."""
    return msgspec.structs.replace(
        spec,
        endpoints={client: endpoint for client, endpoint in spec.endpoints.items() if client in clients},
        fills_by_symbol={client: fills for client, fills in spec.fills_by_symbol.items() if client in clients},
        opening={client: cash for client, cash in spec.opening.items() if client in clients},
    )


def _with_client(spec: PaperOmsSpec, router: RouterSpec, config: ClientConfig) -> PaperOmsSpec:
    client = router.client
    assert router.oms is not None, client
    return msgspec.structs.replace(
        spec,
        endpoints={**spec.endpoints, client: router.oms.endpoint},
        fills_by_symbol={
            **spec.fills_by_symbol,
            client: {symbol: fill_settings(config.paper, symbol) for symbol in router.instruments},
        },
        opening={**spec.opening, client: opening_cash(config)},
    )


def asking(processes: Sequence[Process]) -> dict[str, RouterSpec]:
    """The routers, by client, whose orders go to the paper OMS."""
    routers = [process.spec for process in processes if isinstance(process.spec, RouterSpec)]
    return {router.client: router for router in routers if is_paper(router.oms)}


def is_paper(oms: OmsSpec | None) -> bool:
    return oms is not None and oms.kind == "paper"
