"""A feed in the test's own process, of a home as FeedProcess makes it, with its turns in the test's hand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feed_process import PATIENCE_S, FeedProcess

from strategy_runner.assembly import make_feed
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.feed.feed import Feed
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.status import StatusFile


@contextmanager
def running(home: FeedProcess) -> Iterator[Feed]:
    """The feed of a home in this process, stopped at the end."""
    context, spec = new_context(), home.spec
    bells = StreamDoorbell(spec.market.doorbell), FramePublisher(context, spec.market.frames)
    Path(spec.folder).mkdir(parents=True, exist_ok=True)
    assert spec.mock is not None
    source = MockSource(spec.mock, now_ns=time.time_ns())
    try:
        feed = make_feed(spec, source, spec.mock.speed, *bells, StatusFile(home.status_path))
        yield feed
        feed.stop()
    finally:
        for bell in bells:
            bell.close()
        context.destroy(linger=0)


def turn_until(feed: Feed, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        if not feed.turn():
            feed.wait()


def head_of(home: FeedProcess) -> Head:
    return Head(files.head_path(home.tape), writable=True)


def take_records(home: FeedProcess, feed: Feed, more: int) -> None:
    head = head_of(home)
    wanted = head.count + more
    turn_until(feed, lambda: head.count >= wanted)
