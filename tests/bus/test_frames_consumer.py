"""Frames: a consumer with ZeroMQ alone, without the tape's files, sees every record of its topics and can repair a gap."""

import struct
import time

import pytest
import zmq
from feed_process import PATIENCE_S, FeedProcess, mock_spec, streams_of

from strategy_runner.bus.context import Context
from strategy_runner.bus.frames import REPAIR_RECORDS_MAX, FramePublisher, seq_bytes
from strategy_runner.model.record import SIZE, record_crc
from strategy_runner.model.stream import Stream
from strategy_runner.tape.files import head_path, segment_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader

PAIR = 8 + SIZE
RECORDS = 3_000


def pairs_of(payload: bytes) -> list[tuple[int, bytes]]:
    assert len(payload) % PAIR == 0
    return [
        (int.from_bytes(payload[at : at + 8], "little"), payload[at + 8 : at + PAIR])
        for at in range(0, len(payload), PAIR)
    ]


def subscriber(context: Context, endpoint: str, *topics: bytes) -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    for topic in topics:
        socket.subscribe(topic)
    socket.connect(endpoint)
    return socket


def repair(context: Context, endpoint: str, first: int, last: int) -> list[tuple[int, bytes]]:
    socket = context.socket(zmq.REQ)
    socket.connect(endpoint.removesuffix(".sock") + "-repair.sock")
    socket.send(struct.pack("<QQ", first, last))
    assert socket.poll(int(PATIENCE_S * 1e3))
    pairs = pairs_of(socket.recv())
    socket.close()
    return pairs


def seqs_on_tape(reader: TapeReader, stream: str) -> list[int]:
    stream_id = reader.find(Stream.parse(stream))
    assert stream_id is not None
    return reader.seqs(stream_id, 0, reader.entries(stream_id))


def test_a_consumer_without_the_files_sees_every_record_of_its_topics_and_repairs_what_it_missed(
    context: Context,
) -> None:
    with FeedProcess(streams_of(("BTC-USD", "BTC-USDT")), mock=mock_spec(RECORDS, speed=400.0)) as feed:
        socket = subscriber(context, feed.spec.market.frames, b"BTC-USD/trade\0", b"BTC-USD/bar.1m\0", b"beat\0")
        feed.start()
        seen: dict[bytes, list[tuple[int, bytes]]] = {}
        published = -1
        deadline = time.monotonic() + PATIENCE_S
        done = False
        while not done:
            assert time.monotonic() < deadline
            if not socket.poll(1_000):
                continue
            topic, payload = socket.recv_multipart()
            if topic == b"beat\0":
                count, epoch = struct.unpack("<QQ", payload)
                assert (epoch, count >= published) == (1, True)
                # beats come after the records they count, so the first one behind the end ends it
                done = feed.status().state.name == "FINISHED" and count == published
                published = count
            else:
                seen.setdefault(topic, []).extend(pairs_of(payload))
        assert set(seen) == {b"BTC-USD/trade\0", b"BTC-USD/bar.1m\0"}, "BTC-USDT is another symbol"
        reader = feed.reader()
        assert published == reader.head.count
        for topic, pairs in seen.items():
            assert all(record_crc(seq, raw) == int.from_bytes(raw[:4], "little") for seq, raw in pairs)
            expected = seqs_on_tape(reader, topic[:-1].decode())
            received = [seq for seq, _ in pairs]
            # what was published before the subscription had arrived is missing, nothing after it
            missed = [seq for seq in expected if seq < received[0]]
            assert received == expected[len(missed) :]
            assert len(missed) < len(expected) / 2
            if missed:
                stream_id = reader.find(Stream.parse(topic[:-1].decode()))
                repaired: list[tuple[int, bytes]] = []
                at = 0
                while at < received[0]:
                    answer = repair(context, feed.spec.market.frames, at, received[0] - 1)
                    repaired += [each for each in answer if int.from_bytes(each[1][4:8], "little") == stream_id]
                    at = answer[-1][0] + 1
                assert repaired == [(seq, reader.raw(seq)) for seq in missed]
            assert pairs == [(seq, reader.raw(seq)) for seq in expected[len(missed) :]]
        assert feed.stop() == 0


def test_a_repair_gives_what_is_published_and_kept_and_no_more_than_its_limit(context: Context) -> None:
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(8_000), segment_records=1_000) as feed:
        feed.start()
        feed.wait_finished()
        endpoint = feed.spec.market.frames
        reader = feed.reader()
        count = reader.head.count
        assert count > REPAIR_RECORDS_MAX + 1_000

        def asked(first: int, last: int) -> list[int]:
            pairs = repair(context, endpoint, first, last)
            assert all(raw == reader.raw(seq) for seq, raw in pairs)
            return [seq for seq, _ in pairs]

        assert asked(0, 9) == list(range(10))
        assert asked(5, 5) == [5]
        assert asked(9, 5) == []
        assert asked(count - 2, count + 10) == [count - 2, count - 1]
        assert asked(count, count) == asked(1 << 63, (1 << 64) - 1) == []
        assert asked(0, (1 << 64) - 1) == list(range(REPAIR_RECORDS_MAX))
        Head(head_path(feed.tape), writable=True).first = 6_000  # as if retention had removed six segments
        assert asked(0, 5_999) == []
        assert asked(5_990, 6_003) == [6_000, 6_001, 6_002, 6_003]
        assert asked(0, 7_000) == list(range(6_000, 7_001)), "from the first record that is still kept"
        nonsense = context.socket(zmq.DEALER)
        nonsense.connect(endpoint.removesuffix(".sock") + "-repair.sock")
        nonsense.send(b"what?")
        assert asked(6_007, 6_007) == [6_007]
        with segment_path(feed.tape, 6_000).open("r+b") as segment:  # bit rot
            segment.seek(500 * SIZE + 40)
            (byte,) = segment.read(1)
            segment.seek(500 * SIZE + 40)
            segment.write(bytes([byte ^ 1]))
        assert asked(6_498, 6_503) == [6_498, 6_499], "what stands before the damage, and the feed lives on"
        assert asked(6_501, 6_502) == [6_501, 6_502]
        assert feed.stop() == 0


def test_a_consumer_that_asks_for_much_at_once_has_one_answer_a_turn(
    context: Context, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('frames')}/s.sock"
    frames = FramePublisher(context, endpoint)
    greedy = context.socket(zmq.DEALER)
    greedy.connect(endpoint.removesuffix(".sock") + "-repair.sock")
    for _ in range(3):
        greedy.send(bytes(16))
    read: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(read) < 3:
        assert time.monotonic() < deadline
        before = len(read)
        frames.turn(lambda first, last: read.append(first) or [])
        assert len(read) - before <= 1
    greedy.close(linger=0)
    frames.close()


def test_what_a_consumer_asks_for_and_does_not_read_is_not_kept_for_it(
    context: Context, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('frames')}/s.sock"
    frames = FramePublisher(context, endpoint)
    greedy = context.socket(zmq.DEALER)
    greedy.setsockopt(zmq.RCVHWM, 1)
    greedy.connect(endpoint.removesuffix(".sock") + "-repair.sock")
    asked, much = 60, bytes(REPAIR_RECORDS_MAX * PAIR)
    for _ in range(asked):
        greedy.send(bytes(16))
    answered = 0

    def answer(first: int, last: int) -> list[bytes]:
        nonlocal answered
        answered += 1
        return [much]

    deadline = time.monotonic() + PATIENCE_S
    while answered < asked:
        assert time.monotonic() < deadline
        frames.turn(answer)
    found = 0
    while greedy.poll(500):
        assert greedy.recv() == much
        found += 1
    assert 0 < found < asked / 2, "the rest was dropped"
    greedy.send(bytes(16))
    while not greedy.poll(0):
        assert time.monotonic() < deadline
        frames.turn(answer)
    greedy.close(linger=0)
    frames.close()


def test_a_consumer_whose_request_is_too_large_is_cut_off(
    context: Context, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('frames')}/s.sock"
    frames = FramePublisher(context, endpoint)
    large = context.socket(zmq.DEALER)
    watched = large.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    large.connect(endpoint.removesuffix(".sock") + "-repair.sock")
    large.send(bytes(1 << 20))
    assert watched.poll(10_000), "it was taken"
    assert frames.turn(lambda first, last: []) == 0
    large.disable_monitor()
    large.close(linger=0)
    frames.close()


def test_records_of_a_topic_nobody_wants_are_not_sent(
    context: Context, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('frames')}/s.sock"
    frames = FramePublisher(context, endpoint)
    assert not frames.wanted
    socket = subscriber(context, endpoint, b"BTC-USD/trade\0")
    deadline = time.monotonic() + PATIENCE_S
    while not frames.wanted:
        assert time.monotonic() < deadline
        frames.turn(lambda first, last: [])
    assert frames.wants(b"BTC-USD/trade\0")
    assert not frames.wants(b"BTC-USDT/trade\0")
    assert not frames.wants(b"BTC-USD/quote\0")
    frames.send(b"BTC-USD/trade\0", [seq_bytes(3), b"r" * SIZE, seq_bytes(9), b"s" * SIZE])
    assert socket.poll(5_000)
    _, payload = socket.recv_multipart()
    assert pairs_of(payload) == [(3, b"r" * SIZE), (9, b"s" * SIZE)]
    socket.close()
    while frames.wanted:
        assert time.monotonic() < deadline
        frames.turn(lambda first, last: [])
    frames.close()
