"""A tape with a past: so many records before the fleet that is going to follow it is started.

The feed of the plan opens it and writes its first checkpoint, then the records are appended, and the checkpoint is moved behind
them. The feed that the daemon starts takes them for its own and goes on from there.
"""

import time
from pathlib import Path

import msgspec

from benchmarks.homes import CLIENT, clean_environment
from benchmarks.standing import QUIET
from strategy_runner.assembly import make_feed
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed.checkpoint import newest_checkpoint, write_checkpoint
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.model.stream import Stream
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.wishes import Wish, Wishes
from strategy_runner.tape.status import StatusFile
from strategy_runner.tape.writer import TapeWriter

_PUBLISHED_AT_A_TIME = 1_000
_SYNCED_AT_A_TIME = 1_000_000
_BEGIN_NS = 1_577_836_800_000_000_000  # 2020-01-01
_STEP_NS = 1_000_000


def make_tape(home: Home, records: int) -> None:
    """Of bars, since that is what the fleet reads, over all of its streams in turn."""
    plan = make_plan(home, Wishes().with_client(CLIENT, Wish()), environ=clean_environment(QUIET))
    spec = next(process.spec for process in plan.processes if isinstance(process.spec, FeedSpec))
    _open_once(home, spec)
    epoch = _append(spec, records)
    folder = Path(spec.folder)
    first = newest_checkpoint(folder, 0)
    assert first is not None, "the feed has written one"
    write_checkpoint(folder, msgspec.structs.replace(first, seq=records, epoch=epoch), durable=records)


def _open_once(home: Home, spec: FeedSpec) -> None:
    assert spec.mock is not None
    home.sockets.mkdir(parents=True, exist_ok=True)
    Path(spec.folder).mkdir(parents=True, exist_ok=True)
    context = new_context()
    bells = StreamDoorbell(spec.market.doorbell), FramePublisher(context, spec.market.frames)
    source = MockSource(spec.mock, now_ns=time.time_ns())
    make_feed(spec, source, spec.mock.speed, *bells, StatusFile(Path(spec.folder) / "status")).stop()
    for bell in bells:
        bell.close()
    context.term()


def _append(spec: FeedSpec, records: int) -> int:
    """Returns the epoch of the records."""
    writer = TapeWriter(Path(spec.market.tape), segment_records=spec.tape.segment_records)
    assert writer.seq == 0, "a feed that took nothing has left an empty tape"
    streams = [writer.stream_id(Stream.parse(name)) for name in spec.streams]
    append, count = writer.append, len(streams)
    writer.received_ns = time.time_ns()
    for seq in range(records):
        append(streams[seq % count], _BEGIN_NS + seq * _STEP_NS, 100.0, 101.0, 99.0, 100.5, 1.0)
        if not writer.seq % _PUBLISHED_AT_A_TIME:
            writer.publish()
        if not writer.seq % _SYNCED_AT_A_TIME:
            writer.make_durable()
    writer.publish()
    writer.make_durable()
    writer.close()
    return writer.epoch
