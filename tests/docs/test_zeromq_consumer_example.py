"""The example consumer of docs/: with ZeroMQ alone it sees every record with its seq, also when frames are lost on the way."""

import os
import runpy
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
from feed_process import PATIENCE_S, FeedProcess, mock_spec, streams_of

from strategy_runner.bus import frames
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "zeromq_consumer.py"
PAGE = EXAMPLE.parents[1] / "zeromq_consumer.md"
RECORDS = 2_000
ENDLESS = 1_000_000
LOST = 10
STREAM = "BTC-USD/trade"


def test_the_consumer_sees_every_record_with_its_seq() -> None:
    with FeedProcess(streams_of(("BTC-USD", "ETH-USD")), mock=mock_spec(RECORDS, speed=100.0)) as feed:
        feed.start()
        feed.wait_records(200)  # the consumer comes late: what was published before it is asked for
        lines = consumed(feed, feed.spec.market.frames, lambda: feed.status().state is State.FINISHED)
        assert len(lines) == feed.reader().head.count
        check_lines(lines, feed.reader())


def test_frames_that_are_lost_on_the_way_are_asked_for() -> None:
    with FeedProcess(streams_of(("BTC-USD", "ETH-USD")), mock=mock_spec(ENDLESS, speed=200.0)) as feed:
        feed.start()
        feed.wait_ready()
        with lossy_link(feed.spec.market.frames) as (endpoint, lost):
            lines = consumed(feed, endpoint, lambda: len(lost) > LOST)
        check_lines(lines, feed.reader())


def test_the_consumer_has_a_word_for_every_kind_of_record() -> None:
    """It ended at the first of a kind that it did not know."""
    found = runpy.run_path(str(EXAMPLE))["KINDS"]
    assert found == {int(kind): kind.name.lower() for kind in Kind}


def test_the_page_tells_how_far_a_consumer_may_lag_behind() -> None:
    assert f"more than {frames._QUEUE_FRAMES:,} messages behind" in PAGE.read_text()


def consumed(feed: FeedProcess, endpoint: str, is_enough: Callable[[], bool]) -> list[list[str]]:
    """What the consumer printed, field by field, until it has shown all that was published when it was enough."""
    command = [sys.executable, str(EXAMPLE), endpoint, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as consumer:
        try:
            assert consumer.stdout is not None
            return until_shown(feed, consumer.stdout.fileno(), is_enough)
        finally:
            consumer.kill()


def until_shown(feed: FeedProcess, output: int, is_enough: Callable[[], bool]) -> list[list[str]]:
    text, wanted = b"", None
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if select.select([output], [], [], 0.05)[0]:
            text += os.read(output, 1 << 20)
        if wanted is None and is_enough():
            wanted = feed.reader().head.count
        if wanted is not None and text.count(b"\n") >= wanted:
            return [line.split() for line in text[: text.rfind(b"\n") + 1].decode().splitlines()]
    raise AssertionError(f"expected {wanted} records within {PATIENCE_S:g} s, found {text.count(bytes([10]))}")


def check_lines(lines: list[list[str]], reader: TapeReader) -> None:
    assert [int(line[0]) for line in lines] == list(range(len(lines)))
    stream_id = reader.find(Stream.parse(STREAM))
    assert stream_id is not None
    expected: list[int] = []
    entries = reader.entries(stream_id)
    while len(expected) < entries:
        expected += reader.seqs(stream_id, len(expected), entries)
    # a record that was asked for before any frame named its stream shows the stream's number
    own = [line for line in lines if line[1] in (STREAM, f"#{stream_id}")]
    assert [int(line[0]) for line in own] == [seq for seq in expected if seq < len(lines)]
    assert any(line[1] == STREAM for line in own)
    for line in own:
        record = reader.record(int(line[0]))
        assert line[2:] == ["trade", str(record.event_ns), *(str(value) for value in record[8:13])]


@contextmanager
def lossy_link(endpoint: str) -> Iterator[tuple[str, list[bytes]]]:
    """An endpoint that passes the feed's frames on but for every fifth of records; repair goes to the feed itself. What is
    lost counts from when somebody listens."""
    folder = Path(endpoint.removeprefix("ipc://")).parent
    (folder / "lossy-repair.sock").symlink_to(folder / "market-frames-repair.sock")
    context = zmq.Context()
    lost: list[bytes] = []
    stop = threading.Event()
    thread = threading.Thread(target=pass_on, args=(context, endpoint, f"ipc://{folder}/lossy.sock", lost, stop))
    thread.start()
    try:
        yield f"ipc://{folder}/lossy.sock", lost
    finally:
        stop.set()
        thread.join()
        context.destroy(linger=0)


def pass_on(
    context: "zmq.Context[zmq.Socket[bytes]]", source: str, target: str, lost: list[bytes], stop: threading.Event
) -> None:
    frames, publisher = context.socket(zmq.SUB), context.socket(zmq.XPUB)
    frames.setsockopt(zmq.RCVHWM, 0)
    frames.subscribe(b"")
    frames.connect(source)
    publisher.setsockopt(zmq.SNDHWM, 0)
    publisher.bind(target)
    passed, is_heard = 0, False
    while not stop.is_set():
        if not frames.poll(20):
            continue
        topic, payload = frames.recv_multipart()
        is_heard = is_heard or bool(publisher.poll(0))  # a subscription has come
        passed += is_heard
        if is_heard and passed % 5 == 0 and topic != b"beat\0":
            lost.append(payload)
        else:
            publisher.send_multipart([topic, payload])
    frames.close(linger=0)
    publisher.close(linger=0)
