"""A worker that is stopped while the market goes on, and doorbells that are lost: the tape has it all."""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults.home import FaultyHome, position_of, until
from faults.trio import Trio

from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.status import read_status

pytestmark = pytest.mark.timeout(300)  # of a machine that many others use; alone it is a tenth of that
GROWN_MB_MAX = 20


@pytest.fixture
def home() -> Iterator[FaultyHome]:
    home = FaultyHome(seed=3)
    yield home
    home.close()


def count_of(trio: Trio) -> int:
    return _head(trio).count


@pytest.mark.parametrize("messages", [15_000, pytest.param(150_000, marks=pytest.mark.slow)])
def test_a_worker_stopped_while_the_market_goes_on_misses_nothing_and_costs_the_feed_nothing(
    home: FaultyHome, messages: int
) -> None:
    trio = Trio(home, records=messages + messages // 4)
    try:
        # at its first records, however fast the market comes
        trio.start("worker", step="replace:.snapshot 1 stop")
        trio.start("feed")
        trio.start("router")
        feed, worker = psutil.Process(trio.pid("feed")), psutil.Process(trio.pid("worker"))
        until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker at its first snapshot")
        before_mb = _own_mb(feed)
        until(lambda: _head(trio).finished, "the whole market on the tape")
        grown_mb, missed = _own_mb(feed) - before_mb, count_of(trio) - _reading(trio)[0]
        before = _reading(trio)
        worker.resume()
        continued = time.monotonic()
        until(lambda: _reading(trio) != before, "a look at the tape")
        noticed_s = time.monotonic() - continued
        verdict = trio.run_to_the_end()
    finally:
        trio.end()
    print(f"stopped for {missed} records, noticed after {noticed_s * 1e3:.0f} ms, the feed grew by {grown_mb:.1f} MB")
    assert verdict.is_clean and verdict.signals, verdict
    assert missed > messages // 2
    assert grown_mb < GROWN_MB_MAX


def test_the_heartbeat_finds_a_tail_whose_doorbell_was_lost() -> None:
    home, trio = _unheard("rings")
    try:
        until(lambda: position_of(trio.worker) == count_of(trio), "the worker at the end")
        verdict = trio.run_to_the_end()
    finally:
        trio.end()
        home.close()
    assert verdict.is_clean and verdict.signals, verdict


@pytest.mark.slow
def test_without_a_heartbeat_nobody_finds_it() -> None:
    assert any(_rests_before_the_end() for _ in range(3)), "each time something told the worker of the tail"


def _rests_before_the_end() -> bool:
    """Whether a worker that nobody tells stays where it is. One that was late may have the end in the turn it is at."""
    home, trio = _unheard("beat")
    try:
        count = count_of(trio)
        deadline = time.monotonic() + 2.5  # longer than any look of a worker
        while time.monotonic() < deadline:
            if position_of(trio.worker) == count:
                return False
            time.sleep(0.05)
        return True
    finally:
        trio.end()
        home.close()


def _unheard(broken: str) -> tuple[FaultyHome, Trio]:
    """A worker that began to follow, a market that went on and has ended since, and no doorbell that rang."""
    home = FaultyHome(seed=3, broken=broken)
    trio = Trio(home, records=600, speed=100.0)
    for role in ("feed", "worker", "router"):
        trio.start(role)
    trio.await_following()
    until(lambda: _head(trio).finished, "the end of the market")
    return home, trio


def _reading(trio: Trio) -> tuple[int, int]:
    """How far the worker has come, and the record that it has at hand: its strategy has the first of what it missed long
    before the turn is over in which it reads some thousands."""
    page = read_status(Path(trio.worker.folder) / "status")
    assert page is not None
    return page.position, page.applying


def _head(trio: Trio) -> Head:
    return Head(head_path(Path(trio.feed.market.tape)))


def _own_mb(process: psutil.Process) -> float:
    """Without the tape that it has mapped, which is the page cache's."""
    return float(process.memory_full_info().uss) / 1e6
