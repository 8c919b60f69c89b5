"""What all clients share: the one feed, and the one source that its records come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import EnvironmentConfig
from strategy_runner.config.spec import (
    FeedSpec,
    MockSpec,
    PrivateSource,
    ReplaySpec,
    RouterSpec,
    TapeSpec,
    WorkerSpec,
)
from strategy_runner.errors import SafetyRefusal
from strategy_runner.history.catalog import find_series
from strategy_runner.model.names import FEED_NAME
from strategy_runner.model.stream import quotes, trades
from strategy_runner.supervision.plan_client import load_wished
from strategy_runner.supervision.process import SIMULATION, Process, market_of, new_process, predictor_of, replay_of
from strategy_runner.supervision.wishes import Wish, Wishes


def feed_process(
    home: Home,
    environment: Loaded[EnvironmentConfig],
    planned: Sequence[Process],
    kept: Sequence[Process],
    wishes: Wishes,
    environ: Mapping[str, str],
) -> Process | None:
    """The one feed of all clients that follow a tape; they must agree on where its records come from.

    A feed among `kept` stays as it is, but for the streams it carries and the fill logs it follows.
    """
    followers = [worker for worker in _workers(planned) if not worker.history]
    others = [worker for worker in _workers(kept) if not worker.history]
    if not followers and not others:
        return None
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
    source = next(iter(sources.values()))
    streams = tuple(sorted(_wanted([*followers, *others], source)))
    logs = _fill_logs([*planned, *kept])
    if running is not None:
        return new_process(home, FEED_NAME, "feed", msgspec.structs.replace(running, streams=streams, private=logs))
    mode, mock, replay = source
    config = environment.value
    spec = FeedSpec(
        mode=mode,
        streams=streams,
        mock=mock,
        replay=replay,
        models=predictor_of(config),
        tape=TapeSpec(
            segment_records=config.tape.segment_records,
            durable_interval_ms=config.tape.durable_interval_ms,
            reserve_mb=config.tape.reserve_mb,
            retention_hours=config.tape.retention_hours,
            retention_gb=config.tape.retention_gb,
        ),
        market=market_of(home, mode),
        beat_interval_s=config.feed.beat_interval_s,
        readers=(
            str(home.var / "clients" / "*" / mode / "workers" / "*" / "status"),
            str(home.oms(mode) / "status"),
        ),
        folder=str(home.market(mode)),
        log=str(home.log(FEED_NAME)),
        log_level=config.log_level,
        private=logs,
    )
    return new_process(home, FEED_NAME, "feed", spec)


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
        return _Source(mode, None, replay_of(home, config, wish))
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


def _wanted(workers: Sequence[WorkerSpec], source: _Source) -> set[str]:
    """Names of all streams that workers read, or the paper OMS fills the orders of workers from: whatever others read, a
    client's orders meet the same market."""
    found = {stream for worker in workers for stream in worker.streams}
    for symbol in {worker.symbol for worker in workers if worker.fills}:
        if source.replay is not None:
            series = find_series(Path(source.replay.folder), symbol)
            finest = [series.base.stream, *(one.stream for one in series.others)]
        else:
            finest = [trades(symbol), quotes(symbol)]
            if source.mock is not None:
                rates = (source.mock.trades_per_s, source.mock.quotes_per_s)
                finest = [stream for stream, rate in zip(finest, rates, strict=True) if rate]
        found |= {stream.name for stream in finest}
    return found


def _fill_logs(processes: Sequence[Process]) -> tuple[PrivateSource, ...]:
    """Of the clients with an OMS."""
    routers = (process.spec for process in processes if isinstance(process.spec, RouterSpec))
    return tuple(sorted(PrivateSource(client=one.client, path=one.oms.fills) for one in routers if one.oms))


def _workers(processes: Sequence[Process]) -> list[WorkerSpec]:
    return [process.spec for process in processes if isinstance(process.spec, WorkerSpec)]
