"""ingest: events a second that the feed takes, derives, appends and publishes, sustained, beside a bare loop that packs them.

Fifty symbols with their trades and 1m bars. The feed is a process of its own, put together and driven as under the daemon:
doorbells, frames, beats, checkpoints, retention, and the thread that keeps the tape durable. Its source is history flat out,
and the mock market flat out, which makes its numbers as it goes. What it did is read off the tape, second by second.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.common import Figure, Sample, Settings, figure, rate, talk
from benchmarks.homes import CLIENT, bench_home, clean_environment
from benchmarks.market import write_trades
from benchmarks.standing import SYMBOLS, symbols_for
from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, write_spec
from strategy_runner.errors import NotRunningError, TimeoutExpiredError
from strategy_runner.model.record import CODEC, SIZE, Kind
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.process import SIMULATION
from strategy_runner.supervision.wishes import Wish, Wishes
from strategy_runner.tape import files
from strategy_runner.tape.reader import TapeReader

NAME = "ingest"
# what they read is what the feed makes: trades and bars of each symbol
_STRATEGIES = (
    'id = "bars"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"',
    'id = "trades"\nstrategy = "ema_trades"\ntimeframe = "1m"',
)
_MOCK = {"STRATEGY_RUNNER__MOCK__SPEED": "0", "STRATEGY_RUNNER__MOCK__QUOTES_PER_S": "0"}
_AGAINST = "struct.pack_into of as many records, in memory"
_LOOK_S = 0.02
_SLICE_S = 1.0
_PATIENCE_S = 120.0
_TRIAL_ROWS = 1_000_000
_ROOM = 1.25  # more rows than the trial needed


class _Ingested(msgspec.Struct, frozen=True):
    """Events and records a second, one of each for every slice of the time."""

    events: Sample
    records: Sample


def run(settings: Settings) -> Iterator[Figure]:
    packed = Sample.of(_pack_rate(settings.rows) for _ in range(settings.runs))
    symbols = symbols_for(SYMBOLS)
    with bench_home(symbols, _STRATEGIES, own=["ema_trades"]) as home:
        for source, ingested in (
            ("history", _from_history(settings, home, symbols)),
            ("the mock market", _ingest(_mock_spec(home), settings.ingest_s)),
        ):
            for what, sample in (("events", ingested.events), ("records", ingested.records)):
                title = f"{what} of {source}, {SYMBOLS} symbols and 1m bars, {settings.ingest_s:g} s"
                yield figure(settings, NAME, title, f"{what}/s", sample, packed, _AGAINST)


def _from_history(settings: Settings, home: Home, symbols: list[str]) -> _Ingested:
    """As much history as lasts for the time, by a trial on little."""
    spec = _history_spec(home, symbols, min(settings.rows, _TRIAL_ROWS))
    events = _ingest(spec, settings.ingest_s).events
    rows = int(max(events.values) * (settings.ingest_s + _SLICE_S) * _ROOM)
    talk(f"  {rows:,} rows of history for {settings.ingest_s:g} s ...")
    return _ingest(_history_spec(home, symbols, rows), settings.ingest_s)


def _history_spec(home: Home, symbols: list[str], rows: int) -> FeedSpec:
    history = home.root / "history"
    shutil.rmtree(history, ignore_errors=True)
    for symbol in symbols:
        write_trades(history, rows // len(symbols), symbol)
    return _feed_spec(home, Wish(mode=SIMULATION, history=str(history), speed=0.0), {})


def _mock_spec(home: Home) -> FeedSpec:
    return _feed_spec(home, Wish(), _MOCK)


def _feed_spec(home: Home, wish: Wish, environ: dict[str, str]) -> FeedSpec:
    plan = make_plan(home, Wishes().with_client(CLIENT, wish), environ=environ)
    return next(process.spec for process in plan.processes if isinstance(process.spec, FeedSpec))


def _ingest(spec: FeedSpec, seconds: float) -> _Ingested:
    """What the feed puts on an empty tape, from its first records on, until the time is over or its source has ended."""
    shutil.rmtree(spec.folder, ignore_errors=True)
    with _feed_process(spec) as process:
        reader = _await_records(spec, process)
        events = [i for i, stream in enumerate(reader.all_streams()) if stream.kind is Kind.TRADE]
        slices = []
        ends = time.perf_counter() + seconds
        before = _seen(reader, events)
        while not reader.head.finished and time.perf_counter() < ends:
            time.sleep(min(_SLICE_S, seconds / 4))
            if process.poll() is not None:
                raise NotRunningError(f"the feed ended with {process.returncode}")
            now = _seen(reader, events)
            slices.append(tuple((after - old) / (now[0] - before[0]) for after, old in zip(now, before, strict=True)))
            before = now
        if len(slices) > 1 and reader.head.finished:
            slices.pop()  # in the last the source ended before the slice did
        reader.close()
    return _Ingested(Sample.of(one[1] for one in slices), Sample.of(one[2] for one in slices))


def _seen(reader: TapeReader, events: list[int]) -> tuple[float, int, int]:
    """When, how many events, how many records."""
    return time.perf_counter(), sum(map(reader.entries, events)), reader.head.count


@contextmanager
def _feed_process(spec: FeedSpec) -> Iterator["subprocess.Popen[bytes]"]:
    path = Path(spec.folder).with_name("feed.json")
    Path(spec.market.doorbell.removeprefix("ipc://")).parent.mkdir(parents=True, exist_ok=True)
    write_spec(path, spec)
    words = [sys.executable, "-m", "strategy_runner.assembly", str(path)]
    process = subprocess.Popen(words, env=clean_environment({}), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(_PATIENCE_S)


def _await_records(spec: FeedSpec, process: "subprocess.Popen[bytes]") -> TapeReader:
    deadline = time.monotonic() + _PATIENCE_S
    tape = Path(spec.market.tape)
    while process.poll() is None and time.monotonic() < deadline:
        if files.head_path(tape).exists():
            reader = TapeReader(tape)
            if reader.head.count:
                return reader
            reader.close()
        time.sleep(_LOOK_S)
    if process.poll() is not None:
        raise NotRunningError(f"the feed ended with {process.returncode} before its first record")
    raise TimeoutExpiredError(f"expected records of the feed within {_PATIENCE_S:g} s, found none")


def _pack_rate(records: int) -> float:
    pack_into, memory, nan = CODEC.pack_into, bytearray(SIZE * 1024), float("nan")

    def pack() -> None:
        for seq in range(records):
            pack_into(memory, seq % 1024 * SIZE, 0, seq % 50, seq, 1, 0, 1, 1, 0, 100.25, 1.0, 1.0, nan, nan, 0.0)

    return rate(records, pack)
