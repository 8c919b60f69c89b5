"""A run over a recorded tape: the worker's machine, driven from where a worker began to a given seq, in one process.

The oracle of every comparison: no socket, no log, no snapshot taken, nothing written. What it derives is what the worker
should have recorded, byte for byte.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.config.times import moment
from strategy_runner.errors import CorruptRecordError, UsageError
from strategy_runner.model.signal import SignalBody, canonical
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.genesis import Genesis, first_seq
from strategy_runner.worker.machine import Machine
from strategy_runner.worker.private_log import PrivateLog, position_at
from strategy_runner.worker.skips import Skips, read_skips
from strategy_runner.worker.snapshot import Snapshot
from strategy_runner.worker.strategy import make_strategy
from strategy_runner.worker.subscription import Subscription

GATHER_RECORDS_MAX = 4096


class Derived(NamedTuple):
    """A signal as the run gives it: its number, the seq and event time of its cause, its canonical bytes."""

    n: int
    seq: int
    event_ns: int
    body: bytes


class TapeRun:
    """One worker's life over again. `seq` is the next one to read, `records` how many the strategy was given."""

    def __init__(self, spec: WorkerSpec, tape: Path, beginning: Genesis | Snapshot) -> None:
        """`spec` decides what runs; of a genesis only the place counts, so that another spec may be tried on it.

        Raises NotRunningError without a tape, CorruptRecordError if it no longer holds the beginning, StrategyRunnerError
        as a worker would at its start. Records that an operator had this generation skip are skipped here too.
        """
        self._reader = TapeReader(tape)
        self._signals: list[Derived] = []
        fills = PrivateLog(Path(spec.fills), spec.key) if spec.fills else None
        self._machine = Machine(spec, make_strategy(spec), self._record, private=fills.event if fills else None)
        self._skips = Skips(read_skips(Path(spec.folder), spec.generation))
        self._live_from = beginning.live_from
        self._ids: dict[Subscription, int] = {}
        self._positions: dict[Subscription, int] = {}
        self.seq = beginning.seq
        self.records = 0
        if beginning.seq < self._reader.head.first:
            raise CorruptRecordError(
                f"{tape}: expected the tape from seq {beginning.seq} on, found it kept from seq {self._reader.head.first} on"
            )
        if isinstance(beginning, Snapshot):
            self._machine.restore(beginning.machine)
            positions = beginning.positions
            self._positions = {s: positions.get(s.name, 0) for s in self._machine.subscriptions}
        else:
            self._machine.n = beginning.n
            self._machine.strategy.position = beginning.position
            self._positions = {s: self._first_ordinal(s) for s in self._machine.subscriptions}
            self._machine.start()

    def run(self, end: int) -> Iterator[Derived]:
        """Reads the records below seq `end` and yields what they cause, in order. May be called again with a later end.

        Raises StrategyError where the strategy does; `seq` then is that record's. Raises CorruptRecordError.
        """
        machine, fields_of, signals = self._machine, self._reader.fields, self._signals
        while batch := self._gather(end):
            for seq, subscription, ordinal in self._skips.left_of(batch):
                fields = fields_of(seq, self._ids[subscription])
                self.seq = machine.seq = seq
                machine.live = seq >= self._live_from
                machine.apply(subscription, ordinal, subscription.make(fields[2], *fields[8:13]))
                self.records += 1
                if signals:
                    yield from signals
                    signals.clear()
            self._positions.update({subscription: ordinal + 1 for _, subscription, ordinal in batch})
        self.seq = max(self.seq, end)

    def _record(self, n: int, body: SignalBody, seq: int) -> None:
        self._signals.append(Derived(n, seq, body.cause.event_ns, canonical(body)))

    def _first_ordinal(self, subscription: Subscription) -> int:
        stream_id = self._stream_id(subscription)
        return 0 if stream_id is None else self._reader.first_ordinal_at(stream_id, self.seq)

    def _stream_id(self, subscription: Subscription) -> int | None:
        if subscription not in self._ids:
            found = self._reader.find(subscription.stream)
            if found is None:
                return None
            self._ids[subscription] = found
        return self._ids[subscription]

    def _gather(self, end: int) -> list[tuple[int, Subscription, int]]:
        """(seq, subscription, ordinal) of the next records of all streams below `end`, in the order of seq."""
        reader, limit = self._reader, end
        batch: list[tuple[int, Subscription, int]] = []
        for subscription, position in self._positions.items():
            stream_id = self._stream_id(subscription)
            entries = 0 if stream_id is None else reader.entries(stream_id)
            if stream_id is None or entries <= position:
                continue
            seqs = reader.seqs(stream_id, position, min(entries, position + GATHER_RECORDS_MAX))
            reader.refuse_beyond(stream_id, seqs)
            if position + len(seqs) < entries:
                limit = min(limit, seqs[-1] + 1)
            batch.extend((seq, subscription, ordinal) for ordinal, seq in enumerate(seqs, position))
        batch = [entry for entry in batch if entry[0] < limit]
        batch.sort(key=_seq_of)
        return batch


def beginning_at(spec: WorkerSpec, tape: Path, live_from: int) -> Genesis:
    """The genesis of a worker that is started anew when the tape stands at `live_from`: with the bars to warm up before it."""
    reader, warmup_bars = TapeReader(tape), make_strategy(spec).inputs.warmup_bars
    seq = first_seq(reader, map(Stream.parse, spec.streams), warmup_bars, live_from)
    held = position_at(reader, spec, seq) if spec.fills else 0.0
    return Genesis(spec=spec, seq=seq, live_from=live_from, n=0, position=held)


def period(tape: Path, from_ns: int, to_ns: int) -> tuple[int, int]:
    """(first seq at or after `from_ns`, seq behind the last one before `to_ns`) of what is kept; 0 is an end of the tape.

    Event times of different symbols may cross, so a few records in between can lie outside. Raises UsageError for a period
    without a record.
    """
    reader = TapeReader(tape)
    first, end = reader.head.first, reader.head.count
    begin, stop = (first if not from_ns else end), (end if not to_ns else first)
    for seq, array in reader.arrays(first, end):
        if from_ns and begin == end and (late := array["event_ns"] >= from_ns).any():
            begin = seq + int(late.argmax())
        if to_ns and (early := array["event_ns"] < to_ns).any():
            stop = seq + len(array) - int(early[::-1].argmax())
    if begin >= stop:
        ends = [moment(reader.record(seq).event_ns) for seq in (first, end - 1) if first < end]
        kept = " to ".join(ends) or "nothing"
        raise UsageError(f"{tape}: expected records in the period asked for, found none; it holds {kept}")
    return begin, stop


def missing_streams(spec: WorkerSpec, tape: Path) -> list[str]:
    """Streams that a worker reads and the tape does not carry."""
    reader = TapeReader(tape)
    return [name for name in spec.streams if reader.find(Stream.parse(name)) is None]


def _seq_of(entry: tuple[int, Subscription, int]) -> int:
    return entry[0]
