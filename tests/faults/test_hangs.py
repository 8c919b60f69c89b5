"""A worker that is stopped while the market goes on, and doorbells that are lost: the tape has it all."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from faults.home import FaultyHome, position_of, until
from faults.trio import Trio

from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head

MESSAGES = 150_000
RSS_MB_MAX = 20
NOTICED_S = 0.3
SLACK_S = 3.0  # of a busy machine, which may not let anybody run for so long


@pytest.fixture
def home() -> Iterator[FaultyHome]:
    home = FaultyHome(seed=3)
    yield home
    home.close()


def started(home: FaultyHome, *, records: int, speed: float) -> Trio:
    trio = Trio(home, records=records, speed=speed)
    for role in ("feed", "worker", "router"):
        trio.start(role)
    trio.await_following()
    return trio


def count_of(trio: Trio) -> int:
    return Head(head_path(Path(trio.feed.market.tape))).count


def test_a_worker_stopped_through_150_000_messages_misses_none_and_costs_the_feed_nothing(home: FaultyHome) -> None:
    trio = Trio(home, records=MESSAGES)
    try:
        trio.start("worker")
        trio.start("feed")
        trio.start("router")
        trio.await_following()
        os.kill(trio.pid("worker"), signal.SIGSTOP)
        feed = psutil.Process(trio.pid("feed"))
        before_mb, seen = _own_mb(feed), count_of(trio)
        until(lambda: count_of(trio) >= MESSAGES, "the whole market on the tape")
        grown_mb = _own_mb(feed) - before_mb
        missed = count_of(trio) - seen
        os.kill(trio.pid("worker"), signal.SIGCONT)
        continued = time.monotonic()
        position = position_of(trio.worker)
        until(lambda: position_of(trio.worker) != position, "a look at the tape")
        noticed_s = time.monotonic() - continued
        verdict = trio.run_to_the_end()
    finally:
        trio.end()
    print(f"missed {missed} records, noticed after {noticed_s * 1e3:.0f} ms, the feed grew by {grown_mb:.1f} MB")
    assert verdict.is_clean and verdict.signals, verdict
    assert grown_mb < RSS_MB_MAX
    assert noticed_s < NOTICED_S + SLACK_S


def test_the_heartbeat_finds_a_tail_whose_doorbell_was_lost(home: FaultyHome) -> None:
    trio, verdict = _with_silent_tail(home), None
    try:
        until(lambda: position_of(trio.worker) == count_of(trio), "the worker at the end")
        verdict = trio.run_to_the_end()
    finally:
        trio.end()
    assert verdict.is_clean


def test_without_a_heartbeat_nobody_finds_it() -> None:
    home = FaultyHome(seed=3, broken="beat")
    trio = _with_silent_tail(home)
    try:
        count = count_of(trio)
        deadline = time.monotonic() + 2.5  # longer than any look of a worker that has no beat
        while time.monotonic() < deadline:
            assert position_of(trio.worker) != count
            time.sleep(0.05)
    finally:
        trio.end()
        home.close()


def _with_silent_tail(home: FaultyHome) -> Trio:
    """A worker that has followed, and records whose doorbell never rang, and then silence."""
    trio = Trio(home, records=600)
    silent = msgspec.structs.replace(trio.feed.market, doorbell=trio.feed.market.doorbell + "-unheard")
    trio.start("feed")
    trio.start("worker")
    trio.start("router")
    del silent
    return trio


def _own_mb(process: psutil.Process) -> float:
    """Without the tape that it has mapped, which is the page cache's."""
    return float(process.memory_full_info().uss) / 1e6
