"""simulation: records a second that the feed puts on the tape, flat out from history, beside struct packing the same rows.

The feed reads Parquet, merges, derives bars, appends, indexes, publishes, rings and keeps the tape durable meanwhile.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.common import Figure, Sample, Settings, figure, rate
from benchmarks.homes import CLIENT, bench_home
from benchmarks.market import SYMBOL, Floats, write_bars, write_trades
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed.feed import Feed
from strategy_runner.history.replay import ReplaySource
from strategy_runner.model.record import CODEC, SIZE
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.process import SIMULATION
from strategy_runner.supervision.wishes import Wish, Wishes
from strategy_runner.tape.status import StatusFile
from strategy_runner.tape.writer import TapeWriter

NAME = "simulation"
_BARS = 'id = "sma"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"'
_AGAINST = "struct.pack_into of the same rows, in memory"
_Write = Callable[[Path, int], Floats]


def run(settings: Settings) -> Iterator[Figure]:
    for what, write in (("bars", write_bars), ("trades, 1m bars made of them", write_trades)):
        yield _one(settings, what, write)


def _one(settings: Settings, what: str, write: _Write) -> Figure:
    with bench_home([SYMBOL], [_BARS]) as home:
        prices = write(home.root / "history", settings.rows).tolist()
        spec = _feed_spec(home)
        fed, packed = [], []
        for _ in range(settings.runs):
            packed.append(rate(len(prices), lambda: _pack(prices)))
            fed.append(_feed_rate(spec, settings.rows))
    return figure(settings, NAME, f"feed flat out, {what}", "rows/s", Sample.of(fed), Sample.of(packed), _AGAINST)


def _feed_spec(home: Home) -> FeedSpec:
    """What the plan gives the feed of a simulation that goes as fast as it can."""
    wish = Wish(mode=SIMULATION, history=str(home.root / "history"), speed=0.0)
    plan = make_plan(home, Wishes().with_client(CLIENT, wish), environ={})
    home.sockets.mkdir(parents=True)
    return next(process.spec for process in plan.processes if isinstance(process.spec, FeedSpec))


def _feed_rate(spec: FeedSpec, rows: int) -> float:
    """Rows a second from the feed's first turn to the last record published, on an empty tape."""
    assert spec.replay is not None
    folder = Path(spec.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    context = new_context()
    doorbell, frames = StreamDoorbell(spec.market.doorbell), FramePublisher(context, spec.market.frames)
    writer = TapeWriter(Path(spec.market.tape), segment_records=spec.tape.segment_records)
    begun = time.perf_counter()
    feed = Feed(
        spec,
        ReplaySource(spec.replay),
        writer=writer,
        doorbell=doorbell,
        frames=frames,
        status=StatusFile(folder / "status"),
        speed=spec.replay.speed,
        slowest_reader=lambda horizon_ns: 0,
    )
    while not writer.head.finished:
        feed.turn()
    seconds = time.perf_counter() - begun
    feed.stop()
    for opened in (doorbell, frames, writer):
        opened.close()
    context.term()
    return rows / seconds


def _pack(prices: Sequence[float]) -> None:
    pack_into, memory, nan = CODEC.pack_into, bytearray(SIZE * 1024), float("nan")
    for at, price in enumerate(prices):
        pack_into(memory, at % 1024 * SIZE, 0, 1, at, 1, 0, 1, 1, 0, price, 1.0, 1.0, nan, nan, 0.0)
