"""Doorbells: nobody blocks, no queue grows, nothing is missed."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from strategy_runner.bus import doorbell
from strategy_runner.bus.doorbell import (
    FillDoorbell,
    FillListener,
    SignalDoorbell,
    SignalListener,
    StreamDoorbell,
    StreamListener,
    topic_of,
)
from strategy_runner.model.stream import trades
from strategy_runner.tape.writer import TapeWriter

PATIENCE_S = 20.0


ALL = "ALL/clock.1s"


def connected(bell: StreamDoorbell, *listeners: StreamListener) -> None:
    """Returns when each has heard a ring of ALL, which it must listen to last: its subscriptions have arrived."""
    deadline = time.monotonic() + PATIENCE_S
    waiting = list(listeners)
    while waiting:
        assert time.monotonic() < deadline
        bell.ring(topic_of(ALL), 0)
        waiting = [listener for listener in waiting if not listener.wait(20)]
    for listener in listeners:
        while listener.wait(100):
            pass


def test_a_worker_is_woken_for_its_own_streams_only(endpoint: str) -> None:
    """Subscriptions match by prefix: BTC-USD must not wake for BTC-USDT, nor bar.1m for another symbol's."""
    bell = StreamDoorbell(endpoint)
    usd = StreamListener(endpoint, ("BTC-USD/trade", "BTC-USD/bar.1m", ALL))
    usdt = StreamListener(endpoint, ("BTC-USDT/trade", ALL))
    short = StreamListener(endpoint, ("BTC/trade", ALL))
    listeners = (usd, usdt, short)
    connected(bell, *listeners)
    for stream, woken in (
        ("BTC-USDT/trade", usdt),
        ("BTC-USD/trade", usd),
        ("BTC/trade", short),
        ("BTC-USD/bar.1m", usd),
        ("BTC-USD/bar.1mm", None),
        ("BTC-USD/trade.x", None),
    ):
        bell.ring(topic_of(stream), 7)
        assert [listener.wait(2_000 if listener is woken else 50) for listener in listeners] == [
            listener is woken for listener in listeners
        ], stream


def test_a_worker_is_woken_after_long_silence_as_after_a_short_one(endpoint: str) -> None:
    """Rings that come one by one, with waits in vain between them, and many at once."""
    bell = StreamDoorbell(endpoint)
    listener = StreamListener(endpoint, ("A/trade", ALL))
    connected(bell, listener)
    for rings in (1, 1, 3, 1, 2):
        assert not listener.wait(0)
        assert not listener.wait(20)
        for seq in range(rings):
            bell.ring(topic_of("A/trade"), seq)
        assert listener.wait(2_000)
        while listener.wait(100):
            pass


def test_a_worker_that_is_rung_for_all_the_time_hears_silence_and_a_new_feed_too(
    endpoint: str,
) -> None:
    bell = StreamDoorbell(endpoint)
    listener = StreamListener(endpoint, (ALL,))
    connected(bell, listener)
    wait_ms = 300  # always the same, as a worker waits
    for _ in range(2):
        for _ in range(3):
            bell.ring(topic_of(ALL), 1)
            assert heard(listener, wait_ms)
        assert not listener.wait(wait_ms)
    bell.ring(topic_of(ALL), 1)
    assert heard(listener, wait_ms)
    bell.close()
    assert heard(listener, wait_ms), "whatever its last rings were for"
    bell = StreamDoorbell(endpoint)
    connected(bell, listener)
    bell.ring(topic_of(ALL), 1)
    assert heard(listener, wait_ms)
    bell.close()
    listener.close()


def heard(listener: StreamListener, wait_ms: int) -> bool:
    return any(listener.wait(wait_ms) for _ in range(20))


def test_one_look_answers_every_ring_that_is_queued(endpoint: str) -> None:
    bell = StreamDoorbell(endpoint)
    listener = StreamListener(endpoint, ("A/trade", ALL))
    connected(bell, listener)
    for seq in range(3):
        bell.ring(topic_of("A/trade"), seq)
    wakes = 0
    while listener.wait(200):
        wakes += 1
    assert 1 <= wakes <= 3
    assert not listener.wait(0)


def hear_all(listener: StreamListener) -> None:
    while listener.wait(0):
        pass


def crowd(bell: StreamDoorbell, topic: bytes) -> None:
    """Rings until the bell finds its host crowded: who listens hears nothing meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not bell.is_crowded:
        assert time.monotonic() < deadline
        bell.ring(topic, 0)


@pytest.fixture
def easily_crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits is a crowd, if one process runs: who rings does."""
    monkeypatch.setattr(doorbell, "_CROWD", 0)


def test_one_that_is_behind_costs_another_nothing(endpoint: str) -> None:
    bell = StreamDoorbell(endpoint)
    behind, quick = (StreamListener(endpoint, ("A/trade", ALL)) for _ in range(2))
    connected(bell, behind, quick)
    for seq in range(100):
        bell.ring(topic_of("A/trade"), seq)
        assert quick.wait(2_000)
        hear_all(quick)
    assert not bell.is_crowded
    assert behind.wait(0), "what is queued wakes it"


@pytest.mark.usefixtures("easily_crowded")
def test_on_a_crowded_host_nobody_is_rung_for_twice_at_once_and_nobody_misses_what_came_last(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_INTERVAL_S_MIN", 0.2)
    bell = StreamDoorbell(endpoint)
    behind, quick = (StreamListener(endpoint, (f"{name}/trade", ALL)) for name in ("A", "B"))
    connected(bell, behind, quick)
    crowd(bell, topic_of("A/trade"))
    bell.ring(topic_of("B/trade"), 1)
    rung = time.monotonic()
    assert quick.wait(2_000), "it has not been rung for lately"
    hear_all(quick)
    bell.ring(topic_of("B/trade"), 2)
    if time.monotonic() - rung < 0.1:
        assert not quick.wait(0), "it has been rung for"
    deadline = time.monotonic() + PATIENCE_S
    while not quick.wait(5):
        assert time.monotonic() < deadline, "it would have to look by itself"
        bell.hear()
    hear_all(quick)
    for _ in range(100):
        bell.hear()
        assert not quick.wait(5), "it has missed nothing more"


@pytest.mark.usefixtures("easily_crowded")
def test_a_crowd_ends_when_those_who_waited_have_heard_or_are_gone(endpoint: str) -> None:
    bell = StreamDoorbell(endpoint)
    for end in (hear_all, StreamListener.close):
        listener = StreamListener(endpoint, ("A/trade", ALL))
        connected(bell, listener)
        crowd(bell, topic_of("A/trade"))
        end(listener)
        deadline = time.monotonic() + PATIENCE_S
        while bell.is_crowded:
            assert time.monotonic() < deadline
            bell.hear()


def test_listeners_that_were_stopped_are_no_crowd(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for no processor: to leave others alone would not help them."""
    monkeypatch.setattr(doorbell, "_CROWD", 0)
    monkeypatch.setattr(StreamDoorbell, "_runnable", lambda self: 0)
    bell = StreamDoorbell(endpoint)
    stopped = StreamListener(endpoint, ("A/trade", ALL))
    connected(bell, stopped)
    for seq in range(1_000):
        bell.ring(topic_of("A/trade"), seq)
        assert not bell.is_crowded
    stopped.close()


_FOLLOW = """
import sys
from pathlib import Path
from strategy_runner.bus.doorbell import StreamListener
from strategy_runner.model.stream import trades
from strategy_runner.tape.reader import TapeReader
reader = TapeReader(Path(sys.argv[1]))
listener = StreamListener(sys.argv[2], ("A/trade",))
stream, seen = reader.find(trades("A")), 0
while True:
    listener.wait(2_000)
    entries = reader.entries(stream)
    while seen < entries:
        for seq in reader.seqs(stream, seen, entries):
            assert reader.record(seq).v0 == seen, (seq, seen)
            seen += 1
    print(seen, flush=True)
"""


def test_a_stopped_worker_neither_blocks_nor_fills_the_feed_and_catches_up_from_the_tape(
    tmp_path: Path, endpoint: str
) -> None:
    rings, batch = 150_000, 10
    writer = TapeWriter(tmp_path, segment_records=65_536)
    stream = writer.stream_id(trades("A"))
    bell = StreamDoorbell(endpoint)
    topic = topic_of("A/trade")
    command = [sys.executable, "-c", _FOLLOW, str(tmp_path), endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            os.set_blocking(worker.stdout.fileno(), False)
            deadline = time.monotonic() + PATIENCE_S
            while not worker.stdout.readline():  # rings until it says that it has looked
                assert time.monotonic() < deadline and worker.poll() is None
                bell.ring(topic, 0)
                time.sleep(0.01)
            os.kill(worker.pid, signal.SIGSTOP)
            rss_before = 0
            for i in range(rings):  # one that waited for the worker would wait for good
                if i % batch == 0:
                    writer.append(stream, i, float(writer.seq), 1.0, 0.0, 0.0, 0.0)
                    writer.publish()
                bell.ring(topic, writer.seq)
                if i == rings // 50:
                    rss_before = psutil.Process().memory_info().rss
            grown_mb = (psutil.Process().memory_info().rss - rss_before) / 1e6
            # the records are mapped and count as memory too, but are no queue; an unlimited queue of these rings takes 9 MB
            assert grown_mb - rings / batch * 88 / 1e6 < 4
            os.kill(worker.pid, signal.SIGCONT)
            os.set_blocking(worker.stdout.fileno(), True)
            bell.ring(topic, writer.seq)
            seen = 0
            while seen < rings // batch:
                line = worker.stdout.readline()
                assert line, "the worker ended"
                seen = int(line)
            assert seen == rings // batch
        finally:
            worker.kill()
    writer.close()


def test_a_router_learns_which_workers_rang(endpoint: str) -> None:
    listener = SignalListener(endpoint)
    first = SignalDoorbell(endpoint, "swing.BTC-USD")
    second = SignalDoorbell(endpoint, "swing.ETH-USD")
    assert not listener.wait(0)
    first.ring()
    first.ring()
    second.ring()
    names: set[str] = set()
    while len(names) < 2:
        assert listener.wait(2_000)
        names |= listener.ringing()
    assert names == {"swing.BTC-USD", "swing.ETH-USD"}


def test_a_worker_without_a_router_rings_in_vain_and_is_heard_when_one_comes(endpoint: str) -> None:
    bell = SignalDoorbell(endpoint, "swing.BTC-USD")
    for _ in range(1_000):
        bell.ring()
    listener = SignalListener(endpoint)
    deadline = time.monotonic() + PATIENCE_S
    while not listener.wait(50):
        assert time.monotonic() < deadline
        bell.ring()
    assert listener.ringing() == {"swing.BTC-USD"}


ROUNDS = 300  # in fewer milliseconds than a queue of four would need to be looked at between them


def test_a_ring_is_heard_by_who_has_heard_all_before_it(tmp_path: Path) -> None:
    """Queues are tiny: no ring may be dropped with nothing queued."""
    market = StreamDoorbell(f"ipc://{tmp_path}/market")
    worker = StreamListener(f"ipc://{tmp_path}/market", ("A/trade", ALL))
    connected(market, worker)
    router = SignalListener(f"ipc://{tmp_path}/router")
    router.know(["w.A"])
    signals = SignalDoorbell(f"ipc://{tmp_path}/router", "w.A")
    assert not router.wait(50), "it has only said hello"
    feed = FillListener(f"ipc://{tmp_path}/feed")
    fills = FillDoorbell(f"ipc://{tmp_path}/feed", "acme")
    assert not feed.heard()
    for number in range(ROUNDS):
        market.ring(topic_of("A/trade"), number)
        assert worker.wait(5_000), f"ring {number} of the market"
    for number in range(ROUNDS):
        signals.ring()
        assert router.wait(5_000), f"ring {number} of a worker"
        assert router.ringing() == {"w.A"}
    for number in range(ROUNDS):
        fills.ring(number)
        assert select.select([feed.waitable], [], [], PATIENCE_S)[0]
        assert feed.heard() == {"acme": number}
