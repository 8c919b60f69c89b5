"""The board: who is awake is not rung for, and no mark is lost."""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strategy_runner.bus import board
from strategy_runner.bus.board import Board, Mark
from strategy_runner.bus.doorbell import SignalDoorbell, SignalListener
from strategy_runner.bus.zmtp import Hub, Wire, frame

PATIENCE_S = 20.0
NAME = "swing.BTC-USD"


def connected(listener: SignalListener, bell: SignalDoorbell) -> None:
    """Returns when the bell has the listener's board, and no ring is under way."""
    listener.know([NAME])
    deadline = time.monotonic() + PATIENCE_S
    while bell._mark is None:
        assert time.monotonic() < deadline
        listener.wait(10)
        bell.ring()
    while listener.wait(50):
        listener.ringing()


@pytest.fixture
def long_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that is full more than the usual time may pass between two lines of a test."""
    monkeypatch.setattr(board, "_AWAKE_NS_MAX", int(1e9 * PATIENCE_S))


@pytest.mark.usefixtures("long_awake")
def test_a_mark_is_enough_for_who_is_awake_and_is_found_once() -> None:
    listening = Board()
    listening.know(["a", "b"])
    assert listening.fd is not None
    a, b, stranger = (Mark(listening.fd, name) for name in ("a", "b", "stranger"))
    assert not a.leave(), "nobody has woken"
    assert listening.take() == set()
    listening.wake()
    assert a.leave() and a.leave() and b.leave() and stranger.leave()
    assert listening.has_marks
    assert listening.take() == {"a", "b"}
    assert not listening.has_marks
    assert listening.take() == set()
    listening.sleep()
    assert not a.leave()
    assert not listening.has_marks, "it is rung for"
    for mark in (a, b, stranger):
        mark.close()
    listening.close()


@pytest.mark.usefixtures("long_awake")
def test_who_goes_to_sleep_before_the_mark_is_there_is_rung_for() -> None:
    listening = Board()
    assert listening.fd is not None
    mark = Mark(listening.fd, NAME)
    page = mark._page

    class Late:
        def __setitem__(self, at: int, value: int) -> None:
            listening.sleep()
            page[at] = value

    mark._page = Late()  # type: ignore[assignment]
    listening.wake()
    assert not mark.leave()
    assert listening.has_marks, "to be found at the next look"


@pytest.mark.usefixtures("long_awake")
def test_names_that_share_a_place_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "crc32", lambda name: 7)
    listening = Board()
    listening.know(["a", "b"])
    listening.wake()
    assert listening.fd is not None
    Mark(listening.fd, "a").leave()
    assert listening.take() == {"a", "b"}


@pytest.mark.usefixtures("long_awake")
def test_who_was_awake_too_long_ago_is_rung_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that was killed or stopped cannot say so."""
    listening = Board()
    assert listening.fd is not None
    mark = Mark(listening.fd, NAME)
    listening.wake()
    assert mark.leave()
    monkeypatch.setattr(board, "_AWAKE_NS_MAX", 0)
    assert not mark.leave()


@pytest.mark.usefixtures("long_awake")
def test_a_worker_rings_for_a_router_that_waits_and_marks_for_one_that_is_awake(endpoint: str) -> None:
    listener, bell = SignalListener(endpoint), SignalDoorbell(endpoint, NAME)
    connected(listener, bell)
    listener.ringing()
    bell.ring()
    assert listener._hub.hear(50) == [], "it is awake"
    assert listener.ringing() == {NAME}
    listener._board.sleep()
    bell.ring()
    assert listener.wait(2_000)
    assert listener.ringing() == {NAME}
    assert not listener.wait(0)
    bell.close()
    listener.close()


# Marks a number and rings, as soon as the one before it was heard and a moment that is another one each time has passed.
_RINGING = """
import mmap, random, sys, time
from strategy_runner.bus.doorbell import SignalDoorbell
endpoint, name, path, rounds = *sys.argv[1:4], int(sys.argv[4])
with open(path, "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
bell = SignalDoorbell(endpoint, name)
moments = random.Random(1)
for number in range(1, rounds + 1):
    while words[1] < number - 1:
        pass
    until_ns = time.monotonic_ns() + moments.randrange(120_000)
    while time.monotonic_ns() < until_ns:
        pass
    words[0] = number
    bell.ring()
sys.stdin.read()
"""


def test_no_ring_is_lost_by_who_goes_to_sleep_at_that_very_moment(endpoint: str, tmp_path: Path) -> None:
    rounds = 3_000
    path = tmp_path / "words"
    path.write_bytes(bytes(16))
    with path.open("r+b") as file:
        words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
    listener = SignalListener(endpoint)
    listener.know([NAME])
    arguments = (sys.executable, "-c", _RINGING, endpoint, NAME, str(path), str(rounds))
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as ringing:
        try:
            for number in range(1, rounds + 1):
                deadline = time.monotonic() + PATIENCE_S
                # it is woken at a hello too, and twice where its mark was found before the ring came
                while words[0] < number:
                    listener.wait(int(1e3 * PATIENCE_S))
                    assert listener.ringing() <= {NAME}
                    assert time.monotonic() < deadline, f"ring {number}"
                words[1] = number
                time.sleep(1e-6 * (number % 5))  # so that it is awake for the one and asleep for the other
        finally:
            ringing.kill()
    listener.close()


_LISTENING = """
import sys, time
from strategy_runner.bus.doorbell import SignalListener
listener = SignalListener(sys.argv[1])
listener.know([sys.argv[2]])
names = set()
while not names:
    listener.wait(100)
    names = listener.ringing()
print("heard", flush=True)
if sys.argv[3] == "is killed":
    while True:
        listener.ringing()
"""


def test_the_router_after_one_that_was_killed_while_it_was_awake_is_rung_for(endpoint: str) -> None:
    bell = SignalDoorbell(endpoint, NAME)
    for end in ("is killed", "ends"):
        command = (sys.executable, "-c", _LISTENING, endpoint, NAME, end)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as router:
            assert router.stdout is not None
            os.set_blocking(router.stdout.fileno(), False)
            deadline = time.monotonic() + PATIENCE_S
            while not router.stdout.readline():
                assert time.monotonic() < deadline
                bell.ring()
                time.sleep(0.02)
            if end == "is killed":
                assert bell._mark is not None
                while not bell._mark.leave():  # it says that it is awake
                    assert time.monotonic() < deadline
                os.kill(router.pid, signal.SIGKILL)
    bell.close()


def rings_of(hub: Hub, bell: SignalDoorbell, count: int) -> list[bytes | None]:
    """So many that it hears, of a bell that rings and rings."""
    rings: list[bytes | None] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(rings) < count:
        assert time.monotonic() < deadline
        bell.ring()
        rings += [body for _, body in hub.hear(10)]
    return rings


def test_a_hub_that_cannot_give_its_board_is_rung_each_time(endpoint: str) -> None:
    """The kernel lets only so many descriptors of a user be on their way."""
    hub = Hub(endpoint, "PULL", frame_bytes_max=300, given=1 << 30)
    bell = SignalDoorbell(endpoint, NAME)
    assert set(rings_of(hub, bell, 3)) == {NAME.encode()}
    assert bell._mark is None
    bell.close()
    hub.close()


def test_a_hub_that_gives_something_else_is_rung_each_time(endpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "no board"
    path.write_bytes(b"too short")
    given = os.open(path, os.O_RDWR)
    before = len(list(Path("/proc/self/fd").iterdir()))
    hub = Hub(endpoint, "PULL", frame_bytes_max=300, given=given)
    bell = SignalDoorbell(endpoint, NAME)
    assert set(rings_of(hub, bell, 3)) == {NAME.encode()}
    assert bell._mark is None
    bell.close()
    hub.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "what was given is closed"
    os.close(given)


def test_what_a_hello_brings_unasked_is_closed(endpoint: str) -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    hub = Hub(endpoint, "XPUB", frame_bytes_max=300, given=write)
    wire = Wire(endpoint, "SUB", frame(b"\x01A\0"))
    deadline = time.monotonic() + PATIENCE_S
    while not hub.hear(10):
        assert time.monotonic() < deadline
        wire.hear(10)
    os.close(write)
    assert os.read(read, 1) == b"", "nobody has its other end any more"
    wire.close()
    hub.close()
    os.close(read)
