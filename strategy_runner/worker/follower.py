"""The worker's loop: restore, replay, follow. Starting, restarting and catching up are this one path."""

import logging
import time
from pathlib import Path

from strategy_runner.bus.doorbell import SignalDoorbell, StreamListener
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.strategies.interface import Strategy
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.worker.machine import Machine, Subscription
from strategy_runner.worker.outbox import Outbox
from strategy_runner.worker.snapshot import Snapshot, newest_snapshot, remove_snapshots, write_snapshot

TURN_RECORDS_MAX = 4096
SNAPSHOT_RECORDS = 20_000
WAIT_MS_MAX = 2_000

log = logging.getLogger(__name__)


class Follower:
    """Drives a machine along a tape. `from_start` begins a new worker at the tape's first record instead of now."""

    def __init__(
        self,
        spec: WorkerSpec,
        strategy: Strategy,
        *,
        reader: TapeReader,
        listener: StreamListener,
        router: SignalDoorbell,
        status: StatusFile,
        from_start: bool,
    ) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._reader = reader
        self._listener = listener
        self._router = router
        self._file = status
        self._from_start = from_start
        snapshot = newest_snapshot(self._folder, spec.generation, reader.head.durable)
        self._outbox = Outbox(
            self._folder / "signals.log",
            generation=spec.generation,
            mode=spec.mode,
            **({"n": snapshot.n, "offset": snapshot.log_offset} if snapshot else {}),
        )
        self._machine = Machine(spec, strategy, self._outbox.record)
        self._ids: dict[Subscription, int] = {}
        self._positions: dict[Subscription, int] = dict.fromkeys(self._machine.subscriptions, 0)
        self._seq = 0
        self._live_from = 0
        self._snapshot_records = 0
        self._pending: Snapshot | None = None
        self._target = reader.head.count
        if snapshot is None:
            self._begin(strategy.inputs.warmup_bars)
        else:
            self._restore(snapshot)
        status.enter(State.CATCHING_UP, f"to seq {self._target}")

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """One bounded turn: reads what there is, at most about TURN_RECORDS_MAX records. Returns the work done."""
        batch = self._gather()
        machine, reader, fields = self._machine, self._reader, None
        self._outbox.epoch = reader.head.epoch
        for seq, subscription, ordinal in batch:
            fields = reader.fields(seq)
            machine.seq = seq
            machine.warm = seq >= self._live_from
            machine.apply(subscription, ordinal, subscription.make(fields[2], *fields[8:13]))
        if batch:
            self._positions.update({subscription: ordinal + 1 for _, subscription, ordinal in batch})
            if self._outbox.flush():
                self._router.ring()
        self._report(len(batch), fields)
        self._take_snapshot(force=False)
        return len(batch)

    def wait(self) -> None:
        self._listener.wait(WAIT_MS_MAX)

    def stop(self) -> None:
        """A clean end: the strategy is told, the state is kept."""
        self._machine.stop()
        self._outbox.flush()
        self._take_snapshot(force=True)
        self._file.enter(State.STOPPED)

    def fail(self, error: StrategyRunnerError) -> None:
        """What was signalled before the fault is kept; the record that did it is named."""
        self._outbox.flush()
        self._file.status.last_error = str(error)
        self._file.enter(State.FAILED, type(error).__name__)

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _gather(self) -> list[tuple[int, Subscription, int]]:
        """(seq, subscription, ordinal) of the next records of all streams, in the order of seq."""
        reader = self._reader
        limit = reader.head.count
        if limit <= self._seq:
            return []
        batch: list[tuple[int, Subscription, int]] = []
        for subscription, position in self._positions.items():
            stream_id = self._stream_id(subscription)
            if stream_id is None:
                continue
            entries = reader.entries(stream_id)
            if entries <= position:
                continue
            seqs = reader.seqs(stream_id, position, min(entries, position + TURN_RECORDS_MAX))
            if position + len(seqs) < entries:
                limit = min(limit, seqs[-1] + 1)
            batch.extend((seq, subscription, ordinal) for ordinal, seq in enumerate(seqs, position))
        if len(self._positions) > 1:
            batch.sort(key=_seq_of)
        while batch and batch[-1][0] >= limit:
            batch.pop()
        self._seq = limit
        return batch

    def _stream_id(self, subscription: Subscription) -> int | None:
        stream_id = self._ids.get(subscription)
        if stream_id is None:
            stream_id = self._reader.find(subscription.stream)
            if stream_id is not None:
                self._ids[subscription] = stream_id
        return stream_id

    # -- state -----------------------------------------------------------------------------------------------------------

    def _begin(self, warmup_bars: int) -> None:
        """The first start of this generation: from the tape's first record, or from now with the bars needed to warm up."""
        remove_snapshots(self._folder)
        head = self._reader.head
        if not self._from_start:
            self._live_from = self._seq = head.count
            for subscription in self._positions:
                stream_id = self._stream_id(subscription)
                if stream_id is not None and warmup_bars and subscription.kind in (Kind.BAR, Kind.PREDICTION):
                    end = self._reader.first_ordinal_at(stream_id, self._live_from)
                    first = max(0, end - warmup_bars)
                    if first < end:
                        self._seq = min(self._seq, self._reader.seqs(stream_id, first, first + 1)[0])
        self._seq = max(self._seq, head.first)
        for subscription in self._positions:
            stream_id = self._stream_id(subscription)
            if stream_id is not None:
                self._positions[subscription] = self._reader.first_ordinal_at(stream_id, self._seq)
        self._machine.start()
        write_snapshot(self._folder, self._snapshot(), durable=False)

    def _restore(self, snapshot: Snapshot) -> None:
        self._machine.restore(snapshot.machine)
        self._seq, self._live_from = snapshot.seq, snapshot.live_from
        for subscription in self._positions:
            self._positions[subscription] = snapshot.positions.get(subscription.name, 0)
        self._outbox.signals, self._outbox.refusals = snapshot.signals, snapshot.refusals
        self._file.status.records = snapshot.records

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            generation=self._spec.generation,
            seq=self._seq,
            live_from=self._live_from,
            positions={subscription.name: position for subscription, position in self._positions.items()},
            log_offset=self._outbox.offset,
            n=self._machine.n,
            signals=self._outbox.signals,
            refusals=self._outbox.refusals,
            records=self._file.status.records,
            machine=self._machine.state(),
        )

    def _take_snapshot(self, *, force: bool) -> None:
        """Takes one when enough records have passed; writes it once the durable mark has passed its seq."""
        records = self._file.status.records
        if self._pending is None and (force or records - self._snapshot_records >= SNAPSHOT_RECORDS):
            self._pending = self._snapshot()
        if self._pending is None:
            return
        if self._reader.head.durable >= self._pending.seq:
            self._outbox.sync()
            write_snapshot(self._folder, self._pending)
            self._snapshot_records = self._pending.records
            self._file.status.snapshot_seq = self._pending.seq
            self._pending = None

    def _report(self, records: int, fields: tuple[int | float, ...] | None) -> None:
        file, outbox, now_ns = self._file, self._outbox, time.time_ns()
        status = file.status
        if fields is not None:
            status.event_ns, status.lag_ns = int(fields[2]), max(0, now_ns - int(fields[3]))
            if outbox.signals != status.signals:
                status.last_signal, status.last_signal_ns = outbox.last_id, now_ns
        status.records += records
        status.position = self._seq
        status.signals, status.refusals = outbox.signals, outbox.refusals
        status.progress, status.total = self._seq, self._reader.head.count
        if self._seq >= self._target and status.state in (State.CATCHING_UP, State.FOLLOWING):
            finished = self._reader.head.finished and self._seq >= self._reader.head.count
            if finished:
                file.enter(State.FINISHED, "the source has ended")
            elif status.state is State.CATCHING_UP:
                file.enter(State.FOLLOWING)
        file.write()


def _seq_of(entry: tuple[int, Subscription, int]) -> int:
    return entry[0]


def streams_of(spec: WorkerSpec) -> list[Stream]:
    return [Stream.parse(name) for name in spec.streams]
