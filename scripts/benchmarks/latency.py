"""latency: from the append of an event until the router can read the signal it caused, beside two bare ZeroMQ hops.

Three processes: one appends at a pace, workers follow and signal at each event, this one listens and reads their logs as a
router does. Every worker has a symbol of its own, so an event wakes one of them and all the others must not be in the way.
"""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import zmq

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.followers import BEAT_MS, PROCESSES, Crier, follow, market_in
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import SignalListener, StreamDoorbell, topic_of
from strategy_runner.model.signal import decode_body
from strategy_runner.model.stream import trades
from strategy_runner.tape.logs import LogReader
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.outbox import decode_logged

NAME = "latency"
_RATES = (1_000, 10_000)
_PERCENTS = (50.0, 99.0, 99.9)
# events that do not count, for each worker: a new one copies pages of what it was born from, waits for syncs of its first signal,
# and has code that the interpreter has yet to adapt to what it does
_WARM_UP, _WARM_UP_RATE = 50, 10_000
_PATIENCE_S = 60.0
_STAMP = struct.Struct("<q")
_AGAINST = "two bare ZeroMQ hops (PUB, SUB, PUSH, PULL)"


class Stint(NamedTuple):
    """`at_once` events come together, `rate` a second in all."""

    events: int
    rate: int
    at_once: int = 1


def run(settings: Settings) -> Iterator[Figure]:
    cases = [(workers, rate, 1) for workers, rate in product(settings.latency_workers, _RATES)]
    for workers, rate, at_once in [*cases, (1, _RATES[-1], 2)]:
        hops, signals = [], []
        for _ in range(settings.runs):
            events = settings.events * rate // _RATES[0]
            stints = Stint(_WARM_UP * workers, _WARM_UP_RATE), Stint(events, rate, at_once)
            hops.append(_hops(workers, stints))
            signals.append(_signals(workers, stints))
        for percent in _PERCENTS:
            yield figure(
                settings,
                NAME,
                f"p{percent:g}, {workers} worker{'s' * (workers > 1)}, {rate:,} events/s{', in pairs' * (at_once == 2)}",
                "us",
                Sample.of(one.percentile(percent) for one in signals),
                Sample.of(one.percentile(percent) for one in hops),
                _AGAINST,
            )


# -- ours --------------------------------------------------------------------------------------------------------------


def _signals(workers: int, stints: tuple[Stint, ...]) -> Sample:
    """Microseconds from the append of each event of the last stint until its signal was read."""
    with TemporaryDirectory(prefix="sr") as name:
        TapeWriter(Path(name) / "tape", segment_records=262_144).close()
        listener = SignalListener(f"ipc://{name}/router")
        with (
            _children(_publish, (name, workers, stints), 1) as publisher,
            _children(_cry, (name,), workers),
        ):
            time.sleep(0.5)  # subscriptions travel after a worker says that it is ready
            readers: dict[str, LogReader] = {}
            listener.know(f"w{worker}.S{worker}" for worker in range(workers))
            for stint in stints:
                publisher[0].send("go")
                latencies = _read_signals(Path(name), listener, readers, stint.events)
        listener.close()
    return Sample.of(latencies)


def _read_signals(folder: Path, listener: SignalListener, readers: dict[str, LogReader], expected: int) -> list[float]:
    latencies: list[float] = []
    deadline = time.monotonic() + _PATIENCE_S
    while len(latencies) < expected:
        listener.wait(100)
        for worker in listener.ringing():
            if worker not in readers:
                readers[worker] = LogReader(
                    folder / f"worker-{worker.partition('.')[0].removeprefix('w')}" / "signals.log"
                )
            for _, payload in readers[worker].read():
                caused_ns = decode_body(decode_logged(payload).body).cause.event_ns
                latencies.append((time.monotonic_ns() - caused_ns) / 1e3)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{NAME}: expected {expected} signals within {_PATIENCE_S:g} s, found {len(latencies)}")
    return latencies


def _publish(number: int, pipe: Connection, name: str, symbols: int, stints: tuple[Stint, ...]) -> None:
    writer = TapeWriter(Path(name) / "tape", segment_records=262_144)
    writer.head.beat_ms = BEAT_MS
    doorbell = StreamDoorbell(market_in(Path(name)).doorbell)
    streams = [writer.stream_id(trades(f"S{symbol}")) for symbol in range(symbols)]
    topics = [topic_of(trades(f"S{symbol}").name) for symbol in range(symbols)]
    pipe.send("ready")
    nan = float("nan")
    for stint in stints:
        pipe.recv()
        for event in _paced(stint):
            writer.append(streams[event % symbols], time.monotonic_ns(), 100.0, 1.0, 1.0, nan, nan)
            for first in writer.publish().values():
                doorbell.ring(topics[event % symbols], first)
    while True:
        time.sleep(1.0)


def _cry(number: int, pipe: Connection, name: str) -> None:
    follower = follow(Path(name), number, f"S{number}", Crier(None, symbol=f"S{number}", timeframe="1m"))
    pipe.send("ready")
    while True:
        if not follower.turn():
            follower.wait()


# -- two bare hops -----------------------------------------------------------------------------------------------------


def _hops(workers: int, stints: tuple[Stint, ...]) -> Sample:
    """The same way for 8 bytes: one publisher, as many processes that pass on what is theirs, one that receives."""
    with TemporaryDirectory(prefix="sr") as name:
        arrivals = new_context().socket(zmq.PULL)
        arrivals.setsockopt(zmq.RCVTIMEO, int(_PATIENCE_S * 1e3))
        arrivals.bind(f"ipc://{name}/second")
        with (
            _children(_first_hop, (name, workers, stints), 1) as first,
            _children(_second_hop, (name,), workers),
        ):
            time.sleep(0.5)
            for stint in stints:
                first[0].send("go")
                latencies = [_age_us(arrivals.recv()) for _ in range(stint.events)]
        arrivals.close(linger=0)
    return Sample.of(latencies)


def _first_hop(number: int, pipe: Connection, name: str, workers: int, stints: tuple[Stint, ...]) -> None:
    socket = new_context().socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(f"ipc://{name}/first")
    pipe.send("ready")
    topics = [topic_of(f"S{worker}") for worker in range(workers)]
    for stint in stints:
        pipe.recv()
        for event in _paced(stint):
            socket.send(topics[event % workers] + _STAMP.pack(time.monotonic_ns()))
    time.sleep(_PATIENCE_S)


def _second_hop(number: int, pipe: Connection, name: str) -> None:
    context = new_context()
    source, target = context.socket(zmq.SUB), context.socket(zmq.PUSH)
    source.setsockopt(zmq.RCVHWM, 0)
    source.setsockopt(zmq.SUBSCRIBE, topic_of(f"S{number}"))
    source.connect(f"ipc://{name}/first")
    target.connect(f"ipc://{name}/second")
    pipe.send("ready")
    while True:
        target.send(source.recv()[-_STAMP.size :])


def _age_us(stamp: bytes) -> float:
    sent_ns: int = _STAMP.unpack(stamp)[0]
    return (time.monotonic_ns() - sent_ns) / 1e3


# -- both --------------------------------------------------------------------------------------------------------------


def _paced(stint: Stint) -> Iterator[int]:
    """0, 1, 2 ... at a rate a second; what the machine held up comes at once.

    The kernel may end a sleep 50 us late unless it is told otherwise (prctl(2), PR_SET_TIMERSLACK): at 10,000 a second one in
    four would come right behind the one before.
    """
    Path("/proc/self/timerslack_ns").write_text("1")
    due_ns = time.monotonic_ns()
    for event in range(stint.events):
        if event % stint.at_once == 0:
            due_ns += stint.at_once * 1_000_000_000 // stint.rate
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
        yield event


@contextmanager
def _children(target: Any, arguments: tuple[Any, ...], count: int) -> Iterator[list[Connection]]:
    """So many processes, each called with its number, a pipe and the arguments; all have said that they are ready."""
    pipes: list[Connection] = []
    children = []
    try:
        for number in range(count):
            ours, theirs = PROCESSES.Pipe()
            child = PROCESSES.Process(target=target, args=(number, theirs, *arguments))
            child.start()
            theirs.close()
            pipes.append(ours)
            children.append(child)
        for pipe in pipes:
            if not pipe.poll(_PATIENCE_S) or pipe.recv() != "ready":
                raise TimeoutError(f"{NAME}: a process was not ready within {_PATIENCE_S:g} s")
        yield pipes
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.join()
