"""The worker's loop: restore, replay, follow. Starting, restarting and catching up are this one path."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from time import thread_time, time_ns  # bound here: once the guard watches, `time.time_ns` asks who is calling

from strategy_runner.bus.doorbell import SignalDoorbell, StreamListener
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyError, StrategyRunnerError
from strategy_runner.model.event import Event
from strategy_runner.model.record import Kind
from strategy_runner.small_files import Synced
from strategy_runner.strategies.interface import Strategy
from strategy_runner.tape.head import BEAT_MS, COUNT, EPOCH, FINISHED
from strategy_runner.tape.logs import START
from strategy_runner.tape.reader import TapeReader, own_part
from strategy_runner.tape.status import APPLYING, State, StatusFile
from strategy_runner.worker.fault_log import FaultLog
from strategy_runner.worker.genesis import Genesis, first_seq, genesis_on_tape, note_genesis, sync_genesis
from strategy_runner.worker.machine import Machine
from strategy_runner.worker.outbox import Outbox
from strategy_runner.worker.paper_log import PaperLog
from strategy_runner.worker.parking import ON_START
from strategy_runner.worker.private_log import PrivateLog, position_at
from strategy_runner.worker.run import (
    RUN_RECORDS_MAX,
    RUN_RECORDS_MIN,
    Block,
    Run,
    in_order,
    read_block,
    read_records,
    told,
)
from strategy_runner.worker.skips import Skips, read_skips
from strategy_runner.worker.snapshot import (
    Snapshot,
    newest_snapshot,
    oldest_seq,
    remove_snapshots,
    write_snapshot,
)
from strategy_runner.worker.subscription import Subscription

TURN_RECORDS_MAX, _FIRST_TURN_RECORDS = 1024, 64
TURN_S = 0.5  # of processor time: it shows where it is after each turn, also where a strategy takes long for a record
SNAPSHOT_RECORDS = 20_000
TRIAL_RECORDS = (
    10  # and ten times as many, and so on: at the first snapshot it would be late to find that there can be none
)
SNAPSHOT_SEQS = 2_000_000  # 160 MB: so much tape at most is kept for a worker that reads little of it
WAIT_MS_MAX = 2_000
STOP_WAIT_S = 0.25

# records that the machine takes in runs
_RUNNING = frozenset({Kind.TRADE, Kind.QUOTE, Kind.BAR, Kind.CLOCK})

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
        self._head = reader.head.words
        self._listener = listener
        self._router = router
        self._file = status
        self._from_start = from_start
        snapshot = newest_snapshot(self._folder, spec.generation, reader.head.durable)
        if snapshot is not None and snapshot.seq < reader.head.first:
            log.warning(
                "the tape begins at seq %d and this worker stood at %d: it begins anew", reader.head.first, snapshot.seq
            )
            snapshot = None
        begun = None if snapshot is not None else genesis_on_tape(self._folder, spec.generation, reader.head)
        self._outbox = Outbox(
            self._folder / "signals.log",
            generation=spec.generation,
            mode=spec.mode,
            cuts=reader.cuts(),
            n=snapshot.n if snapshot else begun.n if begun else 0,
            offset=snapshot.log_offset if snapshot else START,
            is_restored=snapshot is not None,
            is_observed=spec.is_observed,
        )
        self._fills = PrivateLog(Path(spec.fills), spec.key) if spec.fills else None
        self._machine = Machine(
            spec,
            strategy,
            self._outbox.record,
            private=self._fills.event if self._fills else None,
            keep=self._keep_fill,
        )
        self._paper: PaperLog | None = None
        self._skips = Skips(read_skips(self._folder, spec.generation))
        self._has_skips = bool(self._skips)
        self._ids: dict[Subscription, int] = {}
        self._positions: dict[Subscription, int] = dict.fromkeys(self._machine.subscriptions, 0)
        self._seq = 0
        self._live_from = 0
        # while the worker stands below this seq, records and their signals change a few words of its page and nothing else
        self._plain_until = 0
        self._turn_records = _FIRST_TURN_RECORDS
        self._has_models = bool(spec.models)
        self._faults = FaultLog()
        self._unwritable = ""
        self._snapshot_records = 0
        self._snapshot_seq = 0
        self._trial_at = SNAPSHOT_RECORDS
        # at first earlier: thousands that began together need not wait for the disk together
        self._due = int(SNAPSHOT_RECORDS * (1 - own_part() / 2))
        self._pending: Snapshot | None = None
        self._beginning: Snapshot | None = None
        self._is_genesis_synced = False
        self._target = reader.head.count
        if snapshot is None:
            self._begin(strategy.inputs.warmup_bars, begun)
        else:
            self._restore(snapshot)
        reader.get_ready(self._seq)
        status.enter(State.CATCHING_UP, f"to seq {self._target}")

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """One bounded turn: reads what there is, at most about TURN_RECORDS_MAX records of a stream, and fewer where they take
        longer than TURN_S. Returns the work done.

        While the signal log takes nothing (disk full) it reads nothing either, and tries again at the next turn.
        """
        if self._head[COUNT] == self._seq and self._has_nothing_to_do():
            return 0
        if self._unwritable and not self._send():
            return 0
        self._outbox.epoch = self._head[EPOCH]
        taken = applied = self._take_few()
        is_plain = taken and self._seq < self._plain_until and not (self._has_models and self._machine.has_faults)
        if is_plain and not self._outbox.pending:
            self._file.advance(taken, self._seq, self._outbox.received_ns, self._machine.strategy.now_ns)
            return taken
        if not taken:
            begun_s = thread_time()
            runs = self._gather()
            taken = sum([len(seqs) for _, _, seqs in runs])
            if taken > 1 and self._can_run_on(runs):
                applied = self._run_on(runs[0])
            else:
                applied = self._step(runs) if taken < RUN_RECORDS_MIN or self._has_skips else self._merge(runs)
            for subscription, ordinal, seqs in runs:
                self._positions[subscription] = ordinal + len(seqs)
            if taken:
                self._turn_records = max(1, int(taken * TURN_S / max(thread_time() - begun_s, 1e-6)))
        self._file.words[APPLYING] = 0
        if self._has_models:
            self._faults.note(self._machine.take_faults())
        has_sent = self._send()
        if has_sent and is_plain:
            self._advance_with_signal(taken)
            return taken
        self._file.status.records += taken
        self._plain_until = 0
        if has_sent:
            self._report(has_applied=applied > 0)
            self._take_snapshot()
            self._plain_until = self._look_ahead()
        return taken

    def wait(self) -> None:
        """Until there is something to do. It rings then; a ring that was lost is made up for by a look once a beat, which costs
        as little as it can, since at nearly any moment nearly all of a thousand workers have nothing to do."""
        wait_ms = self._head[BEAT_MS]
        if not 0 < wait_ms < WAIT_MS_MAX:
            wait_ms = WAIT_MS_MAX
        while not self._listener.wait(wait_ms) and self._has_nothing_to_do():
            self._file.beat()

    def _has_nothing_to_do(self) -> bool:
        return (
            self._head[COUNT] == self._seq
            and self._pending is None
            and not self._unwritable
            and self._file.status.state is (State.FINISHED if self._head[FINISHED] else State.FOLLOWING)
        )

    def stop(self) -> None:
        """A clean end: the state is kept, then the strategy is told; what it does then does not count."""
        if self._send():
            self._take_last_snapshot()
        self._machine.stop()
        self._file.enter(State.STOPPED)

    def close(self) -> None:
        self._listener.close()
        self._router.close()
        self._outbox.close()
        if self._paper is not None:
            self._paper.close()
        if self._fills is not None:
            self._fills.close()

    def fail(self, error: Exception) -> None:
        """What was signalled before the fault is kept; the record that did it is named, and stays named on the page if it is
        the strategy that failed at it, or a fault that nobody foresaw."""
        if isinstance(error, StrategyRunnerError | OSError) and not isinstance(error, StrategyError):
            self._file.applying = 0
        try:
            if self._send():
                self._file.status.signals, self._file.status.refusals = self._outbox.signals, self._outbox.refusals
        finally:
            self._file.fail(error)

    def _send(self) -> bool:
        """Writes what was signalled; False while the disk does not take it."""
        if not (self._outbox.pending or self._unwritable or self._paper is not None):
            return True
        status = self._file.status
        try:
            if self._beginning is not None and self._outbox.pending:
                self._keep_beginning(self._beginning)
            if self._paper is not None:
                self._paper.flush()
            if self._outbox.flush():
                self._router.ring()
        except OSError as error:
            if not self._unwritable:
                log.error("%s: cannot write signals, trying again: %s", self._folder, error)
            status.last_error = self._unwritable = f"{self._folder}: cannot write signals: {error}"
            self._file.write()
            return False
        if self._unwritable:
            log.info("%s: signals can be written again", self._folder)
            status.last_error = self._unwritable = ""
        return True

    def _keep_fill(self, payload: bytes) -> None:
        assert self._paper is not None, "orders are filled after the worker has begun"
        self._paper.record(payload)

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _take_few(self) -> int:
        """Applies the new records of all streams if they are few and of one stream, and returns how many; what is more, or odd,
        is left alone.

        It is what nearly every ring is for. In a fleet a worker finds cold caches whenever it is woken: then a turn costs by how
        many different instructions and objects it comes by, and the way of a batch takes three times as many.
        """
        reader, positions, high, found, new = self._reader, self._positions, self._head[COUNT], None, 0
        for each, stream_id in self._ids.items():
            behind = reader.counts[stream_id] - positions[each]
            if behind:
                if behind >= RUN_RECORDS_MIN or found is not None:
                    return 0
                found, new = each, behind
        if found is None or self._has_skips or (len(self._ids) < len(positions) and reader.has_new_streams()):
            return 0
        subscription, ordinal, machine = found, positions[found], self._machine
        records = reader.new_ones(self._ids[found], ordinal, ordinal + new, self._seq, high)
        if records is None:
            return 0
        self._seq = high
        positions[subscription] = ordinal + new
        for seq, fields in records:
            machine.seq, self._outbox.received_ns = seq, fields[3]
            machine.live = seq >= self._live_from
            self._file.words[APPLYING] = seq + 1  # whoever finds this process gone knows where it was
            machine.apply(subscription, ordinal, subscription.make(fields[2], *fields[8:13]))
            ordinal += 1
        return new

    def _gather(self) -> list[Run]:
        """The next records of all streams, below the seq that is the next one afterwards."""
        reader = self._reader
        limit = self._head[COUNT]
        if limit <= self._seq:
            return []
        most = min(self._turn_records, TURN_RECORDS_MAX)
        runs: list[Run] = []
        for subscription, position in self._positions.items():
            stream_id = self._stream_id(subscription)
            if stream_id is None:
                continue
            entries = reader.entries(stream_id)
            if entries <= position:
                continue
            seqs = reader.entries_between(stream_id, position, min(entries, position + most))
            reader.refuse_below(self._seq, stream_id, seqs)
            reader.refuse_beyond(stream_id, seqs)
            if position + len(seqs) < entries:
                limit = min(limit, seqs[-1] + 1)
            runs.append(Run(subscription, position, seqs))
        self._seq = limit
        return [run for run in (run.below(limit) for run in runs) if run.seqs]

    def _step(self, runs: list[Run]) -> int:
        """Applies records one by one, in the order of seq, but for those that are skipped; returns how many."""
        machine, reader, outbox, words = self._machine, self._reader, self._outbox, self._file.words
        left = self._skips.left_of(in_order(runs))
        for seq, subscription, ordinal in left:
            fields = reader.fields(seq, self._ids[subscription])
            machine.seq, outbox.received_ns = seq, fields[3]
            machine.live = seq >= self._live_from
            words[APPLYING] = seq + 1  # whoever finds this process gone knows where it was
            machine.apply(subscription, ordinal, subscription.make(fields[2], *fields[8:13]))
        return len(left)

    def _merge(self, runs: list[Run]) -> int:
        """As `_step`, where none is skipped and many are read at once."""
        machine, outbox, words = self._machine, self._outbox, self._file.words
        read = {of: read_records(self._reader, self._ids[of], of, seqs) for of, _, seqs in runs}
        batch = in_order(runs)
        for seq, subscription, ordinal in batch:
            _, outbox.received_ns, event = next(read[subscription])
            machine.seq = seq
            machine.live = seq >= self._live_from
            words[APPLYING] = seq + 1
            machine.apply(subscription, ordinal, event)
        return len(batch)

    def _can_run_on(self, runs: list[Run]) -> bool:
        """Whether there is one stream's run, and nothing for the machine to be told in it but the records."""
        subscription, _, seqs = runs[0]
        return len(runs) == 1 and seqs[0] >= self._live_from and subscription.kind in _RUNNING and not self._has_skips

    def _run_on(self, run: Run) -> int:
        """Applies the records of one stream; returns how many. They are read before the machine is at work, so that damage of the
        tape is not taken for the strategy's fault: `_step` comes to it."""
        machine, hand, (subscription, ordinal, seqs) = self._machine, self._file.words[APPLYING:], run
        machine.live = True
        at = 0
        while at < len(seqs):
            some = seqs[at : at + RUN_RECORDS_MAX]
            block = read_block(self._reader, self._ids[subscription], subscription, some)
            if block is None:
                return at + self._step([Run(subscription, ordinal + at, seqs[at:])])
            if machine.needs_each(subscription):
                machine.apply_block(subscription, ordinal + at, self._at_hand(block))
            else:
                machine.apply_run(subscription, ordinal + at, block, hand, self._note)
                self._note(block, -1)
            at += len(block.marks)
        return at

    def _note(self, block: Block, at: int) -> None:
        """The record of a block that the machine has in hand, for what is signalled at it."""
        self._machine.seq, self._outbox.received_ns = block.marks[at] - 1, int(block.received_ns[at])

    def _at_hand(self, block: Block) -> Iterator[Event]:
        """The events of a block, each noted as the one in hand when the machine takes it."""
        machine, outbox, words = self._machine, self._outbox, self._file.words
        for seq, received_ns, event in told(block):
            machine.seq, outbox.received_ns = seq, received_ns
            words[APPLYING] = seq + 1
            yield event  # type: ignore[misc]  # runs are not private

    def _stream_id(self, subscription: Subscription) -> int | None:
        stream_id = self._ids.get(subscription)
        if stream_id is None:
            stream_id = self._reader.find(subscription.stream)
            if stream_id is not None:
                self._ids[subscription] = stream_id
        return stream_id

    # -- state -----------------------------------------------------------------------------------------------------------

    def _begin(self, warmup_bars: int, begun: Genesis | None) -> None:
        """The first start of this generation: from the tape's first record, or from now with the bars needed to warm up. Or
        where it has `begun` before.

        Now is the durable mark: the snapshot of a beginning above it would not count, and a restart would begin elsewhere.
        """
        remove_snapshots(self._folder)
        head = self._reader.head
        if begun is not None:
            self._seq, self._live_from, self._machine.n = begun.seq, begun.live_from, begun.n
        elif self._from_start:
            if head.first:  # what an older life has signalled cannot be derived again
                self._machine.n = self._outbox.begin_after_recorded()
        else:
            self._live_from = head.durable
            self._machine.n = self._outbox.begin_after_recorded()
            streams = [subscription.stream for subscription in self._positions]
            self._seq = first_seq(self._reader, streams, warmup_bars, self._live_from)
        self._seq = max(self._seq, head.first)
        for subscription in self._positions:
            stream_id = self._stream_id(subscription)
            if stream_id is not None:
                self._positions[subscription] = self._reader.first_ordinal_at(stream_id, self._seq)
        if begun is not None:
            self._machine.strategy.position = begun.position
        elif self._spec.fills:
            held = position_at(self._reader, self._spec, self._seq)
            self._machine.strategy.position = held
        if self._machine.paper is not None:
            self._paper = PaperLog(self._folder / "fills.log")
            if begun is None:
                self._paper.begin()
        if begun is None:
            self._note_genesis()
        self._trial_at = TRIAL_RECORDS
        self._file.enter(State.STARTING, ON_START)
        self._machine.start()
        self._beginning = self._snapshot()
        write_snapshot(self._folder, self._beginning, synced="nothing")
        self._note_snapshot(self._seq)

    def _note_genesis(self) -> None:
        genesis = Genesis(
            spec=self._spec,
            seq=self._seq,
            live_from=self._live_from,
            n=self._machine.n,
            position=self._machine.strategy.position,
        )
        note_genesis(self._folder, genesis)

    def _restore(self, snapshot: Snapshot) -> None:
        """Goes on from a snapshot. Newer ones are damaged or tell of records that a power cut took: they never count again."""
        remove_snapshots(self._folder, above=snapshot.seq)
        self._machine.restore(snapshot.machine)
        if self._machine.paper is not None:
            self._paper = PaperLog(self._folder / "fills.log", self._machine.paper.offset, is_restored=True)
        self._seq, self._live_from = snapshot.seq, snapshot.live_from
        for subscription in self._positions:
            self._positions[subscription] = snapshot.positions.get(subscription.name, 0)
        self._outbox.signals, self._outbox.refusals = snapshot.signals, snapshot.refusals
        self._file.status.records = snapshot.records
        self._beginning = None if snapshot.signals else snapshot
        self._note_snapshot(snapshot.seq)

    def _keep_beginning(self, beginning: Snapshot) -> None:
        """Before the first signal: once that is out, a power cut must not make the worker begin elsewhere. Raises OSError."""
        self._sync_genesis()
        self._outbox.sync()  # what is damaged at its beginning, and holds signals, was no log that was never synced
        if self._paper is not None:
            self._paper.sync()
        write_snapshot(self._folder, beginning)
        self._beginning = None

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

    def _take_snapshot(self) -> None:
        """Takes one when enough records have passed; writes it once the durable mark has passed its seq."""
        records, seqs = self._file.status.records - self._snapshot_records, self._seq - self._snapshot_seq
        if self._trial_at <= records < self._due:
            self._machine.state()
            self._trial_at = 10 * records
        if self._pending is None and (records >= self._due or seqs >= SNAPSHOT_SEQS):
            self._pending = self._snapshot()
            self._due = SNAPSHOT_RECORDS
        if self._pending is not None and self._reader.head.durable >= self._pending.seq:
            self._write_snapshot(self._pending)
            self._pending = None

    def _look_ahead(self) -> int:
        """The seq up to which a turn with few records has no more to do than to tell of them and their signals; 0 if it has."""
        is_plain = self._file.status.state is State.FOLLOWING and self._pending is None
        if not is_plain or self._paper is not None:
            return 0
        due = min(self._due, self._trial_at)
        until_records = self._seq + due - (self._file.status.records - self._snapshot_records)
        return min(until_records, self._snapshot_seq + SNAPSHOT_SEQS)

    def _take_last_snapshot(self) -> None:
        """Takes one now, if the durable mark comes up to it soon: it does, unless the feed is gone."""
        snapshot, deadline = self._snapshot(), time.monotonic() + STOP_WAIT_S
        while self._reader.head.durable < snapshot.seq and time.monotonic() < deadline:
            time.sleep(0.002)
        if self._reader.head.durable >= snapshot.seq:
            # thousands may end at once, and wait for the disk: where a power cut takes its name, the one before still stands
            self._write_snapshot(snapshot, synced="content")

    def _write_snapshot(self, snapshot: Snapshot, synced: Synced = "name") -> None:
        """Without one a restart takes longer and nothing is lost, so a full disk does not end the worker."""
        self._outbox.sync()
        if self._paper is not None:
            self._paper.sync()
        try:
            self._sync_genesis()
            write_snapshot(self._folder, snapshot, synced=synced)
            self._beginning = None
        except OSError as error:
            log.warning("%s: no snapshot at seq %d: %s", self._folder, snapshot.seq, error)
        self._note_snapshot(snapshot.seq)

    def _sync_genesis(self) -> None:
        """Once: a process notes no second beginning. Raises OSError."""
        if not self._is_genesis_synced:
            sync_genesis(self._folder)
            self._is_genesis_synced = True

    def _note_snapshot(self, seq: int) -> None:
        """The status tells the feed from where on the tape must be kept: the older snapshot may be needed too."""
        self._snapshot_records, self._snapshot_seq = self._file.status.records, seq
        self._file.status.snapshot_seq = oldest_seq(self._folder)

    def _advance_with_signal(self, taken: int) -> None:
        """As `_report`, after few records with signals that change nothing else: in a fourth of the instructions."""
        file, outbox, status = self._file, self._outbox, self._file.status
        status.signals, status.refusals, status.last_signal_ns = outbox.signals, outbox.refusals, outbox.last_ns
        file.show_signal(outbox.last_id)
        file.advance(taken, self._seq, outbox.received_ns, self._machine.strategy.now_ns)

    def _report(self, *, has_applied: bool) -> None:
        file, outbox, now_ns = self._file, self._outbox, time_ns()
        status = file.status
        if has_applied:
            status.event_ns, status.lag_ns = self._machine.strategy.now_ns, max(0, now_ns - outbox.received_ns)
            if outbox.signals != status.signals:
                status.last_signal, status.last_signal_ns = outbox.last_id, outbox.last_ns
        status.position = self._seq
        status.signals, status.refusals = outbox.signals, outbox.refusals
        status.progress, status.total = self._seq, self._head[COUNT]
        if self._seq >= self._target:
            finished = self._head[FINISHED] and self._seq >= self._head[COUNT]
            if finished and status.state is not State.FINISHED:
                file.enter(State.FINISHED, "the source has ended")
            elif not finished and status.state is not State.FOLLOWING:
                file.enter(State.FOLLOWING)
        file.write()
