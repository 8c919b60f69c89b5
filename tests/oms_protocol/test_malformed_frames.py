"""Frames that nobody meant: whatever bytes come to an OMS, a desk, a router or a feed, they are refused or passed over."""

import random
import select
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import zmq
from oms.paper_build import request
from worker.build import short_folder

from strategy_runner.bus.context import Context
from strategy_runner.bus.doorbell import FillListener, SignalListener
from strategy_runner.oms.admission import admit
from strategy_runner.oms.protocol import (
    Answer,
    Beat,
    Events,
    Hello,
    News,
    Positions,
    Query,
    Reports,
    Request,
    Submit,
    Welcome,
    decode,
    encode,
    number_of,
)
from strategy_runner.oms.refusal import OmsRefused

SEED = 17
WHOLE = {
    Request: [
        encode(Request(number=7, client="acme", session="s", ask=ask))
        for ask in (Hello(), Submit((request("a"), request("b"))), Query(("a", "b")), Events(0, 5), Positions())
    ],
    Answer: [encode(Answer(number=7, reply=reply)) for reply in (Welcome("paper", "s", 3), Reports((None,)))],
    News: [encode(News(news=Beat(3)))],
}


def spoilt(raw: bytes, luck: random.Random) -> bytes:
    """A frame with a few bytes changed, cut, added or put in; now and then nothing of it, or nested deeply."""
    frame = bytearray(raw)
    for _ in range(luck.randrange(1, 4)):
        at = luck.randrange(len(frame) + 1)
        match luck.randrange(6):
            case 0 if frame:
                frame[at - 1] = luck.randrange(256)
            case 1:
                del frame[at:]
            case 2:
                frame += luck.randbytes(luck.randrange(9))
            case 3:
                frame[at:at] = luck.randbytes(2)
            case 4:
                frame[at:at] = bytes([luck.choice((0x81, 0x91))]) * luck.choice((3, 3_000))
            case _ if luck.random() < 0.1:
                frame = bytearray(luck.randbytes(luck.randrange(60)))
    return bytes(frame)


def judge(frames: int, seed: int) -> tuple[int, int]:
    """How many were taken and refused, of all forms; anything else that is raised ends the test."""
    luck, taken, refused = random.Random(seed), 0, 0
    for number in range(frames):
        form = list(WHOLE)[number % len(WHOLE)]
        frame = spoilt(luck.choice(WHOLE[form]), luck)
        number_of(frame)
        try:
            message = decode(form, frame)
            if isinstance(message, Request):
                admit(message.ask, "acme")
            taken += 1
        except OmsRefused:
            refused += 1
    return taken, refused


def test_a_malformed_frame_is_refused_and_nothing_else_is_raised() -> None:
    taken, refused = judge(20_000, SEED)
    assert refused > 10_000 and taken < 5_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_malformed_frames() -> None:
    print(judge(1_000_000, random.randrange(1 << 32)))


def test_a_name_that_is_no_text_is_refused() -> None:
    """It went through as an error of another kind, and ended the OMS's thread."""
    frame = encode(Request(number=7, client="acme", ask=Hello())).replace(b"acme", b"ac\xff\xfe")
    with pytest.raises(OmsRefused, match="malformed"):
        decode(Request, frame)


# -- doorbells ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[str]:
    with short_folder() as folder:
        yield f"ipc://{Path(folder) / 'bell.sock'}"


def test_a_ring_that_is_none_wakes_and_harms_nobody(context: Context, endpoint: str) -> None:
    listener = SignalListener(endpoint)
    send_junk(context, endpoint, b"talk.X")
    names = heard_until(listener.ringing, "talk.X", lambda: listener.wait(5_000))
    assert "talk.X" in names
    listener.close()


def test_a_fill_ring_that_is_none_says_nothing(context: Context, endpoint: str) -> None:
    listener = FillListener(endpoint)
    send_junk(context, endpoint, b"acme\0" + (99).to_bytes(8, "little"))
    wait = partial(select.select, [listener.waitable], [], [], 5.0)
    found = heard_until(lambda: set(listener.heard().items()), ("acme", 99), wait)
    assert ("acme", 99) in found
    listener.close()


def send_junk(context: Context, endpoint: str, last: bytes) -> None:
    """From somebody who may, over the real socket: many frames without sense, and a sound one behind them."""
    luck, socket = random.Random(SEED), context.socket(zmq.PUSH)
    socket.sndhwm = 0
    socket.connect(endpoint)
    for _ in range(500):
        socket.send(luck.randbytes(luck.randrange(40)))
    socket.send(last)
    socket.close(linger=5_000)


def heard_until(hear: Callable[[], set[object]], last: object, wait: Callable[[], object]) -> set[object]:
    found: set[object] = set()
    for _ in range(1_000):
        wait()
        found |= hear()
        if last in found:
            break
    return found
