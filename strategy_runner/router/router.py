"""The router's loop: read signals, hold them at the gate, decide, make the decisions durable, tell the sinks."""

import heapq
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strategy_runner.bus.doorbell import SignalListener
from strategy_runner.config.spec import RouterSpec
from strategy_runner.errors import DiskFullError
from strategy_runner.model.decision import Decision
from strategy_runner.router.audit import Audit
from strategy_runner.router.cut_off import write_cut_off
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.intake import Arrival, WorkerCursor, WorkerIntake, worker_log
from strategy_runner.router.journal import Journal
from strategy_runner.router.market import Market
from strategy_runner.router.operator import Operator
from strategy_runner.router.position import Position
from strategy_runner.router.right_of_way import RightOfWay
from strategy_runner.router.ruling import Judge, Ruling
from strategy_runner.router.trading import Trading
from strategy_runner.tape.status import State, StatusFile, read_status

TURN_SIGNALS_MAX = 2_000
LOOK_INTERVAL_S = 1.0  # at every worker's log
LOOKED_AT = 1_000  # within one such interval, at most
WAIT_S_MAX = 0.5  # what people ask for is not rung for
GATE_WAIT_MS = 2  # less than the tape is synced in
FULL_DISK_PAUSE_S = 0.5
_NO_LIMIT = 1 << 62

log = logging.getLogger(__name__)


class Router:
    """`durable` gives the tape's durable mark: a signal leaves only when the mark has passed the record that caused it.

    `market` is what ages are told by; None where there is no tape. While the disk takes no decisions, the router keeps the
    signals that it was about to decide, reads no others, and tries again. `trading` is there for a client with a route to an
    OMS; `operator` has its turn before anything is decided.
    """

    def __init__(
        self,
        spec: RouterSpec,
        *,
        listener: SignalListener,
        durable: Callable[[], int],
        deliveries: Sequence[Delivery],
        status: StatusFile,
        market: Market | None = None,
        trading: Trading | None = None,
        operator: Operator | None = None,
        audit: Audit | None = None,
    ) -> None:
        self._spec = spec
        self._workers_folder = Path(spec.workers_folder)
        self._listener = listener
        self._durable = durable
        self._deliveries = deliveries
        self._file = status
        self._journal = Journal(Path(spec.folder))
        self._intakes: dict[str, WorkerIntake] = {}
        self._awaited = set(spec.workers)
        self._cut_off: dict[str, str] = {}
        self._is_cut_off_told = False
        self._judge = Judge(market, spec.freshness, None if operator is None else operator.refusal)
        self._trading = trading
        self._operator = operator
        self._audit = audit
        self._undecided: list[Arrival] = []
        self._unwritten: list[Decision] = []
        self._unwritable = ""
        self._next_try = 0.0
        self._ordered = spec.ordered
        self._due: set[str] = set()
        self._read_bytes = 0
        self._read_of: dict[str, int] = {}
        self._held = False
        self._next_look = 0.0
        self._want(spec.workers)
        self._right_of_way = RightOfWay()
        give_way = self._right_of_way.give_way
        for delivery in deliveries:
            delivery.start(give_way)
            delivery.advance(self._journal.synced)
        if trading is not None:
            trading.start(self._judge, self._journal.synced, self._right_of_way.give_way_to_flood)
        if audit is not None:
            audit.start(give_way)
        status.enter(State.FOLLOWING)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> int:
        """Decides what is ready, at most TURN_SIGNALS_MAX signals. Returns how many. Raises StateError, OSError."""
        self._due |= self._listener.ringing()
        now = time.monotonic()
        if now >= self._next_look:
            self._look()
            self._next_look = now + LOOK_INTERVAL_S * max(1.0, len(self._intakes) / LOOKED_AT)
        if self._audit is not None and self._audit.broken is not None:
            raise self._audit.broken
        if self._operator is not None:
            self._operator.turn()
        if self._trading is not None and not self._trading.turn():
            self._held = True
            return 0
        if self._undecided and now < self._next_try:
            return 0
        decided = self._decide(self._undecided or self._ready())
        self._report()
        return decided

    def wait(self) -> None:
        to_look_s = max(0.0, self._next_look - time.monotonic())
        self._listener.wait(GATE_WAIT_MS if self._held else int(1e3 * min(to_look_s, WAIT_S_MAX)) + 1)

    def reload(self, spec: RouterSpec) -> None:
        """Takes the workers of a new plan; those that left stay known until the next start, their logs may hold more, but
        nobody waits for them."""
        self._judge.reload(spec.freshness)
        if self._trading is not None:
            self._trading.reload(spec)
        if self._operator is not None:
            self._operator.reload(spec.on_restart)
        self._want(spec.workers)
        self._awaited = set(spec.workers)

    def stop(self, deliver_s: float = 5.0, end: State = State.STOPPED) -> None:
        """Decides what the stopped workers left, and lets the sinks follow for the time given. `end` is what it then says."""
        self._next_look = self._next_try = 0.0
        while not self._spec.bulk and self.turn():
            self._next_look = 0.0
        if not self._undecided:
            self._journal.note(self._cursors())
        if self._trading is not None:
            self._trading.stop(deliver_s)
        threads: list[Delivery | Audit] = [*self._deliveries]
        if self._audit is not None:
            threads.append(self._audit)
        for one in threads:  # at once: the one writes while the other waits for its database
            one.finish()
        for one in threads:
            one.stop(deliver_s)
        self._report()
        self._file.enter(end)

    def fail(self, error: Exception) -> None:
        """The end by a fault that trying again cannot mend."""
        self._file.fail(error)

    def drain(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Decides everything there is in one order: event time, worker, n. For runs whose workers have all ended.

        Waits for space on a full disk, unless `stopping` says otherwise.
        """
        decided = 0
        while ready := self._undecided or self._merged(_event_ns, _NO_LIMIT):
            decided += self._decide(ready)
            self._report()
            if self._undecided:
                if stopping():
                    break
                time.sleep(FULL_DISK_PAUSE_S)
        self._tell_cut_off()
        return decided

    # -- deciding --------------------------------------------------------------------------------------------------------

    def _ready(self) -> list[Arrival]:
        """Signals that may be decided now, and whether some are held back until their records are durable."""
        durable = self._durable()
        ready = self._merged(_seq, min(durable, self._slowest())) if self._ordered else self._as_they_came(durable)
        waiting = self._intakes if self._ordered else self._due
        self._held = any((queue := self._intakes[worker].queue) and queue[0].seq >= durable for worker in waiting)
        return ready

    def _as_they_came(self, limit: int) -> list[Arrival]:
        ready: list[Arrival] = []
        for worker in sorted(self._due):
            intake = self._intakes.get(worker)
            if intake is None:
                self._due.discard(worker)
                continue
            waiting = self._fill(intake)
            while intake.queue and intake.queue[0].seq < limit and len(ready) < TURN_SIGNALS_MAX:
                ready.append(intake.pop())
            if not waiting or intake.is_drained:
                self._due.discard(worker)
            self._count(intake)
        return ready

    def _merged(self, key: Callable[[Arrival], int], limit: int) -> list[Arrival]:
        """Signals with a key below the limit by key, worker, n: no more of them than are decided in one go."""
        ready: list[Arrival] = []
        heads = [(key(i.queue[0]), i.worker) for i in self._intakes.values() if self._fill(i)]
        heapq.heapify(heads)
        while heads and heads[0][0] < limit and len(ready) < TURN_SIGNALS_MAX:
            intake = self._intakes[heads[0][1]]
            ready.append(intake.pop())
            if self._fill(intake):
                heapq.heapreplace(heads, (key(intake.queue[0]), intake.worker))
            else:
                heapq.heappop(heads)
        for intake in self._intakes.values():
            self._count(intake)
        return ready

    def _fill(self, intake: WorkerIntake) -> int:
        waiting = intake.fill()
        if intake.fault != self._cut_off.get(intake.worker, ""):
            self._note_trust(intake)
        return waiting

    def _count(self, intake: WorkerIntake) -> None:
        """Keeps how much of the logs is decided that has been read whole: a sum over all workers would be made at each turn."""
        now = 0 if intake.queue else intake.offset
        self._read_bytes += now - self._read_of.get(intake.worker, 0)
        self._read_of[intake.worker] = now

    def _note_trust(self, intake: WorkerIntake) -> None:
        """A worker was cut off, or is trusted again."""
        self._is_cut_off_told = False
        if intake.fault:
            self._cut_off[intake.worker] = intake.fault
            log.error("worker %s is cut off: %s", intake.worker, intake.fault)
            self._file.status.last_error = f"worker {intake.worker} is cut off: {intake.fault}"
        else:
            del self._cut_off[intake.worker]
            log.warning("worker %s is trusted again", intake.worker)
            self._file.status.last_error = next(
                (f"worker {worker} is cut off: {fault}" for worker, fault in self._cut_off.items()), ""
            )

    def _slowest(self) -> int:
        """The seq up to which every worker of the plan has read: no signal below it can still come.

        Not waited for is a worker that failed or is parked: what it signalled before is in its log, and it may stand still
        for good.
        """
        positions = []
        for worker in self._awaited - self._cut_off.keys():
            status = read_status(self._workers_folder / worker / "status")
            if status is None or status.state not in (State.FAILED, State.PARKED):
                positions.append(status.position if status else 0)
        return min(positions, default=_NO_LIMIT)

    def _decide(self, ready: list[Arrival]) -> int:
        """One decision for each signal, durable before any sink may see it; returns how many.

        What a full disk does not take is ruled on again at the next try: by then it may be late.
        """
        at_ns = time.time_ns()
        self._tell_of_wait(ready, at_ns)
        if not ready:
            return 0
        decisions = self._unwritten
        positions: dict[str, Position] = {}
        if not decisions and self._trading is not None:
            decisions = self._decisions(ready, self._trading.rule(ready, at_ns), at_ns)
        elif not decisions:
            rulings, positions = self._judge.rule(ready, self._journal.positions)
            decisions = self._decisions(ready, rulings, at_ns)
        try:
            self._journal.append(decisions, positions)
        except DiskFullError as error:
            self._hold(ready, decisions if self._trading is not None else [], str(error))
            return 0
        if self._trading is not None:
            self._trading.decided(decisions, ready, self._journal.synced)
        self._release()
        if self._journal.wants_note:
            self._journal.note(self._cursors())
        for delivery in self._deliveries:
            delivery.advance(self._journal.synced)
        self._file.status.last_signal = decisions[-1].signal_id
        self._file.status.last_signal_ns = decisions[-1].decided_ns
        return len(decisions)

    def _tell_of_wait(self, ready: list[Arrival], at_ns: int) -> None:
        """Where records come as fast as they go nobody waits."""
        if not ready or self._ordered or self._spec.bulk:
            self._right_of_way.tell(0, 0)
        else:
            oldest_ns = min(arrival.logged.envelope.recorded_ns for arrival in ready)
            self._right_of_way.tell(at_ns - oldest_ns, len(ready))

    def _decisions(self, ready: list[Arrival], rulings: list[Ruling], at_ns: int) -> list[Decision]:
        return [
            _decision(
                number,
                arrival,
                ruling,
                at_ns,
                is_observed=self._spec.is_observed or arrival.logged.envelope.is_observed,
            )
            for number, (arrival, ruling) in enumerate(zip(ready, rulings, strict=True), self._journal.number)
        ]

    def _hold(self, ready: list[Arrival], decisions: list[Decision], problem: str) -> None:
        """`decisions` stand as they are made where risk has counted them."""
        if not self._unwritable:
            log.error("%s; holding %d signals and trying again", problem, len(ready))
        self._undecided, self._unwritten = ready, decisions
        self._right_of_way.tell(0, 0)
        self._file.status.last_error = self._unwritable = problem
        self._next_try = time.monotonic() + FULL_DISK_PAUSE_S

    def _release(self) -> None:
        if self._unwritable:
            log.info("decisions can be written again")
            self._file.status.last_error = self._unwritable = ""
        self._undecided, self._unwritten = [], []

    # -- state -----------------------------------------------------------------------------------------------------------

    def _want(self, workers: Sequence[str]) -> None:
        self._listener.know(workers)
        for worker in workers:
            if worker not in self._intakes:
                cursor = self._journal.cursors.get(worker, WorkerCursor({}))
                path = worker_log(self._workers_folder, worker)
                self._intakes[worker] = WorkerIntake(
                    self._spec.client, worker, path, cursor, decided=self._journal.digests_of
                )
                self._due.add(worker)  # once, so that what was read of its log counts

    def _look(self) -> None:
        """What no doorbell tells: rings that were lost, logs that were replaced."""
        self._due |= {worker for worker, intake in self._intakes.items() if intake.look()}
        self._tell_cut_off()

    def _tell_cut_off(self) -> None:
        if not self._is_cut_off_told:
            try:
                write_cut_off(Path(self._spec.folder), self._cut_off)
                self._is_cut_off_told = True
            except OSError as error:
                log.warning("%s: cannot tell which workers are cut off: %s", self._spec.folder, error)

    def _cursors(self) -> dict[str, WorkerCursor]:
        return {**self._journal.cursors, **{worker: intake.cursor for worker, intake in self._intakes.items()}}

    def _report(self) -> None:
        status = self._file.status
        status.position = status.signals = status.total = self._journal.number
        status.refusals = self._journal.refusals
        status.progress = min((delivery.cursor for delivery in self._deliveries), default=self._journal.number)
        status.records = self._read_bytes
        faults = [f"sink {delivery.name}: {delivery.fault}" for delivery in self._deliveries if delivery.fault]
        if self._trading is not None:
            faults = [*self._trading.faults(), *faults]
        if self._audit is not None and self._audit.fault:
            faults.append(f"audit trail: {self._audit.fault}")
        silence_ns = self._judge.feed_silence_ns()
        if silence_ns:
            faults.insert(0, f"feed stale for {silence_ns / 1e9:.0f} s")
        if self._unwritable:
            faults.insert(0, self._unwritable)
        status.reason = faults[0] if faults else ""
        self._file.write()


def _decision(number: int, arrival: Arrival, ruling: Ruling, at_ns: int, *, is_observed: bool) -> Decision:
    return Decision(
        number=number,
        signal_id=arrival.body.id,
        verdict=ruling.verdict,
        reason=ruling.reason,
        decided_ns=at_ns,
        envelope=arrival.logged.envelope,
        body=arrival.logged.body,
        age_ns=ruling.age_ns,
        limit_ns=ruling.limit_ns,
        orders=ruling.orders,
        expires_ns=ruling.expires_ns,
        price=ruling.price,
        detail=ruling.detail,
        is_observed=is_observed,
        size=ruling.size,
    )


def _seq(arrival: Arrival) -> int:
    return arrival.seq


def _event_ns(arrival: Arrival) -> int:
    return arrival.body.cause.event_ns
