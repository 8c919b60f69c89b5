"""The plan: from configuration files and wishes to the processes that should run, each with its whole specification."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.config.availability import history_folder, unavailable
from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, load_client, load_environment
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig, StrategyConfig
from strategy_runner.config.spec import (
    FeedSpec,
    LimitsSpec,
    MarketSpec,
    MockSpec,
    ModelProviderSpec,
    ModelSpec,
    ProtectionSpec,
    QuantConnectSpec,
    ReplaySpec,
    RouterSpec,
    Spec,
    TapeSpec,
    WorkerSpec,
)
from strategy_runner.errors import ConfigurationError, SafetyRefusal, UsageError
from strategy_runner.history.catalog import find_series, symbols_in
from strategy_runner.model.names import FEED_NAME, MARKET_GROUP, WorkerKey, router_name
from strategy_runner.model.stream import Stream, bars, clock, predictions, quotes, trades
from strategy_runner.strategies.describe import Resolved, Use, resolve
from strategy_runner.strategies.generation import generation
from strategy_runner.supervision.programs import Kind, Program
from strategy_runner.supervision.wishes import Wish, Wishes

# what a running process takes over without a restart: a new worker changes them, and no other pid may change
RELOADED = {"feed": ("streams",), "router": ("workers",), "worker": ()}
HISTORICAL = "historical"
SIMULATION = "simulation"


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One planned process and the file its specification goes to."""

    name: str
    kind: Kind
    spec: Spec
    path: Path

    @property
    def digest(self) -> str:
        """Over everything that needs a restart to change."""
        tree = msgspec.to_builtins(self.spec)
        for field in RELOADED[self.kind]:
            tree.pop(field)
        return hashlib.blake2b(msgspec.json.encode(tree, order="sorted"), digest_size=8).hexdigest()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Every process that should run, the feed first, then by client the router and its workers."""

    processes: tuple[Process, ...]

    def programs(self, home: Home) -> list[Program]:
        return [_program(home, process) for process in self.processes]

    def of_client(self, client: str) -> list[Process]:
        return [process for process in self.processes if process.name.startswith(f"{client}:")]

    def workers(self, client: str) -> list[WorkerSpec]:
        return [process.spec for process in self.of_client(client) if isinstance(process.spec, WorkerSpec)]


def make_plan(
    home: Home,
    wishes: Wishes,
    *,
    environ: Mapping[str, str],
    clients: Sequence[str] | None = None,
    kept: Sequence[Process] = (),
) -> Plan:
    """The processes that the wishes ask for: those of `clients` (all, if None) from their files, and `kept` as they are.

    Raises ConfigurationError with every problem of every file concerned, SafetyRefusal for what must not run.
    """
    environment = load_environment(home, wishes.environment, environ=environ, overrides={})
    problems: list[str] = []
    planned: list[Process] = []
    for client, wish in sorted(wishes.clients.items()):
        if clients is not None and client not in clients:
            continue
        try:
            planned.extend(_client_processes(home, wishes.environment, client, wish, environ))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(*problems)
    feed = _feed(home, environment, planned, kept, wishes, environ)
    others = [process for process in kept if process.kind != "feed"]
    by_client = sorted([*planned, *others], key=lambda process: process.name.partition(":")[0])
    return Plan(processes=((feed,) if feed else ()) + tuple(by_client))


def known_clients(home: Home) -> list[str]:
    return client_names(home)


# -- one client --------------------------------------------------------------------------------------------------------


def load_wished(
    home: Home, environment: str, client: str, wish: Wish, environ: Mapping[str, str]
) -> tuple[Loaded[EnvironmentConfig], Loaded[ClientConfig]]:
    """The files with what the command line said on top."""
    overrides: dict[str, object] = {}
    if wish.mode:
        overrides["mode"] = wish.mode
    if wish.history:
        overrides["history.folder"] = wish.history
    loaded = load_environment(home, environment, environ=environ, overrides=overrides)
    return loaded, load_client(home, client, loaded, environ=environ, overrides=overrides)


def _client_processes(
    home: Home, environment_name: str, client: str, wish: Wish, environ: Mapping[str, str]
) -> list[Process]:
    environment, loaded = load_wished(home, environment_name, client, wish, environ)
    _refuse_unsafe(home, environment_name, loaded, client, wish, environ)
    problems = unavailable(environment, loaded)
    if problems:
        raise ConfigurationError(*problems)
    mode = loaded.value.mode
    resolved = _resolve(home, client, loaded)
    replay = _replay(home, environment.value, wish) if mode in (SIMULATION, HISTORICAL) else None
    workers = [
        _worker(home, environment.value, loaded.value, client, strategy, symbol, found, wish, replay)
        for strategy, found in zip(loaded.value.strategies, resolved, strict=True)
        for symbol in strategy.symbols
        if not wish.symbols or symbol in wish.symbols
    ]
    if wish.symbols and not workers:
        raise UsageError(f"{loaded.file}: symbols: expected some of {', '.join(wish.symbols)}, found none of them")
    if replay is not None:
        _check_history(loaded.file, Path(replay.folder), workers)
    running = [worker for worker in workers if worker.key.folder not in wish.stopped]
    router = _router(home, loaded.value, client, [worker.key.folder for worker in running])
    processes = [_process(home, router_name(client), "router", router)]
    return processes + [_process(home, worker.key.name, "worker", worker) for worker in running]


def _refuse_unsafe(
    home: Home, environment: str, loaded: Loaded[ClientConfig], client: str, wish: Wish, environ: Mapping[str, str]
) -> None:
    """Live needs both the file and the command line to say so."""
    if loaded.value.mode != "live":
        if wish.live:
            raise SafetyRefusal(f'{loaded.file}: mode: expected "live" for --live, found "{loaded.value.mode}"')
        return
    in_file = load_wished(home, environment, client, Wish(), environ)[1].value.mode
    if in_file != "live":
        raise SafetyRefusal(f'{loaded.file}: mode: expected "live" in the file as well, found "{in_file}"')
    if not wish.live:
        raise SafetyRefusal(f'{client}: mode "live" trades real money: expected --live on the command line, found none')


def _resolve(home: Home, client: str, loaded: Loaded[ClientConfig]) -> list[Resolved]:
    uses = [
        Use(strategy.strategy, strategy.params, f"{loaded.file}: strategies[{index}] ({strategy.id})")
        for index, strategy in enumerate(loaded.value.strategies)
    ]
    return resolve(home.client_strategies(client), uses)


def _worker(
    home: Home,
    environment: EnvironmentConfig,
    config: ClientConfig,
    client: str,
    strategy: StrategyConfig,
    symbol: str,
    found: Resolved,
    wish: Wish,
    replay: ReplaySpec | None,
) -> WorkerSpec:
    key = WorkerKey(client, strategy.id, symbol)
    account = config.accounts[symbol]
    models = tuple(
        ModelSpec(
            id=model.id,
            confidence_threshold=model.confidence_threshold,
            lookback_window=model.lookback_window,
            weight=model.weight,
        )
        for model in strategy.models
    )
    protection = ProtectionSpec(
        stop_loss_fraction=strategy.stop_loss_fraction, take_profit_fraction=strategy.take_profit_fraction
    )
    limits = config.limits_of(strategy)
    historical = config.mode == HISTORICAL
    return WorkerSpec(
        client=client,
        strategy=strategy.id,
        symbol=symbol,
        strategy_type=strategy.strategy,
        code=found.description.code,
        params=found.params,
        timeframe=strategy.timeframe,
        models=models,
        extra_symbols=strategy.extra_symbols,
        venue=account.venue,
        account=account.account,
        size=strategy.size,
        protection=protection,
        streams=tuple(stream.name for stream in _streams(strategy, symbol, found, live=config.mode == "live")),
        mode=config.mode,
        generation=generation(
            found.description.code_digest,
            params=found.params,
            timeframe=strategy.timeframe,
            models=models,
            size=strategy.size,
            protection=protection,
            extra_symbols=strategy.extra_symbols,
            venue=account.venue,
        ),
        market=_market(home, config.mode),
        router_doorbell=home.router_endpoint(client, "doorbell"),
        folder=str(home.worker(key, config.mode)),
        log=str(home.log(key.name)),
        log_level=config.log_level_of(strategy),
        limits=LimitsSpec(memory_limit_mb=limits.memory_limit_mb, cpu_limit=limits.cpu_limit),
        from_start=config.mode == SIMULATION,
        history=replay if historical else None,
        slots=str(home.sockets / "slots") if historical else "",
        parallel=(wish.parallel or os.cpu_count() or 1) if historical else 0,
        predictor=_predictor(environment),
    )


def _streams(strategy: StrategyConfig, symbol: str, found: Resolved, *, live: bool) -> list[Stream]:
    """Everything the strategy declared, for its symbol and the extra ones; predictions and the clock for its own only."""
    inputs = found.description.inputs
    streams: list[Stream] = []
    for one in dict.fromkeys((symbol, *strategy.extra_symbols, *inputs.symbols)):
        streams += [trades(one)] * inputs.trades + [quotes(one)] * inputs.quotes
        timeframes = ((strategy.timeframe,) if inputs.bars else ()) + inputs.timeframes
        streams += [bars(one, timeframe) for timeframe in dict.fromkeys(timeframes)]
    streams += [predictions(symbol, model.id, strategy.timeframe) for model in strategy.models]
    if inputs.timer:
        streams.append(clock("" if live else symbol, inputs.timer))
    if strategy.extra_symbols and not found.description.code:
        raise ConfigurationError(
            f"strategy {strategy.id}: extra_symbols: expected none for the built-in {strategy.strategy}, which reads one "
            f"symbol, found {', '.join(strategy.extra_symbols)}"
        )
    if not streams:
        raise ConfigurationError(
            f"strategy {strategy.id}: inputs: expected some declared by {strategy.strategy}, found none"
        )
    if inputs.predictions and not strategy.models:
        raise ConfigurationError(
            f"strategy {strategy.id}: models: expected at least one, since {strategy.strategy} reads predictions"
        )
    return streams


def _router(home: Home, config: ClientConfig, client: str, workers: list[str]) -> RouterSpec:
    mode = config.mode
    state = home.client_state(client, mode)
    keys = config.quantconnect
    return RouterSpec(
        client=client,
        mode=mode,
        workers=tuple(workers),
        ordered=mode == SIMULATION,
        bulk=mode == HISTORICAL,
        routes=tuple(config.routes),
        market=_market(home, mode),
        doorbell=home.router_endpoint(client, "doorbell"),
        sql=home.router_endpoint(client, "sql"),
        folder=str(home.router(client, mode)),
        workers_folder=str(state / "workers"),
        duckdb=str(home.database(client, mode)),
        quantconnect=QuantConnectSpec(
            folder=str(state / "quantconnect"),
            project_id=keys.project_id.as_table() if keys.project_id else None,
            api_key=keys.api_key.as_table() if keys.api_key else None,
        ),
        log=str(home.log(router_name(client))),
        log_level=config.log_level,
    )


# -- what clients share ------------------------------------------------------------------------------------------------


def _feed(
    home: Home,
    environment: Loaded[EnvironmentConfig],
    planned: Sequence[Process],
    kept: Sequence[Process],
    wishes: Wishes,
    environ: Mapping[str, str],
) -> Process | None:
    """The one feed of all clients that follow a tape; they must agree on where its records come from.

    A feed among `kept` stays as it is, but for the streams it carries.
    """
    followers = [worker for worker in _workers(planned) if not worker.history]
    others = [worker for worker in _workers(kept) if not worker.history]
    if not followers and not others:
        return None
    streams = tuple(sorted({stream for worker in (*followers, *others) for stream in worker.streams}))
    sources: dict[str, _Source] = {}
    for client, mode in sorted({(worker.client, worker.mode) for worker in followers}):
        wished = load_wished(home, wishes.environment, client, wishes.clients[client], environ)[0].value
        sources[client] = _source(home, wished, wishes.clients[client], mode)
    running = next((process.spec for process in kept if isinstance(process.spec, FeedSpec)), None) if others else None
    if running is not None:
        sources[", ".join(sorted({worker.client for worker in others}))] = _Source(
            running.mode, running.mock, running.replay
        )
    if len(set(sources.values())) > 1:
        asked = "; ".join(f"{client}: {source}" for client, source in sources.items())
        raise SafetyRefusal(
            f"one feed serves all clients: expected one source of records, found {asked}; stop some of them first"
        )
    if running is not None:
        return _process(home, FEED_NAME, "feed", msgspec.structs.replace(running, streams=streams))
    mode, mock, replay = next(iter(sources.values()))
    config = environment.value
    spec = FeedSpec(
        mode=mode,
        streams=streams,
        mock=mock,
        replay=replay,
        models=_predictor(config),
        tape=TapeSpec(
            segment_records=config.tape.segment_records,
            durable_interval_ms=config.tape.durable_interval_ms,
            retention_hours=config.tape.retention_hours,
            retention_gb=config.tape.retention_gb,
        ),
        market=_market(home, mode),
        beat_interval_s=config.feed.beat_interval_s,
        readers=str(home.var / "clients" / "*" / mode / "workers" / "*" / "status"),
        folder=str(home.market(mode)),
        log=str(home.log(FEED_NAME)),
        log_level=config.log_level,
    )
    return _process(home, FEED_NAME, "feed", spec)


class _Source(NamedTuple):
    """Where a feed's records come from."""

    mode: str
    mock: MockSpec | None
    replay: ReplaySpec | None

    def __str__(self) -> str:
        if self.replay is None:
            return f"mode {self.mode}" + (f" at speed {self.mock.speed:g}" if self.mock else "")
        window = ", a window of its own" if self.replay.from_ns or self.replay.to_ns else ""
        return f"mode {self.mode} of {self.replay.folder} at speed {self.replay.speed:g}{window}"


def _source(home: Home, config: EnvironmentConfig, wish: Wish, mode: str) -> _Source:
    """Here a mode becomes a source of records."""
    if mode == SIMULATION:
        return _Source(mode, None, _replay(home, config, wish))
    mock = MockSpec(
        seed=config.mock.seed,
        speed=config.mock.speed if wish.speed is None else wish.speed,
        start_ns=config.mock.start_ns,
        records=config.mock.records,
        trades_per_s=config.mock.trades_per_s,
        quotes_per_s=config.mock.quotes_per_s,
        prices=tuple((symbol, instrument.price) for symbol, instrument in sorted(config.instruments.items())),
    )
    return _Source(mode, mock if mode == "mock" else None, None)


def _replay(home: Home, config: EnvironmentConfig, wish: Wish) -> ReplaySpec:
    folder = history_folder(home, config)
    assert folder is not None, "availability was checked before"
    if not folder.is_dir():
        where = "--history" if wish.history else "history.folder"
        raise ConfigurationError(f"{where}: expected a folder of recorded history, found nothing at {folder}")
    return ReplaySpec(folder=str(folder), speed=wish.speed or 0.0, from_ns=wish.from_ns, to_ns=wish.to_ns)


def _check_history(file: str, folder: Path, workers: Sequence[WorkerSpec]) -> None:
    """Every symbol that is read has recorded history, said before anything starts."""
    read = {Stream.parse(name).symbol for worker in workers for name in worker.streams} - {""}
    problems = []
    for symbol in sorted(read.difference(symbols_in(folder))):
        try:
            find_series(folder, symbol)
        except ConfigurationError as error:
            problems += [f"{file}: symbols: {problem}" for problem in error.problems]
    if problems:
        raise ConfigurationError(*problems)


def _market(home: Home, mode: str) -> MarketSpec:
    return MarketSpec(
        tape=str(home.market(mode) / "tape"),
        doorbell=home.market_endpoint("doorbell"),
        frames=home.market_endpoint("frames"),
    )


def _predictor(config: EnvironmentConfig) -> ModelProviderSpec:
    return ModelProviderSpec(provider=config.models.provider, seed=config.models.seed)


def _workers(processes: Sequence[Process]) -> list[WorkerSpec]:
    return [process.spec for process in processes if isinstance(process.spec, WorkerSpec)]


def _process(home: Home, name: str, kind: Kind, spec: Spec) -> Process:
    group, _, rest = name.partition(":")
    return Process(name=name, kind=kind, spec=spec, path=home.daemon / "specs" / group / f"{rest}.json")


def _program(home: Home, process: Process) -> Program:
    group, _, name = process.name.partition(":")
    assert group == MARKET_GROUP or process.kind != "feed"
    return Program(
        group=group,
        name=name,
        kind=process.kind,
        spec=process.path,
        digest=process.digest,
        log=home.log(process.name),
    )
