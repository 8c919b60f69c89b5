"""Workers without a supervisor: followers of a tape in processes of their own, as the doorbell and fan-out benchmarks need."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from strategy_runner.bus.doorbell import SignalDoorbell, StreamListener
from strategy_runner.config.spec import LimitsSpec, MarketSpec, ModelProviderSpec, ProtectionSpec, WorkerSpec
from strategy_runner.model.event import Trade
from strategy_runner.model.stream import trades
from strategy_runner.pinned_environment import PINNED_ENVIRONMENT
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import StatusFile
from strategy_runner.worker.follower import Follower

# forked from a server that has no ZeroMQ context, since a context does not survive a fork, and is prepared as the zygote is, of
# which workers are born: their code is warm, and they share it
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["benchmarks.prepared"])
os.environ.update(PINNED_ENVIRONMENT)  # the server's: it is begun with the first of its processes
BEAT_MS = 1_000  # feed.beat_interval_s, if nothing else is said


class Counter(Strategy):
    """Counts trades and does nothing else."""

    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.seen = 0

    def on_trade(self, trade: Trade) -> None:
        self.seen += 1


class Witness(Strategy):
    """Notes how old each trade is, as no strategy in earnest could: it looks at a clock."""

    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.ages_ns: list[int] = []

    def on_trade(self, trade: Trade) -> None:
        self.ages_ns.append(time.monotonic_ns() - trade.event_ns)


class Crier(Strategy):
    """Signals at every trade."""

    inputs = Inputs(trades=True)

    def on_trade(self, trade: Trade) -> None:
        self.buy("a trade", size=1.0)


def market_in(folder: Path) -> MarketSpec:
    return MarketSpec(tape=str(folder / "tape"), doorbell=f"ipc://{folder}/bell", frames="")


def follow(folder: Path, number: int, symbol: str, strategy: Strategy) -> Follower:
    """A follower of the trades of one symbol, from the tape's first record on."""
    spec = _spec(folder, number, symbol)
    return Follower(
        spec,
        strategy,
        reader=TapeReader(Path(spec.market.tape)),
        listener=StreamListener(spec.market.doorbell, spec.streams),
        router=SignalDoorbell(spec.router_doorbell, spec.key.folder),
        status=StatusFile(Path(spec.folder) / "status"),
        from_start=True,
    )


def count_until(name: str, number: int, symbol: str, events: int, results: Connection) -> None:
    """A process: follows until it has seen so many trades, then tells when (monotonic ns)."""
    counter = Counter(None, symbol=symbol, timeframe="1m")
    follower = follow(Path(name), number, symbol, counter)
    results.send("ready")
    while counter.seen < events:
        if not follower.turn():
            follower.wait()
    assert counter.seen == events, f"expected {events} trades, found {counter.seen}"
    results.send(time.monotonic_ns())


def _spec(folder: Path, number: int, symbol: str) -> WorkerSpec:
    return WorkerSpec(
        client="bench",
        strategy=f"w{number}",
        symbol=symbol,
        strategy_type="witness",
        code="",
        params={},
        timeframe="1m",
        models=(),
        extra_symbols=(),
        venue="bench",
        account="bench",
        size=1.0,
        protection=ProtectionSpec(),
        streams=(trades(symbol).name,),
        mode="mock",
        generation="00000000",
        market=market_in(folder),
        router_doorbell=f"ipc://{folder}/router",
        folder=str(folder / f"worker-{number}"),
        log="",
        log_level="info",
        limits=LimitsSpec(memory_limit_mb=256, cpu_limit=1.0),
        from_start=True,
        history=None,
        slots="",
        parallel=0,
        predictor=ModelProviderSpec(provider="mock", seed=1),
    )
