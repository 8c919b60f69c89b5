"""The feed's loop: take raw records from the source, derive, append, publish, ring.

The one writer of the tape. A turn is bounded; what it appended becomes visible with one store, always at the end of a raw
record's whole group, so a killed feed leaves no group in half. Between two groups come the private entries of the clients
that trade, and what the feed notes by itself.

It takes records only while the tape's reserve is held. A full disk uses it up, and completes the turn with it; the feed then
halts, and goes on by itself from where it stood once the reserve can be made again.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from strategy_runner.bus.doorbell import FillListener, StreamDoorbell, topic_of
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.config.spec import FeedSpec
from strategy_runner.errors import DiskFullError
from strategy_runner.feed.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    oldest_checkpoint_seq,
    remove_lost,
    write_checkpoint,
)
from strategy_runner.feed.clock import FeedClock
from strategy_runner.feed.consumers import Consumers
from strategy_runner.feed.derive import Derivation, Emit, handles_by_symbol
from strategy_runner.feed.interruption import Interruption
from strategy_runner.feed.pace import Pace
from strategy_runner.feed.private import PrivateLogs
from strategy_runner.feed.rederivation import Fields, Rederivation
from strategy_runner.feed.screen import Screen
from strategy_runner.feed.sources.interface import Raw, Source
from strategy_runner.model.private import Slot
from strategy_runner.model.record import SIZE, GapCause, Kind
from strategy_runner.model.stream import Stream, clock_steps, gaps
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.small_files import sync_path
from strategy_runner.tape import files
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.tape.writer import TapeWriter

TURN_RAW_MAX = 4096
CHECKPOINT_RECORDS = 100_000
RETENTION_INTERVAL_S = 30.0
SPACE_LOOK_S = 1.0
POLL_S_MIN = 0.001  # it counts in milliseconds
CROWDED_REST_S = 0.002  # how old the newest record may be that a worker finds which comes late
_NAN = float("nan")

log = logging.getLogger(__name__)


class Feed:
    """`speed` is x real time, 0 as fast as it goes; `clock` gives the time of receipt."""

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
        clock: FeedClock | None = None,
        fills: FillListener | None = None,
    ) -> None:
        """Raises DiskFullError if what it needs to begin could not be kept, StateError, OSError."""
        self._spec = spec
        self._folder = Path(spec.folder)
        self._source = source
        self._writer = writer
        self._doorbell = doorbell
        self._file = status
        self._pace = Pace(speed)
        self._slowest_reader = slowest_reader
        self._reader = TapeReader(writer.folder)
        self._consumers = Consumers(frames, self._reader)
        self._clock = clock or FeedClock(writer.head.clock_offset_ns, self._last_received_ns())
        self._screen: Screen | None = None if source.rewinds else Screen({})
        self._interruption = Interruption()
        self._private = PrivateLogs(spec.private, fills, self._is_recorded)
        self._poll = select.poll()
        self._poll.register(doorbell.waitable, select.POLLIN)
        if fills is not None:
            self._poll.register(fills.waitable, select.POLLIN)
        self._source_descriptor: int | None = None
        self._handles: dict[Stream, int] = {}
        self._derivations: dict[str, Derivation] = {}
        self._bases: dict[str, Kind] = {}
        self._topics: list[bytes] = []
        self._clocks: list[tuple[int, int]] = []
        self._clock_ns = 0
        self._checkpoint_seq = 0
        self._is_checkpoint_late = False
        self._next_beat = self._next_look = 0.0
        self._next_retention = 0.0
        self._is_halted = False
        self._waiting_spec: FeedSpec | None = None
        self._emit: Emit = writer.append
        self._stopping = threading.Event()
        self._published = threading.Event()
        self._published.set()  # what the process before has not made durable any more
        try:
            self._restore()
        except BaseException:
            self._reader.close()
            raise
        self._syncer = threading.Thread(target=self._keep_durable, name="durable", daemon=True)
        self._syncer.start()
        writer.head.beat_ms = round(spec.beat_interval_s * 1e3)
        status.status.last_error = ""
        status.enter(State.FOLLOWING)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """Publishes what is due, at most about TURN_RAW_MAX raw records and what they cause. Returns the work done.

        Raises DiskFullError if even the reserve was not enough: what was not published is made again by the next process.
        """
        self._writer.received_ns = self._clock.look()
        work = self._advance() if self._has_space() else 0
        work += self._consumers.turn()
        now = self._clock.monotonic_ns / 1e9
        if now >= self._next_beat:
            self._beat(now)
        return work

    def _advance(self) -> int:
        writer = self._writer
        self._note_step()
        entries = self._note_private()
        rows = self._source.take(TURN_RAW_MAX, self._pace.until_ns(self._source.next_ns(), self._clock.monotonic_ns))
        self._derive(rows if self._screen is None else self._sound(self._screen, rows))
        if self._clocks:
            self._tick(self._clock.now_ns)
        touched = writer.publish()
        if touched:
            self._published.set()
            self._ring(touched)
            if writer.seq - self._checkpoint_seq >= CHECKPOINT_RECORDS:
                self._write_checkpoint()
        elif (
            self._screen is None
            and not (rows or writer.head.finished or self._clocks)
            and self._source.next_ns() is None
        ):
            writer.head.finished = True
            self._write_checkpoint()
            self._file.enter(State.FINISHED, "the source has ended")
            for finding in self._source.findings():
                log.info("%s", finding)
            self._next_beat = 0.0
            for topic in self._topics:
                self._doorbell.ring(topic, writer.seq)  # whoever has read all is to hear that it was all
        if len(rows) < TURN_RAW_MAX and self._doorbell.is_crowded:
            return 0
        return max(len(rows), len(touched), entries)

    def wait(self) -> None:
        """On a crowded host it rests even while records come: fewer turns leave the workers more of the processors, and as they
        come to read they still find what is new."""
        if self._doorbell.is_crowded:
            time.sleep(CROWDED_REST_S)
            self._doorbell.hear()
        elif self._is_halted:  # what comes from source or desks stays where it is, and would end each wait at once
            time.sleep(self._idle_s())
            self._doorbell.hear()
        else:
            self._source.wait(self._idle_s(), self._sleep)

    def _sleep(self, timeout_s: float, descriptor: int | None) -> None:
        """Ends early when the descriptor can be read, when a client's order desk rings, or somebody comes to listen."""
        if descriptor != self._source_descriptor:
            if self._source_descriptor is not None:
                self._poll.unregister(self._source_descriptor)
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)
            self._source_descriptor = descriptor
        if timeout_s < POLL_S_MIN:
            time.sleep(timeout_s)
        else:
            self._poll.poll(int(timeout_s * 1e3))
        self._doorbell.hear()

    def _idle_s(self) -> float:
        """How long nothing can be due: until the next record, tick or beat, at most a beat."""
        now = time.monotonic()
        wait = max(0.0, self._next_beat - now)
        if self._is_halted:
            return min(wait, max(0.0, self._next_look - now))
        due = self._pace.wait_s(self._source.next_ns(), time.monotonic_ns())
        if due is not None:
            wait = min(wait, due)
        for _, interval_ns in self._clocks:
            wait = min(wait, (interval_ns - self._clock.now_ns % interval_ns) / 1e9)
        return min(wait, 0.05) if self._consumers.are_there else wait

    def reload(self, spec: FeedSpec) -> None:
        """Carries the streams that a new plan wants, from now on. Nothing else of a running feed changes.

        A halted feed has no space for more; it does so when it goes on.
        """
        if self._is_halted:
            self._waiting_spec = spec
            return
        self._private.reload(spec.private)
        wanted = [Stream.parse(name) for name in spec.streams]
        added = [stream for stream in wanted if stream not in self._handles]
        if added:
            log.info("carrying %d more streams: %s", len(added), ", ".join(stream.name for stream in added))
            self._want(added)
            self._writer.head.finished = False
            if self._file.status.state is State.FINISHED:
                self._file.enter(State.FOLLOWING)
            self._write_checkpoint(needed=True)

    def stop(self) -> None:
        self._stopping.set()
        self._published.set()
        self._syncer.join()
        self._ring(self._writer.publish())
        self._writer.make_durable()
        self._write_checkpoint()
        self._private.close()
        self._tell_place()
        self._file.enter(State.STOPPED)

    # -- a full disk -----------------------------------------------------------------------------------------------------

    def _has_space(self) -> bool:
        """Whether records may be taken; halts the feed when the reserve has been used up, and lets it go on when it is back."""
        if not self._is_halted and self._writer.reserve.is_held:
            return True
        now = self._clock.monotonic_ns / 1e9
        if not self._is_halted:
            self._halt(now)
        if now < self._next_look:
            return False
        self._next_look = now + SPACE_LOOK_S
        if not self._writer.reserve.make():
            return False
        self._go_on()
        return True

    def _halt(self, now: float) -> None:
        needed_mb = self._writer.reserve.size / 1e6
        self._is_halted = True
        self._next_look = now + SPACE_LOOK_S
        self._file.status.last_error = f"{self._writer.folder}: disk full: expected {needed_mb:.0f} MB of free space"
        self._file.enter(State.HALTED, f"disk full: goes on with {needed_mb:.0f} MB free")
        log.error("%s; nothing is taken from the source until there is", self._file.status.last_error)

    def _go_on(self) -> None:
        self._is_halted = False
        self._pace.begin()
        if self._screen is not None:
            self._interruption.begin(self._screen.last_ns, GapCause.DISK_FULL)
        self._file.status.last_error = ""
        self._file.enter(State.FINISHED if self._writer.head.finished else State.FOLLOWING)
        log.info("there is space again: going on at seq %d", self._writer.seq)
        spec, self._waiting_spec = self._waiting_spec, None
        if spec is not None:
            self.reload(spec)

    # -- deriving --------------------------------------------------------------------------------------------------------

    def _sound(self, screen: Screen, rows: list[Raw]) -> Iterable[Raw]:
        """What may be kept of a live source's rows, and the gaps between them and what came before."""
        return self._interruption.mark(screen.judge(rows, self._bases, self._clock.now_ns))

    def _derive(self, rows: Iterable[Raw]) -> None:
        derivations, trade, quote, gap = self._derivations, int(Kind.TRADE), int(Kind.QUOTE), int(Kind.GAP)
        for symbol, kind, event_ns, v0, v1, v2, v3, v4 in rows:
            derivation = derivations[symbol]
            if kind == trade:
                derivation.trade(event_ns, v0, v1, v2)
            elif kind == quote:
                derivation.quote(event_ns, v0, v1, v2, v3)
            elif kind == gap:
                log.warning("%s: records may be missing in %.3f s up to %d (cause %d)", symbol, v0, event_ns, v1)
                self._emit(self._note_handle(gaps(symbol)), event_ns, v0, v1, _NAN, _NAN, _NAN)
            else:
                derivation.bar(event_ns, v0, v1, v2, v3, v4)

    def _want(self, streams: list[Stream]) -> None:
        if not self._source.rewinds:
            # the tape is the only place where the records of a live source are: derivations are restored from them
            streams = [*streams, *(self._source.base(symbol) for symbol in {s.symbol for s in streams if s.symbol})]
        handles = {stream: self._writer.stream_id(stream) for stream in sorted(set(streams) - self._handles.keys())}
        self._handles.update(handles)
        for symbol, wanted in handles_by_symbol(handles).items():
            if symbol in self._derivations:
                self._derivations[symbol].want(wanted)
            else:
                self._derivations[symbol] = Derivation(
                    self._source.base(symbol),
                    wanted,
                    emit=self._writer.append,
                    seed=self._spec.models.seed,
                    known_ns=self._source.known_ns(symbol),
                )
        self._bases = {symbol: derivation.base.kind for symbol, derivation in self._derivations.items()}
        self._source.add(self._derivations)
        self._clocks = sorted(
            (handle, timeframe_ns(stream.timeframe))
            for stream, handle in self._handles.items()
            if stream.kind is Kind.CLOCK and not stream.symbol
        )
        self._topics = [topic_of(stream.name) for stream in self._writer.streams]

    def _note_handle(self, stream: Stream) -> int:
        """The id of a stream that the feed carries whether anybody wants it or not, made when there is something to say."""
        handle = self._writer.stream_id(stream)
        self._topics += [topic_of(added.name) for added in self._writer.streams[len(self._topics) :]]
        return handle

    def _note_step(self) -> None:
        step_ns = self._clock.take_step_ns()
        if step_ns:
            log.warning("the host's wall clock was set by %+.3f s", step_ns / 1e9)
            self._next_beat = 0.0  # with which routers learn of the clock
            self._emit(self._note_handle(clock_steps()), self._clock.now_ns, step_ns / 1e9, *(_NAN,) * 4)

    def _note_private(self) -> int:
        """A record for each entry that is new in the clients' fill logs; returns how many."""
        records = self._private.take()
        for stream, event_ns, slot in records:
            self._writer.append_aside(self._note_handle(stream), event_ns, slot)
        return len(records)

    def _is_recorded(self, stream: Stream, slot: Slot) -> bool:
        """Whether the tape has this private record, the newest looked at first."""
        reader, stream_id = self._reader, self._reader.find(stream)
        if stream_id is None:
            return False
        first = reader.first_ordinal_at(stream_id, reader.head.first)
        for ordinal in range(reader.entries(stream_id), first, -1):
            seq = reader.seqs(stream_id, ordinal - 1, ordinal)[0]
            if Slot(*reader.fields(seq, stream_id)[8:12]) == slot:
                return True
        return False

    def _tick(self, now_ns: int) -> None:
        """Wall clock records: one for each interval that has begun since the last look; a pause is one tick."""
        for handle, interval_ns in self._clocks:
            tick_ns = now_ns // interval_ns * interval_ns
            if tick_ns > self._clock_ns - self._clock_ns % interval_ns and self._clock_ns:
                self._writer.append(handle, tick_ns, *(_NAN,) * 5)
        self._clock_ns = max(self._clock_ns, now_ns)

    # -- publishing ------------------------------------------------------------------------------------------------------

    def _ring(self, touched: dict[int, int]) -> None:
        topics, ring = self._topics, self._doorbell.ring
        for stream_id, first in touched.items():
            ring(topics[stream_id], first)
        if self._consumers.are_there:
            self._consumers.send(touched, topics)

    def _beat(self, now: float) -> None:
        head, status = self._writer.head, self._file.status
        head.beat_ns, head.clock_offset_ns = self._clock.now_ns, self._clock.offset_ns
        self._private.look()
        self._consumers.beat()
        self._tell_place()
        if self._screen is not None:
            status.refusals = self._screen.dropped
        if status.state is State.FOLLOWING:
            status.reason = self._crowded()
        if not self._is_halted:
            status.last_error = next(iter(self._private.faults.values()), "")
        self._file.write()
        self._next_beat = now + self._spec.beat_interval_s
        if now >= self._next_retention:
            self._retain()
            self._next_retention = now + RETENTION_INTERVAL_S

    def _tell_place(self) -> None:
        head, status = self._writer.head, self._file.status
        status.position, status.records, status.event_ns = head.count, head.count, head.event_ns

    def _crowded(self) -> str:
        interval_ms = self._doorbell.interval_s * 1e3
        return f"the host is crowded: a worker hears of records every {interval_ms:.0f} ms" if interval_ms else ""

    def _retain(self) -> None:
        """Deletes segments that are too old or too many, never one that a worker or the feed itself may still need."""
        tape, head = self._spec.tape, self._writer.head
        keep_records = int(tape.retention_gb * 1e9) // SIZE
        oldest = max(0, head.count - keep_records)
        horizon_ns = self._clock.now_ns - int(tape.retention_hours * 3.6e12)
        expired = self._reader.first_received_at(horizon_ns)
        begin = min(max(oldest, expired), oldest_checkpoint_seq(self._folder))
        if begin < head.first + head.segment_records:
            return  # a thousand readers need not be asked
        begin = min(begin, self._slowest_reader(horizon_ns))
        if begin < head.first + head.segment_records:
            return
        try:
            sync_path(self._folder)  # a power cut must not bring back a checkpoint whose records are removed here
            removed = self._writer.remove_before(begin)
        except OSError as error:
            if not files.is_full(error):
                raise
            log.warning("retention: removed nothing: %s", error)
            return
        if removed:
            log.info("retention: removed %d segments, the tape begins at seq %d", removed, head.first)

    # -- state -----------------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        count = self._writer.seq
        spec_streams = [Stream.parse(name) for name in self._spec.streams]
        remove_lost(self._folder, self._reader.cuts())
        checkpoint = newest_checkpoint(self._folder, count)
        if checkpoint is None:
            self._want(spec_streams)
        else:
            self._want([Stream.parse(name) for name in checkpoint.streams])
            self._source.restore(checkpoint.source)
            for symbol, state in checkpoint.derivations.items():
                self._derivations[symbol].restore(state)
            self._clock_ns = checkpoint.clock_ns
            self._private.last.update({client: Slot(*values) for client, values in checkpoint.private.items()})
            self._checkpoint_seq = checkpoint.seq
            if self._screen is not None:
                self._screen = Screen({(symbol, kind): event_ns for symbol, kind, event_ns in checkpoint.last_ns})
        self._rederive(self._checkpoint_seq)
        self._want([stream for stream in spec_streams if stream not in self._handles])
        self._clock_ns = self._clock_ns or self._clock.now_ns
        self._writer.head.finished = False  # whether the source has ended is for this process to find out
        self._writer.head.clock_offset_ns = self._clock.offset_ns
        if self._screen is not None:
            self._interruption.begin(self._screen.last_ns, GapCause.FEED_DOWN)
        self._write_checkpoint(needed=True)

    def _rederive(self, first: int) -> None:
        self._writer.received_ns = self._clock.look()
        rederivation = Rederivation(self._writer, self._reader, self._source, first=first, on_noted=self._remember)
        self._emit = rederivation.emit
        rederivation.run(self._derive_again, self._derivations.values())
        self._emit = self._writer.append

    def _derive_again(self, rows: list[Raw]) -> None:
        if self._screen is not None:
            for row in rows:
                self._screen.note(row)
        self._derive(rows)

    def _remember(self, stream: Stream, fields: Fields) -> None:
        """A record that the process before noted by itself."""
        if stream.kind is Kind.CLOCK:
            self._clock_ns = max(self._clock_ns, fields[2])
        elif stream.kind is Kind.PRIVATE:
            self._private.note(stream, fields[8:12])

    def _last_received_ns(self) -> int:
        head = self._writer.head
        return self._reader.record(head.count - 1).received_ns if head.count > head.first else 0

    def _write_checkpoint(self, *, needed: bool = False) -> None:
        """Without one a restart takes longer and nothing is lost, so a full disk does not end the feed.

        One is `needed` where a process begins and where the streams change: only with it can the records that follow be made
        again. Raises DiskFullError if then even the reserve was not enough.
        """
        self._checkpoint_seq = self._writer.seq
        checkpoint = Checkpoint(
            seq=self._writer.seq,
            epoch=self._writer.head.epoch,
            streams=tuple(stream.name for stream in self._handles),
            source=self._source.state(),
            derivations={symbol: derivation.state() for symbol, derivation in self._derivations.items()},
            clock_ns=self._clock_ns,
            private=dict(self._private.last),
            last_ns=[(*series, ns) for series, ns in self._screen.last_ns.items()] if self._screen else [],
        )
        try:
            self._put(checkpoint, needed=needed)
            self._is_checkpoint_late = False
        except OSError as error:
            if not files.is_full(error):
                raise
            if needed:
                self._write_needed(checkpoint, error)
            elif not self._is_checkpoint_late:
                log.warning("%s: no checkpoint at seq %d: %s", self._folder, checkpoint.seq, error)
                self._is_checkpoint_late = True

    def _write_needed(self, checkpoint: Checkpoint, first: OSError) -> None:
        full = DiskFullError(f"{self._folder}: expected space for a checkpoint: {first.strerror}")
        if not self._writer.reserve.release():
            raise full from first
        try:
            self._put(checkpoint, needed=True)
        except OSError as error:
            raise full from error

    def _put(self, checkpoint: Checkpoint, *, needed: bool) -> None:
        write_checkpoint(self._folder, checkpoint, durable=self._writer.head.durable, needed=needed)

    def _keep_durable(self) -> None:
        """Thread: group commit. What comes after a pause is synced at once, and what comes soon after that together; it sleeps
        while nothing comes. A failed sync ends the process: what the kernel dropped cannot be synced again."""
        interval_s = self._spec.tape.durable_interval_ms / 1e3
        while not self._stopping.wait(interval_s):
            self._published.wait()
            self._published.clear()  # before the sync: what is published from here on sets it again
            try:
                self._writer.make_durable()
            except OSError:
                log.exception("the tape cannot be made durable")
                os._exit(1)
