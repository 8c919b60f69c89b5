"""Our ends of a ZeroMQ connection, with each other and with real ZeroMQ sockets at the other end."""

import socket
import time
from collections.abc import Callable
from functools import partial

import pytest
import zmq

from strategy_runner.bus.context import Context
from strategy_runner.bus.doorbell import SignalListener, StreamDoorbell
from strategy_runner.bus.zmtp import Heard, Hub, Line, Wire, frame

PATIENCE_S = 20.0
FRAME_BYTES_MAX = 300


def heard_until(hub: Hub, is_enough: Callable[[list[Heard]], bool]) -> list[Heard]:
    deadline = time.monotonic() + PATIENCE_S
    heard: list[Heard] = []
    while not is_enough(heard):
        assert time.monotonic() < deadline, f"heard only {heard}"
        heard += hub.hear(50)
    return heard


def bodies(heard: list[Heard]) -> list[bytes]:
    return [body for _, body in heard if body is not None]


def connected(endpoint: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(endpoint.removeprefix("ipc://"))
    one.settimeout(PATIENCE_S)
    return one


def test_a_zeromq_sub_hears_what_it_subscribes_to_by_prefix(context: Context, endpoint: str) -> None:
    bell = StreamDoorbell(endpoint)
    everything, symbol, one = (context.socket(zmq.SUB) for _ in range(3))
    for subscriber, prefix in ((everything, b""), (symbol, b"BTC-USD/"), (one, b"BTC-USD/trade\0")):
        subscriber.rcvtimeo = 20
        subscriber.connect(endpoint)
        subscriber.subscribe(prefix)
        subscriber.subscribe(b"ready\0")
        rung_until(bell, b"ready\0", partial(received, subscriber))
    for subscriber in (everything, symbol, one):
        subscriber.rcvtimeo = 200
        while received(subscriber) is not None:
            pass  # rings of the others' readiness
    rings = []
    for number, topic in enumerate((b"BTC-USD/trade\0", b"BTC-USD/quote\0", b"BTC-USDT/trade\0")):
        bell.ring(topic, number)
        rings.append(topic + number.to_bytes(8, "little"))
    assert [received(everything) for _ in range(4)] == [*rings, None]
    assert [received(symbol) for _ in range(3)] == [*rings[:2], None]
    assert [received(one) for _ in range(2)] == [rings[0], None]
    everything.unsubscribe(b"")
    rung_until(bell, b"BTC-USDT/trade\0", lambda: received(everything) is None)
    bell.close()


def rung_until(bell: StreamDoorbell, topic: bytes, is_enough: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    bell.ring(topic, 0)
    while not is_enough():
        assert time.monotonic() < deadline
        bell.ring(topic, 0)


def received(subscriber: "zmq.Socket[bytes]") -> bytes | None:
    try:
        return subscriber.recv()
    except zmq.Again:
        return None


def test_a_zeromq_push_is_heard(context: Context, endpoint: str) -> None:
    listener = SignalListener(endpoint)
    pusher = context.socket(zmq.PUSH)
    pusher.connect(endpoint)
    for name in (b"swing.BTC-USD", b"swing.ETH-USD"):
        pusher.send(name)
    names: set[str] = set()
    deadline = time.monotonic() + PATIENCE_S
    while len(names) < 2:
        assert time.monotonic() < deadline
        listener.wait(50)
        names |= listener.ringing()
    assert names == {"swing.BTC-USD", "swing.ETH-USD"}
    listener.close()


def test_a_wire_speaks_to_zeromq(context: Context, endpoint: str) -> None:
    publisher, puller = context.socket(zmq.XPUB), context.socket(zmq.PULL)
    publisher.bind(f"{endpoint}-pub")
    puller.bind(f"{endpoint}-pull")
    publisher.rcvtimeo = puller.rcvtimeo = 50
    hearing, ringing = Wire(f"{endpoint}-pub", "SUB", frame(b"\x01A\0")), Wire(f"{endpoint}-pull", "PUSH")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline, "no subscription came"
        hearing.hear(20)
        try:
            assert publisher.recv() == b"\x01A\0"
            break
        except zmq.Again:
            continue
    while hearing.hear(20):
        pass
    publisher.send(b"B\0")
    assert not hearing.hear(50)
    publisher.send(b"A\0")
    assert hearing.hear(int(1e3 * PATIENCE_S))
    long = b"x" * FRAME_BYTES_MAX
    while not ringing.send(frame(b"short") + frame(long)):
        assert time.monotonic() < deadline
    assert [puller.recv(), puller.recv()] == [b"short", long]
    hearing.close()
    ringing.close()


def test_frames_that_come_byte_by_byte_are_the_same_frames(endpoint: str) -> None:
    hub = Hub(endpoint, "PULL", frame_bytes_max=FRAME_BYTES_MAX)
    spoken = _spoken("PUSH", frame(b"one") + frame(b"") + frame(b"y" * FRAME_BYTES_MAX) + frame(b"last"))
    one = connected(endpoint)
    heard: list[Heard] = []
    for at in range(len(spoken)):
        one.sendall(spoken[at : at + 1])
        heard += hub.hear(20)
    heard += heard_until(hub, lambda more: bodies(heard + more)[-1:] == [b"last"])
    assert bodies(heard) == [b"one", b"", b"y" * FRAME_BYTES_MAX, b"last"]
    one.close()
    [(line, end)] = heard_until(hub, lambda heard: len(heard) > 0)
    assert (line, end) == (heard[0].line, None)
    hub.close()


@pytest.mark.parametrize(
    "spoken",
    [
        bytes(64),
        b"GET / HTTP/1.1\r\n".ljust(64),
        b"\xff" + bytes(8) + b"\x7f\x01" + bytes(53),  # an older ZMTP
        b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32),
    ],
    ids=["zeros", "http", "version 1", "another mechanism"],
)
def test_who_speaks_something_else_is_shown_out_and_nobody_else_is_harmed(endpoint: str, spoken: bytes) -> None:
    hub = Hub(endpoint, "PULL", frame_bytes_max=FRAME_BYTES_MAX)
    sound, other = connected(endpoint), connected(endpoint)
    other.sendall(spoken)
    heard = heard_until(hub, lambda heard: any(body is None for _, body in heard))
    assert bodies(heard) == []
    assert _is_shown_out(other)
    sound.sendall(_spoken("PUSH", frame(b"here")))
    assert bodies(heard_until(hub, bool)) == [b"here"]
    hub.close()


@pytest.mark.parametrize(
    "said",
    [frame(b"z" * (FRAME_BYTES_MAX + 1)), b"\x02" + b"\xff" * 8, None],
    ids=["too long", "longer than any memory", "before READY"],
)
def test_a_frame_that_may_not_come_ends_its_line(endpoint: str, said: bytes | None) -> None:
    hub = Hub(endpoint, "PULL", frame_bytes_max=FRAME_BYTES_MAX)
    one = connected(endpoint)
    one.sendall(_spoken("PUSH", frame(b"first") + said) if said else _spoken("PUSH", b"")[:64] + frame(b"first"))
    heard = heard_until(hub, lambda heard: any(body is None for _, body in heard))
    assert bodies(heard) == ([b"first"] if said else [])
    assert _is_shown_out(one)
    hub.close()


def test_a_line_that_takes_nothing_keeps_nobody_waiting_and_holds_few_frames(endpoint: str) -> None:
    hub = Hub(endpoint, "XPUB", frame_bytes_max=FRAME_BYTES_MAX)
    one = connected(endpoint)
    one.sendall(_spoken("SUB", frame(b"\x01A")))
    [(line, _)] = heard_until(hub, bool)
    ring = frame(b"A" + bytes(8))
    begun = time.monotonic()
    for _ in range(10_000):
        line.send(ring)
    assert time.monotonic() - begun < PATIENCE_S
    hub.close()
    received = bytearray()
    while part := one.recv(65_536):
        received += part
    rings, rest = divmod(len(received) - len(_spoken("XPUB", b"")), len(ring))
    assert rest == 0, "a frame in pieces"
    assert 1 <= rings <= 20


def test_who_cannot_be_let_in_waits_outside_and_comes_in_with_the_next(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(endpoint, "PULL", frame_bytes_max=FRAME_BYTES_MAX)
    first = connected(endpoint)
    first.sendall(_spoken("PUSH", frame(b"first")))
    with monkeypatch.context() as patch:
        patch.setattr(hub, "_door", _Full())
        assert hub.hear(200) == []
        assert hub.hear(0) == [], "it is not told again of what it cannot change"
    assert "cannot let in" in caplog.text
    second = connected(endpoint)
    second.sendall(_spoken("PUSH", frame(b"second")))
    heard = heard_until(hub, lambda heard: len(heard) == 2)
    assert sorted(bodies(heard)) == [b"first", b"second"]
    assert all(isinstance(line, Line) for line, _ in heard)
    hub.close()


class _Full:
    def accept(self) -> None:
        raise OSError(24, "Too many open files")


def _spoken(socket_type: str, frames: bytes) -> bytes:
    """A greeting of ZMTP 3.0 without security, READY with the socket's type, and then `frames`."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    kind = socket_type.encode()
    ready = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return greeting + bytes((4, len(ready))) + ready + frames


def _is_shown_out(one: socket.socket) -> bool:
    """Whether the other side has ended the connection."""
    try:
        while one.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True
