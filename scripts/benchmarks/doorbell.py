"""doorbell: how long after its append a record reaches the strategy of a worker in another process, beside one ZeroMQ hop.

Both sides are the product's own: a tape with its doorbell here, a follower there. Times are of the clock that all processes
of a machine share.
"""

import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import zmq

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.followers import PROCESSES, Witness, follow, market_in
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.model.stream import trades
from strategy_runner.tape.writer import TapeWriter

NAME = "doorbell"
_SYMBOL = "X"
_PERIOD_NS = 1_000_000
_WARM_UP_EVENTS = 200
_PATIENCE_S = 60.0
_STAMP = struct.Struct("<q")

Publish = Callable[[int], None]
Receiver = Callable[[str, int, Connection], None]


def run(settings: Settings) -> Iterator[Figure]:
    hops, rings = [], []
    for _ in range(settings.runs):
        hops.append(_latencies(settings.events, _receive_hops, _hop_publisher))
        rings.append(_latencies(settings.events, _follow, _tape_publisher))
    for percent in (50.0, 99.0):
        yield figure(
            settings,
            NAME,
            f"append to strategy, p{percent:g} at 1000/s",
            "us",
            Sample.of(ring.percentile(percent) for ring in rings),
            Sample.of(hop.percentile(percent) for hop in hops),
            "one bare ZeroMQ hop (PUSH, PULL, ipc)",
        )


def _latencies(events: int, receiver: Receiver, publisher: Callable[[Path], Publish]) -> Sample:
    """Microseconds of each event but the first few, measured where it arrives."""
    with TemporaryDirectory(prefix="sr") as name:
        publish = publisher(Path(name))
        ours, theirs = PROCESSES.Pipe()
        child = PROCESSES.Process(target=receiver, args=(name, _WARM_UP_EVENTS + events, theirs), daemon=True)
        child.start()
        theirs.close()
        assert ours.recv() == "ready"
        _publish_at_a_pace(publish, _WARM_UP_EVENTS + events)
        if not ours.poll(_PATIENCE_S):
            raise TimeoutError(f"{NAME}: expected {events} events within {_PATIENCE_S:g} s, found fewer")
        latencies_ns: list[int] = ours.recv()
        child.join()
    return Sample.of(latency / 1e3 for latency in latencies_ns[_WARM_UP_EVENTS:])


def _publish_at_a_pace(publish: Publish, events: int) -> None:
    due_ns = time.monotonic_ns()
    for _ in range(events):
        due_ns += _PERIOD_NS
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        publish(time.monotonic_ns())


# -- tape and doorbell -------------------------------------------------------------------------------------------------


def _tape_publisher(folder: Path) -> Publish:
    writer = TapeWriter(folder / "tape", segment_records=262_144)
    doorbell = StreamDoorbell(market_in(folder).doorbell)
    stream, topic, nan = writer.stream_id(trades(_SYMBOL)), topic_of(trades(_SYMBOL).name), float("nan")

    def publish(now_ns: int) -> None:
        writer.append(stream, now_ns, 100.0, 1.0, 1.0, nan, nan)
        for first in writer.publish().values():
            doorbell.ring(topic, first)

    return publish


def _follow(name: str, events: int, results: Connection) -> None:
    witness = Witness(None, symbol=_SYMBOL, timeframe="1m")
    follower = follow(Path(name), 0, _SYMBOL, witness)
    results.send("ready")
    while len(witness.ages_ns) < events:
        if not follower.turn():
            follower.wait()
    results.send(witness.ages_ns)


# -- the bare hop ------------------------------------------------------------------------------------------------------


def _hop_publisher(folder: Path) -> Publish:
    socket = new_context().socket(zmq.PUSH)
    socket.bind(f"ipc://{folder}/hop")
    return lambda now_ns: socket.send(_STAMP.pack(now_ns))


def _receive_hops(name: str, events: int, results: Connection) -> None:
    socket = new_context().socket(zmq.PULL)
    socket.connect(f"ipc://{name}/hop")
    results.send("ready")
    results.send([_age_ns(socket.recv()) for _ in range(events)])


def _age_ns(stamp: bytes) -> int:
    sent_ns: int = _STAMP.unpack(stamp)[0]
    return time.monotonic_ns() - sent_ns
