"""What a client's orders need in the specs of its router and its workers: where they go, within which limits, how they fill.

At a pace they go to an OMS, and what becomes of them comes back over the tape. Flat out there is none: each worker fills its
own by the paper market's rules. Only a live run, and a mock market on this host, may send orders to an OMS elsewhere.
"""

from collections.abc import Iterable

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.instruments import instruments_of
from strategy_runner.config.paper import exact, fill_settings
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.config.spec import OmsSpec, PaperSpec, RouterSpec, SizingSpec
from strategy_runner.config.wire_rules import ON_THIS_HOST
from strategy_runner.errors import ConfigurationError, SafetyRefusal
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.supervision.process import SIMULATION

_MARKET = (Kind.TRADE, Kind.QUOTE, Kind.BAR)


class WorkerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a worker's spec that its orders decide."""

    fills: str = ""
    paper: PaperSpec | None = None


def worker_orders(
    home: Home,
    environment: EnvironmentConfig,
    config: ClientConfig,
    key: WorkerKey,
    streams: Iterable[Stream],
    where: str,
    *,
    at_a_pace: bool,
) -> WorkerOrders:
    """Raises ConfigurationError for a worker that reads no market of its symbol, and would have to fill its own orders; `where`
    begins what it says."""
    if "oms" not in config.routes:
        return WorkerOrders()
    if not at_a_pace and not any(stream.symbol == key.symbol and stream.kind in _MARKET for stream in streams):
        raise ConfigurationError(
            f"{where} ({key.strategy}): inputs: expected trades, quotes or bars, from which its orders are filled as fast as "
            "it goes, found none"
        )
    if at_a_pace:
        return WorkerOrders(fills=str(home.fills(key.client, config.mode)))
    instrument = instruments_of(environment.instruments)[key.symbol]
    return WorkerOrders(paper=PaperSpec(fills=fill_settings(config.paper, key.symbol), instrument=instrument))


def with_orders(home: Home, environment: EnvironmentConfig, config: ClientConfig, router: RouterSpec) -> RouterSpec:
    """The router of a client whose orders go to an OMS; it waits for no slow worker, since the market does not.

    Raises SafetyRefusal for one that must not have them.
    """
    traded = {symbol for strategy in config.strategies for symbol in strategy.symbols}
    instruments = instruments_of(environment.instruments)
    return msgspec.structs.replace(
        router,
        ordered=False,
        oms=OmsSpec(
            kind="paper" if config.mode == SIMULATION else config.oms.kind,
            endpoint=_endpoint(home, config, router.client),
            accounts={symbol: config.accounts[symbol].account for symbol in sorted(traded)},
            fills=str(home.fills(router.client, router.mode)),
            doorbell=router.market.private,
            token=config.oms.token,
            tls=config.oms.tls,
            nats=config.oms.nats,
        ),
        risk=config.risk,
        sizing={one.id: SizingSpec(size=one.size, sizing=one.sizing) for one in config.strategies},
        instruments={symbol: instruments[symbol] for symbol in sorted(traded)},
        rates=exact(config.risk.rates),
        on_restart={one.id: one.on_restart for one in config.strategies},
    )


def _endpoint(home: Home, config: ClientConfig, client: str) -> str:
    if config.oms.kind == "paper" or config.mode == SIMULATION:
        return home.oms_endpoint(client)
    address = config.oms.address
    assert address is not None, "config/rules.py asks for it"
    if config.mode != "live" and not address.startswith(ON_THIS_HOST):
        raise SafetyRefusal(
            f"{client}: oms.address: expected an OMS on this host, since mode is {config.mode}, found {address}: "
            "a made-up market sends nobody orders"
        )
    return address
