"""One client's part of the plan: its router and its workers, from its files and what the command line said."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

import msgspec

from strategy_runner.config.availability import unavailable
from strategy_runner.config.home import Home
from strategy_runner.config.load import load_client, load_environment
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig, StrategyConfig
from strategy_runner.config.spec import (
    FreshnessSpec,
    LimitsSpec,
    MarketSpec,
    ModelSpec,
    ProtectionSpec,
    QuantConnectSpec,
    ReplaySpec,
    RouterSpec,
    WorkerSpec,
)
from strategy_runner.config.suggest import did_you_mean
from strategy_runner.errors import ConfigurationError, SafetyRefusal, UsageError
from strategy_runner.history.catalog import SymbolHistory, all_histories, find_series, unreadable
from strategy_runner.model.names import WorkerKey, router_name
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars, clock, predictions, quotes, trades
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.strategies.client_code import shown
from strategy_runner.strategies.describe import Description, Resolved, Use, resolve
from strategy_runner.strategies.generation import generation, versions
from strategy_runner.supervision.plan_orders import with_orders, worker_orders
from strategy_runner.supervision.process import (
    HISTORICAL,
    SIMULATION,
    Process,
    market_of,
    new_process,
    predictor_of,
    replay_of,
)
from strategy_runner.supervision.wishes import Wish


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one client: what its router and all its workers are made of, each from its own part."""

    home: Home
    client: str
    environment: EnvironmentConfig
    config: ClientConfig
    wish: Wish
    market: MarketSpec
    replay: ReplaySpec | None
    at_a_pace: bool
    parallel: int


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


def client_processes(
    home: Home, environment_name: str, client: str, wish: Wish, environ: Mapping[str, str]
) -> list[Process]:
    environment, loaded = load_wished(home, environment_name, client, wish, environ)
    _refuse_unsafe(home, environment_name, loaded, client, wish, environ)
    problems = unavailable(environment, loaded)
    if problems:
        raise ConfigurationError(*problems)
    mode = loaded.value.mode
    resolved = _resolve(home, client, loaded)
    if mode == "mock":
        _refuse_unknown(environment, resolved)
    run = _Run(
        home=home,
        client=client,
        environment=environment.value,
        config=_routed(loaded.value, wish),
        wish=wish,
        market=market_of(home, mode),
        replay=replay_of(home, environment.value, wish) if mode in (SIMULATION, HISTORICAL) else None,
        at_a_pace=_is_at_a_pace(environment.value, mode, wish),
        parallel=(wish.parallel or os.cpu_count() or 1) if mode == HISTORICAL else 0,
    )
    workers = [
        _worker(run, strategy, symbol, found, f"{loaded.file}: strategies[{index}]")
        for index, (strategy, found) in enumerate(zip(loaded.value.strategies, resolved, strict=True))
        for symbol in _symbols(strategy, wish)
    ]
    if wish.symbols:
        _expect_symbols(wish.symbols, {symbol for one in loaded.value.strategies for symbol in one.symbols}, client)
    if run.replay is not None:
        known = all_histories(Path(run.replay.folder))
        _check_history(loaded, Path(run.replay.folder), known, workers)
        workers = [_of_recorded(worker, known) for worker in workers]
    running = [worker for worker in workers if worker.key.folder not in wish.stopped]
    if run.parallel >= 2 * len(running):
        running = [msgspec.structs.replace(worker, spare_core=True) for worker in running]
    router = _router(run, running)
    if run.at_a_pace and "oms" in run.config.routes:
        router = with_orders(home, run.environment, run.config, router)
    processes = [new_process(home, router_name(client), "router", router)]
    return processes + [new_process(home, worker.key.name, "worker", worker) for worker in running]


def worker_keys(home: Home, environment: str, client: str, wish: Wish, environ: Mapping[str, str]) -> list[WorkerKey]:
    """Of all that the wish asks for, the stopped ones too."""
    config = load_wished(home, environment, client, wish, environ)[1].value
    return [
        WorkerKey(client, strategy.id, symbol) for strategy in config.strategies for symbol in _symbols(strategy, wish)
    ]


def refuse_slips(home: Home, environment: str, clients: Iterable[str], wish: Wish, environ: Mapping[str, str]) -> None:
    """What the command line has just asked for must be there: the folder of history, and each symbol with one of these clients.
    Raises UsageError, ConfigurationError."""
    if wish.history and not Path(wish.history).is_dir():
        raise UsageError(f"--history: expected a folder of recorded history, found nothing at {wish.history}")
    if wish.symbols:
        of_all = msgspec.structs.replace(wish, symbols=())
        keys = [key for client in clients for key in worker_keys(home, environment, client, of_all, environ)]
        for symbol in wish.symbols:
            _expect_symbols([symbol], {key.symbol for key in keys})


def _expect_symbols(wished: Sequence[str], known: Set[str], client: str = "") -> None:
    if known.isdisjoint(wished):
        hint = did_you_mean(wished[0], known) if len(wished) == 1 else ""
        of = f"{client}: " if client else ""
        raise UsageError(f"{of}--symbols: expected some of {', '.join(sorted(known))}, found {', '.join(wished)}{hint}")


def _symbols(strategy: StrategyConfig, wish: Wish) -> list[str]:
    return [symbol for symbol in strategy.symbols if not wish.symbols or symbol in wish.symbols]


def _routed(config: ClientConfig, wish: Wish) -> ClientConfig:
    """What is only observed goes nowhere."""
    if config.posture == "trading" and not wish.observe:
        return config
    return msgspec.structs.replace(config, posture="observation", routes=())


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


def _refuse_unknown(environment: Loaded[EnvironmentConfig], resolved: Sequence[Resolved]) -> None:
    """The mock market makes prices for the instruments of the environment and for no others; those that a client's file names
    were looked at when it was read."""
    known = environment.value.instruments
    problems = [
        f"{shown(Path(found.description.code))}: inputs.symbols: expected an instrument of {environment.file}, "
        f"found {symbol}{did_you_mean(symbol, known) or '; it has ' + (', '.join(known) or 'none')}"
        for found in resolved
        for symbol in found.description.inputs.symbols
        if symbol not in known
    ]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))


def _worker(run: _Run, strategy: StrategyConfig, symbol: str, found: Resolved, where: str) -> WorkerSpec:
    """`where` begins what is said against the strategy. Raises ConfigurationError."""
    home, config = run.home, run.config
    key = WorkerKey(run.client, strategy.id, symbol)
    streams = _streams(strategy, symbol, found, where, live=config.mode == "live")
    orders = worker_orders(home, run.environment, config, key, streams, where, at_a_pace=run.at_a_pace)
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
    spec = WorkerSpec(
        client=run.client,
        strategy=strategy.id,
        symbol=symbol,
        strategy_type=strategy.strategy,
        code=found.description.code if historical else _kept_code(home, run.client, found.description),
        params=found.params,
        timeframe=strategy.timeframe,
        models=models,
        extra_symbols=strategy.extra_symbols,
        venue=account.venue,
        account=account.account,
        size=strategy.size,
        protection=protection,
        streams=tuple(stream.name for stream in streams),
        mode=config.mode,
        generation="",
        market=run.market,
        router_doorbell=home.router_endpoint(run.client, "doorbell"),
        folder=str(home.worker(key, config.mode)),
        log=str(home.log(key.name)),
        log_level=config.log_level_of(strategy),
        limits=LimitsSpec(
            memory_limit_mb=limits.memory_limit_mb,
            cpu_limit=limits.cpu_limit,
            crash_limit=limits.crash_limit,
            crash_window_s=limits.crash_window_s,
        ),
        from_start=config.mode == SIMULATION,
        history=run.replay if historical else None,
        slots=str(home.sockets / "slots") if historical else "",
        parallel=run.parallel,
        predictor=predictor_of(run.environment),
        fills=orders.fills,
        paper=orders.paper,
        checked_bars=run.wish.checked_bars if historical else None,
        is_observed=config.posture == "observation",
        versions=versions(),
    )
    return msgspec.structs.replace(spec, generation=generation(found.description.code_digest, spec))


def _kept_code(home: Home, client: str, strategy: Description) -> str:
    """Where the file of a client's own strategy is kept as it is now; "" for a built-in one."""
    if not strategy.code:
        return ""
    return str(home.kept_strategies(client, strategy.folder_digest) / Path(strategy.code).name)


def _streams(strategy: StrategyConfig, symbol: str, found: Resolved, where: str, *, live: bool) -> list[Stream]:
    """Everything the strategy declared, for its symbol and the extra ones; predictions and the clock for its own only.

    Raises ConfigurationError."""
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
            f"{where}.extra_symbols ({strategy.id}): expected none for the built-in {strategy.strategy}, which reads one "
            f"symbol, found {', '.join(strategy.extra_symbols)}"
        )
    if not streams:
        raise ConfigurationError(
            f"{where} ({strategy.id}): inputs: expected some declared by {strategy.strategy}, found none"
        )
    if inputs.predictions and not strategy.models:
        raise ConfigurationError(
            f"{where}.models ({strategy.id}): expected at least one, since {strategy.strategy} reads predictions, found none"
        )
    return streams


def _is_at_a_pace(environment: EnvironmentConfig, mode: str, wish: Wish) -> bool:
    """Whether records come at a pace of time: flat out, nobody can say what is late."""
    if mode == HISTORICAL:
        return False
    if mode == SIMULATION:
        return bool(wish.speed)
    return mode != "mock" or bool(environment.mock.speed if wish.speed is None else wish.speed)


def _freshness(run: _Run, workers: Sequence[WorkerSpec]) -> dict[str, FreshnessSpec]:
    """By worker; none flat out. Recorded history has gaps of its own, so that silence says nothing in simulation."""
    if not run.at_a_pace:
        return {}
    environment = run.environment
    time_to_live_s = {strategy.id: strategy.time_to_live_s for strategy in run.config.strategies}
    can_be_silent = run.config.mode != SIMULATION
    return {
        worker.key.folder: FreshnessSpec(
            time_to_live_s=time_to_live_s[worker.strategy],
            feed_stale_after_s=environment.feed.stale_after_s if can_be_silent else None,
            symbol_stale_after_s=_symbol_stale_after_s(environment, worker) if can_be_silent else None,
            asset_class=_trading_hours(environment, worker.symbol),
        )
        for worker in workers
    }


def _symbol_stale_after_s(environment: EnvironmentConfig, worker: WorkerSpec) -> float:
    """Of a symbol whose trades or quotes the worker reads, the limit itself; of bars alone it takes two to be missed."""
    streams = [stream for stream in map(Stream.parse, worker.streams) if stream.symbol == worker.symbol]
    limit_s = environment.feed.symbol_stale_after_s
    if any(stream.kind in (Kind.TRADE, Kind.QUOTE) for stream in streams):
        return limit_s
    timed = [stream.timeframe for stream in streams if stream.kind in (Kind.BAR, Kind.PREDICTION)]
    return max(limit_s, 2 * min(map(timeframe_ns, timed or [worker.timeframe])) / 1e9)


def _trading_hours(environment: EnvironmentConfig, symbol: str) -> str:
    """A symbol that the environment does not know is held to trade always: its silence is never excused."""
    instrument = environment.instruments.get(symbol)
    return (instrument.calendar or instrument.asset_class) if instrument else "crypto"


def _router(run: _Run, workers: Sequence[WorkerSpec]) -> RouterSpec:
    home, client, config = run.home, run.client, run.config
    mode = config.mode
    state = home.client_state(client, mode)
    keys = config.quantconnect
    return RouterSpec(
        client=client,
        mode=mode,
        workers=tuple(worker.key.folder for worker in workers),
        freshness=_freshness(run, workers),
        ordered=mode == SIMULATION,
        bulk=mode == HISTORICAL,
        routes=tuple(config.routes),
        is_observed=config.posture == "observation",
        market=run.market,
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


def _of_recorded(worker: WorkerSpec, known: Mapping[str, SymbolHistory]) -> WorkerSpec:
    """Without the trades and quotes that nobody recorded: orders that the worker fills itself would wait for them for ever. One
    that reads nothing else is left as it is."""
    streams = tuple(name for name in worker.streams if _is_recorded(Stream.parse(name), known))
    return msgspec.structs.replace(worker, streams=streams or worker.streams)


def _is_recorded(stream: Stream, known: Mapping[str, SymbolHistory]) -> bool:
    if stream.kind not in (Kind.TRADE, Kind.QUOTE):
        return True
    history = known[stream.symbol]
    return stream in (history.base.stream, *(other.stream for other in history.others))


def _check_history(
    loaded: Loaded[ClientConfig], folder: Path, known: Mapping[str, SymbolHistory], workers: Sequence[WorkerSpec]
) -> None:
    """Every symbol that is read has recorded history that may be read, and of which its bars can be made: said before anything
    starts or changes."""
    read = {Stream.parse(name).symbol for worker in workers for name in worker.streams} - {""}
    problems = []
    for symbol in sorted(read):
        try:
            found = known.get(symbol) or find_series(folder, symbol)
        except ConfigurationError as error:
            problems += [f"{loaded.file}: symbols: {problem}" for problem in error.problems]
        else:
            problems += filter(None, map(unreadable, (found.base, *found.others)))
    for index, strategy in enumerate(loaded.value.strategies):
        for worker in workers:
            if worker.strategy == strategy.id:
                where = f"{loaded.file}: strategies[{index}]"
                problems += [f"{where}{problem}" for problem in _too_fine(worker, known, folder)]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))


def _too_fine(worker: WorkerSpec, known: Mapping[str, SymbolHistory], folder: Path) -> Iterator[str]:
    """Key, expected and found of each of a worker's streams whose bars are no multiple of the recorded ones."""
    for stream in map(Stream.parse, worker.streams):
        history = known.get(stream.symbol)
        if stream.kind in (Kind.BAR, Kind.PREDICTION) and history and not history.makes_bars(stream.timeframe):
            is_own = stream.timeframe == worker.timeframe
            key = f".timeframe ({worker.strategy})" if is_own else f" ({worker.strategy}): inputs.timeframes"
            recorded = history.base.stream.timeframe
            yield (
                f"{key}: expected a multiple of {recorded}, the finest bars of {stream.symbol} in {folder}, "
                f"found {stream.timeframe}"
            )
