"""fan-out: events a second from one publisher to many processes, none missed, beside raw ZeroMQ and Redis pub/sub.

Ours: a tape with its doorbell, and whole workers (record read, its crc checked, event made, strategy called). The references
have the same to do but for the crc and the event: each record is packed into 80 bytes, is a message of its own, and is
unpacked by a receiver in Python that calls a function with it. They drop nothing either: the high-water marks block, or there
is no limit. Each is sent as its kind is sent fast: ours is published, and its bell rung, once for as many records as the
feed takes in a turn; ZeroMQ joins small messages to writes of 8 kB by itself; Redis is given pipelines of as many as ours.
All receivers give way to who publishes, as workers do.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zmq

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.followers import PROCESSES, count_until, market_in
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.feed.feed import TURN_RAW_MAX
from strategy_runner.model.record import CODEC
from strategy_runner.model.stream import trades
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.confinement import give_way

NAME = "fan-out"
# (workers, symbols): each symbol's workers get each of its events
_SHAPES = ((1, 1), (8, 1), (20, 1), (200, 50))
_PATIENCE_S = 300.0
_NAN = float("nan")

Publish = Callable[[int], None]
Receiver = Callable[..., None]


def run(settings: Settings) -> Iterator[Figure]:
    """`settings.fan_out_events` events to one worker, fewer to more of them."""
    for workers, symbols in _SHAPES:
        if workers > settings.workers:
            continue
        events = max(_batch(symbols) * symbols, settings.fan_out_events * 4 // (workers // symbols + 3))
        ours, raw, redis = [], [], []
        for _ in range(settings.runs):
            ours.append(_through_tape(workers, symbols, events))
            raw.append(_through_zeromq(workers, symbols, events))
            if shutil.which("redis-server") and find_spec("redis"):
                redis.append(_through_redis(workers, symbols, events // 5))
        what = f"to {workers} on {symbols} symbol{'s' * (symbols > 1)}"
        references = {"raw ZeroMQ XPUB/SUB, ipc": raw, "Redis pub/sub, redis-py": redis}
        for against, rates in references.items():
            if rates:
                yield figure(settings, NAME, what, "events/s", Sample.of(ours), Sample.of(rates), against, at=workers)
        if not redis:
            talk(f"  {NAME}: no redis-server with redis-py on this machine, so nothing is compared with it")


def _rate(
    workers: int,
    symbols: int,
    events: int,
    receiver: Receiver,
    where: str,
    publish: Publish,
    let_in: Callable[[], None] = lambda: None,
) -> float:
    """Events a second, from the first until the last receiver has its last."""
    each = events // symbols
    pipes: list[Connection] = []
    children = []
    for number in range(workers):
        ours, theirs = PROCESSES.Pipe()
        arguments = (receiver, where, number, _symbol(number % symbols), each, theirs)
        child = PROCESSES.Process(target=_receive, args=arguments)
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    try:
        for pipe in pipes:
            assert pipe.recv() == "ready"
        until = time.monotonic() + 0.5  # subscriptions travel after a receiver says that it is ready
        while time.monotonic() < until:
            let_in()
            time.sleep(0.01)
        begun = time.monotonic_ns()
        publish(each)
        ends = [pipe.recv() for pipe in pipes if pipe.poll(_PATIENCE_S)]
    finally:
        for child in children:
            child.kill()
            child.join()
    if len(ends) < workers:
        raise TimeoutError(f"{NAME}: expected {workers} receivers to have all events, found {len(ends)}")
    last: int = max(ends)
    return each * symbols / ((last - begun) / 1e9)


def _receive(receiver: Receiver, *arguments: object) -> None:
    give_way()
    receiver(*arguments)


def _symbol(number: int) -> str:
    return f"S{number:02d}"


def _batch(symbols: int) -> int:
    """How many events of each symbol are sent at a time."""
    return TURN_RAW_MAX // symbols


def _pack(stream: int, event_ns: int) -> bytes:
    return CODEC.pack(0, stream, event_ns, 1, 0, 1, 1, 0, 100.0, 1.0, 1.0, _NAN, _NAN, 0.0)


class _Counter:
    """What a reference's receiver calls for each record."""

    def __init__(self) -> None:
        self.seen = 0

    def on_record(self, fields: tuple[Any, ...]) -> None:
        self.seen += 1


# -- ours --------------------------------------------------------------------------------------------------------------


def _through_tape(workers: int, symbols: int, events: int) -> float:
    with TemporaryDirectory(prefix="sr") as name:
        writer = TapeWriter(Path(name) / "tape", segment_records=262_144)
        writer.head.beat_ms = 50
        doorbell = StreamDoorbell(market_in(Path(name)).doorbell)
        streams = [writer.stream_id(trades(_symbol(number))) for number in range(symbols)]
        topics = [topic_of(trades(_symbol(number)).name) for number in range(symbols)]
        batch = _batch(symbols)

        def publish(each: int) -> None:
            append = writer.append
            for start in range(0, each, batch):
                for event_ns in range(start, min(each, start + batch)):
                    for stream in streams:
                        append(stream, event_ns, 100.0, 1.0, 1.0, _NAN, _NAN)
                for stream, first in writer.publish().items():
                    doorbell.ring(topics[stream], first)

        return _rate(workers, symbols, events, count_until, name, publish, doorbell.hear)


# -- raw ZeroMQ --------------------------------------------------------------------------------------------------------


def _through_zeromq(workers: int, symbols: int, events: int) -> float:
    with TemporaryDirectory(prefix="sr") as name:
        publisher = new_context().socket(zmq.XPUB)
        publisher.setsockopt(zmq.XPUB_NODROP, 1)
        publisher.setsockopt(zmq.SNDTIMEO, int(_PATIENCE_S * 1e3))
        publisher.bind(f"ipc://{name}/raw")
        topics = [_symbol(number).encode() for number in range(symbols)]

        def publish(each: int) -> None:
            for event_ns in range(each):
                for stream, topic in enumerate(topics):
                    publisher.send(topic + _pack(stream, event_ns))

        try:
            return _rate(workers, symbols, events, _count_zeromq, f"ipc://{name}/raw", publish)
        finally:
            publisher.close(linger=0)


def _count_zeromq(where: str, number: int, symbol: str, events: int, results: Connection) -> None:
    subscriber = new_context().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, symbol.encode())
    subscriber.connect(where)
    results.send("ready")
    receive, unpack, at, counter = subscriber.recv, CODEC.unpack_from, len(symbol), _Counter()
    call = counter.on_record
    while counter.seen < events:
        call(unpack(receive(), at))
    results.send(time.monotonic_ns())


# -- Redis -------------------------------------------------------------------------------------------------------------


def _through_redis(workers: int, symbols: int, events: int) -> float:
    from redis import Redis

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    words += ["--client-output-buffer-limit", "pubsub 0 0 0"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = Redis(host="127.0.0.1", port=port)
    try:
        deadline = time.monotonic() + 10.0
        while not _answers(client):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{NAME}: expected redis-server on port {port} within 10 s, found none")
            time.sleep(0.02)

        def publish(each: int) -> None:
            batch = _batch(symbols)
            for start in range(0, each, batch):
                pipeline = client.pipeline(transaction=False)
                for event_ns in range(start, min(each, start + batch)):
                    for number in range(symbols):
                        pipeline.publish(_symbol(number), _pack(number, event_ns))
                pipeline.execute()

        return _rate(workers, symbols, events, _count_redis, str(port), publish)
    finally:
        client.close()
        server.kill()
        server.wait()


def _answers(client: Any) -> bool:
    from redis.exceptions import ConnectionError as NotThere

    try:
        return bool(client.ping())
    except NotThere:
        return False


def _count_redis(where: str, number: int, symbol: str, events: int, results: Connection) -> None:
    from redis import Redis

    client: Any = Redis(host="127.0.0.1", port=int(where))
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(symbol)
    results.send("ready")
    receive, unpack, counter = subscriber.get_message, CODEC.unpack, _Counter()
    call = counter.on_record
    while counter.seen < events:
        message = receive(timeout=10.0)
        if message is not None:
            call(unpack(message["data"]))
    results.send(time.monotonic_ns())
