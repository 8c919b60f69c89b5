"""The router's loop: read signals, hold them at the gate, decide, make the decisions durable, tell the sinks."""

import heapq
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from strategy_runner.bus.doorbell import SignalListener
from strategy_runner.config.spec import RouterSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import LoggedSignal, decode_body
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.intake import WorkerCursor, WorkerIntake, worker_log
from strategy_runner.router.journal import Journal
from strategy_runner.tape.status import State, StatusFile, read_status

TURN_SIGNALS_MAX = 2_000
LOOK_INTERVAL_S = 0.5
GATE_WAIT_MS = 5

log = logging.getLogger(__name__)


class Router:
    """`durable` gives the tape's durable mark: a signal leaves only when the mark has passed the record that caused it."""

    def __init__(
        self,
        spec: RouterSpec,
        *,
        listener: SignalListener,
        durable: Callable[[], int],
        deliveries: Sequence[Delivery],
        status: StatusFile,
    ) -> None:
        self._spec = spec
        self._workers_folder = Path(spec.workers_folder)
        self._listener = listener
        self._durable = durable
        self._deliveries = deliveries
        self._file = status
        self._journal = Journal(Path(spec.folder))
        self._intakes: dict[str, WorkerIntake] = {}
        self._ordered = spec.ordered
        self._due: set[str] = set()
        self._held = False
        self._next_look = 0.0
        self._refusals = 0
        self._want(spec.workers)
        for delivery in deliveries:
            delivery.start()
            delivery.advance(self._journal.synced)
        status.enter(State.FOLLOWING)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """Decides what is ready, at most TURN_SIGNALS_MAX signals. Returns how many."""
        self._due |= self._listener.ringing()
        now = time.monotonic()
        if now >= self._next_look:
            self._due |= self._intakes.keys()
            self._next_look = now + LOOK_INTERVAL_S
        ready = self._ready()
        if ready:
            self._record([self._decide(number, logged) for number, logged in enumerate(ready, self._journal.number)])
        self._report()
        return len(ready)

    def wait(self) -> None:
        timeout_ms = GATE_WAIT_MS if self._held else int(1e3 * max(0.0, self._next_look - time.monotonic())) + 1
        self._listener.wait(timeout_ms)

    def reload(self, spec: RouterSpec) -> None:
        """Takes the workers of a new plan; those that left stay known until the next start, their logs may hold more."""
        self._want(spec.workers)

    def stop(self, deliver_s: float = 5.0) -> None:
        """Decides what the stopped workers left, and lets the sinks follow for the time given."""
        self._next_look = 0.0
        while not self._spec.bulk and self.turn():
            self._next_look = 0.0
        self._journal.note(self._cursors(), force=True)
        for delivery in self._deliveries:
            delivery.stop(deliver_s)
        self._report()
        self._file.enter(State.STOPPED)

    def drain(self) -> int:
        """Decides everything there is in one order: event time, worker, n. For runs whose workers have all ended."""
        decided = 0
        for batch in _batches(heapq.merge(*map(_drained, self._intakes.values()), key=_event_order)):
            self._record(
                [self._decide(number, logged) for number, (_, _, logged) in enumerate(batch, self._journal.number)]
            )
            decided += len(batch)
            self._report()
        return decided

    # -- deciding --------------------------------------------------------------------------------------------------------

    def _ready(self) -> list[LoggedSignal]:
        """Signals that may be decided now, and whether some are held back until their records are durable."""
        durable = self._durable()
        ready = self._in_tape_order(min(durable, self._slowest())) if self._ordered else self._as_they_came(durable)
        self._held = any(intake.queue and intake.queue[0].envelope.seq >= durable for intake in self._intakes.values())
        return ready

    def _as_they_came(self, limit: int) -> list[LoggedSignal]:
        ready: list[LoggedSignal] = []
        for worker in sorted(self._due):
            intake = self._intakes.get(worker)
            if intake is None or not self._fill(intake):
                self._due.discard(worker)
                continue
            while intake.queue and intake.queue[0].envelope.seq < limit and len(ready) < TURN_SIGNALS_MAX:
                ready.append(intake.pop())
        return ready

    def _in_tape_order(self, limit: int) -> list[LoggedSignal]:
        ready: list[LoggedSignal] = []
        heads = [(i.queue[0].envelope.seq, i.worker) for i in self._intakes.values() if self._fill(i)]
        heapq.heapify(heads)
        while heads and heads[0][0] < limit and len(ready) < TURN_SIGNALS_MAX:
            intake = self._intakes[heads[0][1]]
            ready.append(intake.pop())
            if self._fill(intake):
                heapq.heapreplace(heads, (intake.queue[0].envelope.seq, intake.worker))
            else:
                heapq.heappop(heads)
        return ready

    def _fill(self, intake: WorkerIntake) -> int:
        waiting = intake.fill()
        if intake.fault:
            self._cut_off(intake)
        return waiting

    def _slowest(self) -> int:
        """The seq up to which every worker has read: no signal below it can still come."""
        positions = []
        for worker in self._intakes:
            status = read_status(self._workers_folder / worker / "status")
            positions.append(status.position if status else 0)
        return min(positions, default=0)

    def _decide(self, number: int, logged: LoggedSignal) -> Decision:
        body = decode_body(logged.body)
        self._file.status.last_signal = body.id
        self._refusals += body.refusal is not None
        return Decision(
            number=number,
            signal_id=body.id,
            verdict="refused" if body.refusal else "accepted",
            reason=body.refusal or "",
            decided_ns=time.time_ns(),
            envelope=logged.envelope,
            body=logged.body,
        )

    def _record(self, decisions: list[Decision]) -> None:
        self._journal.append(decisions)
        self._journal.note(self._cursors())
        for delivery in self._deliveries:
            delivery.advance(self._journal.synced)
        self._file.status.last_signal_ns = decisions[-1].decided_ns

    # -- state -----------------------------------------------------------------------------------------------------------

    def _want(self, workers: Sequence[str]) -> None:
        for worker in workers:
            if worker not in self._intakes:
                cursor = self._journal.cursors.get(worker, WorkerCursor())
                self._intakes[worker] = WorkerIntake(worker, worker_log(self._workers_folder, worker), cursor)

    def _cut_off(self, intake: WorkerIntake) -> None:
        if self._file.status.last_error != intake.fault[:384]:
            log.error("worker %s is cut off: %s", intake.worker, intake.fault)
            self._file.status.last_error = intake.fault[:384]

    def _cursors(self) -> dict[str, WorkerCursor]:
        return {**self._journal.cursors, **{worker: intake.cursor for worker, intake in self._intakes.items()}}

    def _report(self) -> None:
        status = self._file.status
        status.position = status.signals = status.total = self._journal.number
        status.refusals = self._refusals
        status.progress = min((delivery.cursor for delivery in self._deliveries), default=self._journal.number)
        status.records = sum(intake.offset for intake in self._intakes.values() if not intake.queue)
        faults = [f"sink {delivery.name}: {delivery.fault}" for delivery in self._deliveries if delivery.fault]
        status.reason = faults[0] if faults else ""
        self._file.write()


def _drained(intake: WorkerIntake) -> Iterator[tuple[int, str, LoggedSignal]]:
    while intake.fill():
        logged = intake.pop()
        yield decode_body(logged.body).cause.event_ns, intake.worker, logged


def _batches(entries: Iterator[tuple[int, str, LoggedSignal]]) -> Iterator[list[tuple[int, str, LoggedSignal]]]:
    batch: list[tuple[int, str, LoggedSignal]] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == TURN_SIGNALS_MAX:
            yield batch
            batch = []
    if batch:
        yield batch


def _event_order(entry: tuple[int, str, LoggedSignal]) -> tuple[int, str]:
    return entry[:2]
