"""The feed's loop: take raw records from the source, derive, append, publish, ring.

The one writer of the tape. A turn is bounded; what it appended becomes visible with one store, always at the end of a raw
record's whole group, so a killed feed leaves no group in half.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.bus.frames import REPAIR_RECORDS_MAX, FramePublisher, seq_bytes
from strategy_runner.config.spec import FeedSpec
from strategy_runner.errors import DivergenceError
from strategy_runner.feed.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from strategy_runner.feed.derive import Derivation, handles_by_symbol
from strategy_runner.feed.sources.interface import Raw, Source
from strategy_runner.model.record import SIZE, Kind
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.tape.writer import TapeWriter

TURN_RAW_MAX = 1024
CHECKPOINT_RECORDS = 100_000
RETENTION_INTERVAL_S = 30.0
_FOREVER = 1 << 62

log = logging.getLogger(__name__)


class Feed:
    """`pace` gives the event time up to which records may be published now; None is as fast as it goes."""

    def __init__(
        self,
        spec: FeedSpec,
        source: Source,
        *,
        writer: TapeWriter,
        doorbell: StreamDoorbell,
        frames: FramePublisher,
        status: StatusFile,
        speed: float,
        slowest_reader: Callable[[int], int],
    ) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._source = source
        self._writer = writer
        self._doorbell = doorbell
        self._frames = frames
        self._file = status
        self._speed = speed
        self._slowest_reader = slowest_reader
        self._reader = TapeReader(writer.folder)
        self._handles: dict[Stream, int] = {}
        self._derivations: dict[str, Derivation] = {}
        self._topics: list[bytes] = []
        self._clocks: list[tuple[int, int]] = []
        self._clock_ns = 0
        self._rederived = self._rederive_end = 0
        self._checkpoint_seq = 0
        self._next_beat = 0.0
        self._next_retention = 0.0
        self._anchor: tuple[int, int] | None = None
        self._stopping = threading.Event()
        self._restore()
        self._syncer = threading.Thread(target=self._keep_durable, name="durable", daemon=True)
        self._syncer.start()
        status.enter(State.FOLLOWING)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """Publishes what is due, at most about TURN_RAW_MAX raw records and what they cause. Returns the work done."""
        writer = self._writer
        writer.received_ns = time.time_ns()
        rows = self._source.take(TURN_RAW_MAX, self._until_ns(writer.received_ns))
        self._derive(rows)
        ticks = self._tick(writer.received_ns) if self._clocks else 0
        if rows or ticks:
            self._ring(writer.publish())
            if writer.seq - self._checkpoint_seq >= CHECKPOINT_RECORDS:
                self._write_checkpoint()
        elif not writer.head.finished and not self._clocks and self._source.next_ns() is None:
            writer.head.finished = True
            self._write_checkpoint()
            self._file.enter(State.FINISHED, "the source has ended")
            for finding in self._source.findings():
                log.info("%s", finding)
            self._next_beat = 0.0
        work = self._frames.turn(self._pairs)
        now = time.monotonic()
        if now >= self._next_beat:
            self._beat(now)
        return len(rows) + ticks + work

    def wait(self) -> None:
        time.sleep(self._idle_s())

    def _idle_s(self) -> float:
        """How long nothing can be due: until the next record, tick or beat, at most a beat."""
        now_ns = time.time_ns()
        wait = max(0.0, self._next_beat - time.monotonic())
        next_ns = self._source.next_ns()
        if next_ns is not None and self._speed and self._anchor is not None:
            anchor_event_ns, anchor_wall_ns = self._anchor
            due_wall_ns = anchor_wall_ns + (next_ns - anchor_event_ns) / self._speed
            wait = min(wait, max(0.0, (due_wall_ns - now_ns) / 1e9))
        for _, interval_ns in self._clocks:
            wait = min(wait, (interval_ns - now_ns % interval_ns) / 1e9)
        return min(wait, 0.05) if self._frames.wanted else wait

    def reload(self, spec: FeedSpec) -> None:
        """Carries the streams that a new plan wants, from now on. Nothing else of a running feed changes."""
        wanted = [Stream.parse(name) for name in spec.streams]
        added = [stream for stream in wanted if stream not in self._handles]
        if added:
            log.info("carrying %d more streams: %s", len(added), ", ".join(stream.name for stream in added))
            self._want(added)
            self._writer.head.finished = False
            if self._file.status.state is State.FINISHED:
                self._file.enter(State.FOLLOWING)
            self._write_checkpoint()

    def stop(self) -> None:
        self._stopping.set()
        self._syncer.join()
        self._ring(self._writer.publish())
        self._writer.make_durable()
        self._write_checkpoint()
        self._file.enter(State.STOPPED)

    # -- deriving --------------------------------------------------------------------------------------------------------

    def _derive(self, rows: list[Raw]) -> None:
        derivations, trade, quote = self._derivations, int(Kind.TRADE), int(Kind.QUOTE)
        for symbol, kind, event_ns, v0, v1, v2, v3, v4 in rows:
            derivation = derivations[symbol]
            if kind == trade:
                derivation.trade(event_ns, v0, v1, v2)
            elif kind == quote:
                derivation.quote(event_ns, v0, v1, v2, v3)
            else:
                derivation.bar(event_ns, v0, v1, v2, v3, v4)

    def _want(self, streams: list[Stream]) -> None:
        handles = {stream: self._writer.stream_id(stream) for stream in sorted(streams)}
        self._handles.update(handles)
        for symbol, wanted in handles_by_symbol(handles).items():
            if symbol in self._derivations:
                self._derivations[symbol].want(wanted)
            else:
                self._derivations[symbol] = Derivation(
                    self._source.base(symbol), wanted, emit=self._writer.append, seed=self._spec.models.seed
                )
        self._source.add(self._derivations)
        self._clocks = sorted(
            (handle, timeframe_ns(stream.timeframe)) for stream, handle in self._handles.items() if not stream.symbol
        )
        self._topics = [topic_of(stream.name) for stream in self._writer.streams]

    def _tick(self, now_ns: int) -> int:
        """Wall clock records: one for each interval that has begun since the last look; a pause is one tick."""
        ticks = 0
        for handle, interval_ns in self._clocks:
            tick_ns = now_ns // interval_ns * interval_ns
            if tick_ns > self._clock_ns - self._clock_ns % interval_ns and self._clock_ns:
                self._writer.append(handle, tick_ns, *(float("nan"),) * 5)
                ticks += 1
        self._clock_ns = max(self._clock_ns, now_ns)
        return ticks

    def _until_ns(self, now_ns: int) -> int:
        """Event time up to which records are due: the pace, counted from the first record of this process."""
        if not self._speed:
            return _FOREVER
        if self._anchor is None:
            next_ns = self._source.next_ns()
            if next_ns is None:
                return 0
            self._anchor = (next_ns, now_ns)
        event_ns, wall_ns = self._anchor
        return event_ns + int((now_ns - wall_ns) * self._speed)

    # -- publishing ------------------------------------------------------------------------------------------------------

    def _ring(self, touched: dict[int, int]) -> None:
        topics, ring = self._topics, self._doorbell.ring
        for stream_id, first in touched.items():
            ring(topics[stream_id], first)
        if self._frames.wanted:
            for stream_id, first in touched.items():
                if self._frames.wants(topics[stream_id]):
                    self._send_frames(stream_id, first)

    def _send_frames(self, stream_id: int, first: int) -> None:
        reader = self._reader
        position = reader.first_ordinal_at(stream_id, first)
        entries = reader.entries(stream_id)
        while position < entries:
            seqs = reader.seqs(stream_id, position, entries)
            pairs = [part for seq in seqs for part in (seq_bytes(seq), reader.raw(seq))]
            self._frames.send(self._topics[stream_id], pairs)
            position += len(seqs)

    def _pairs(self, first: int, last: int) -> list[bytes]:
        head = self._reader.head
        start = max(first, head.first)
        seqs = range(start, min(last + 1, head.count, start + REPAIR_RECORDS_MAX))
        return [part for seq in seqs for part in (seq_bytes(seq), self._reader.raw(seq))]

    def _beat(self, now: float) -> None:
        head, status = self._writer.head, self._file.status
        head.beat_ns = time.time_ns()
        self._doorbell.beat(head.count, head.epoch, head.durable)
        if self._frames.wanted:
            self._frames.beat(head.count, head.epoch)
        status.position, status.records, status.event_ns = head.count, head.count, head.event_ns
        self._file.write()
        self._next_beat = now + self._spec.beat_interval_s
        if now >= self._next_retention:
            self._retain()
            self._next_retention = now + RETENTION_INTERVAL_S

    def _retain(self) -> None:
        """Deletes segments that are too old or too many, never one that a worker may still need."""
        tape, head = self._spec.tape, self._writer.head
        keep_records = int(tape.retention_gb * 1e9) // SIZE
        oldest = max(0, head.count - keep_records)
        horizon_ns = time.time_ns() - int(tape.retention_hours * 3.6e12)
        expired = self._reader.first_received_at(horizon_ns)
        removed = self._writer.remove_before(min(max(oldest, expired), self._slowest_reader(horizon_ns)))
        if removed:
            log.info("retention: removed %d segments, the tape begins at seq %d", removed, head.first)

    # -- state -----------------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        count = self._writer.seq
        spec_streams = [Stream.parse(name) for name in self._spec.streams]
        checkpoint = newest_checkpoint(self._folder, count)
        if checkpoint is None:
            self._want(spec_streams)
        else:
            self._want([Stream.parse(name) for name in checkpoint.streams])
            self._source.restore(checkpoint.source)
            for symbol, state in checkpoint.derivations.items():
                self._derivations[symbol].restore(state)
            self._clock_ns = checkpoint.clock_ns
            self._checkpoint_seq = checkpoint.seq
        self._rederive(self._checkpoint_seq, count)
        self._want([stream for stream in spec_streams if stream not in self._handles])
        self._clock_ns = self._clock_ns or time.time_ns()
        self._writer.head.finished = False  # whether the source has ended is for this process to find out
        self._write_checkpoint()

    def _rederive(self, first: int, count: int) -> None:
        """Makes the records from the checkpoint to the tape's end again and compares them with what the tape holds.

        A kill leaves whole groups. A power cut may have torn the last one: what it lacks is written again.
        """
        if first == count:
            return
        self._rederived, self._rederive_end = first, count
        self._writer.received_ns = time.time_ns()
        for derivation in self._derivations.values():
            derivation.emit = self._compare
        while self._rederived < count:
            rows = self._source.take(1, _FOREVER)
            if not rows:
                raise DivergenceError(
                    f"{self._writer.folder}: seq {self._rederived}: the tape holds more than its source gives"
                )
            self._derive(rows)
        self._writer.publish()
        for derivation in self._derivations.values():
            derivation.emit = self._writer.append
        log.info("made %d records again after seq %d, all equal", count - first, first)
        if self._rederived > count:
            log.info("wrote the %d records again that the last group lacked", self._rederived - count)

    def _compare(self, handle: int, event_ns: int, v0: float, v1: float, v2: float, v3: float, v4: float) -> None:
        values = (v0, v1, v2, v3, v4)
        if self._rederived >= self._rederive_end:
            self._writer.append(handle, event_ns, *values)
            self._rederived += 1
            return
        fields = self._reader.fields(self._rederived)
        found = (handle, event_ns, *(repr(value) for value in values))
        expected = (fields[1], fields[2], *(repr(value) for value in fields[8:13]))
        if found != expected:
            raise DivergenceError(f"{self._writer.folder}: seq {self._rederived}: expected {expected}, found {found}")
        self._rederived += 1

    def _write_checkpoint(self) -> None:
        self._checkpoint_seq = self._writer.seq
        write_checkpoint(
            self._folder,
            Checkpoint(
                seq=self._writer.seq,
                streams=tuple(stream.name for stream in self._handles),
                source=self._source.state(),
                derivations={symbol: derivation.state() for symbol, derivation in self._derivations.items()},
                clock_ns=self._clock_ns,
            ),
        )

    def _keep_durable(self) -> None:
        """Thread: group commit. A failed sync ends the process: what the kernel dropped cannot be synced again."""
        interval_s = self._spec.tape.durable_interval_ms / 1e3
        while not self._stopping.wait(interval_s):
            try:
                self._writer.make_durable()
            except OSError:
                log.exception("the tape cannot be made durable")
                os._exit(1)
