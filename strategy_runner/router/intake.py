"""Intake: the signal logs of a client's workers, read in order and checked.

Each log must give dense n per generation, bodies that match their digests, and ids that are this worker's; a worker whose
log does not is cut off with the reason, and the others go on. A generation that begins behind the fault is trusted again,
and so is a log in place of one that was removed, if what it says of signals already decided is what was decided.
"""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError, VersionMismatchError
from strategy_runner.model.signal import LoggedSignal, SignalBody, decode_body, digest, signal_id
from strategy_runner.tape.logs import START, Glance, LogReader
from strategy_runner.worker.outbox import decode_logged

READ_BYTES = 1 << 18


class WorkerCursor(msgspec.Struct, frozen=True):
    """How far a worker's log has been decided: the next n of each generation in it, and an offset at or below that place.

    Of every generation, not of the last one: behind an offset that lags, signals of older ones come by again.
    """

    next_n: dict[str, int]
    offset: int = START

    def after(self, generation: str, n: int, offset: int) -> "WorkerCursor":
        """The cursor once signal `n` of a generation, which ends at `offset`, is decided as well."""
        return WorkerCursor({**self.next_n, generation: n + 1}, offset)


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A signal that is read and checked, of `worker`; `end` is the offset in its log behind it."""

    worker: str
    logged: LoggedSignal
    body: SignalBody
    end: int

    @property
    def seq(self) -> int:
        return self.logged.envelope.seq


Digests = Mapping[tuple[str, int], bytes]


class WorkerIntake:
    """One worker's log. `queue` holds signals that are read and checked but not yet decided; `fault` is why none is, if so."""

    def __init__(
        self, client: str, worker: str, path: Path, cursor: WorkerCursor, *, decided: Callable[[str], Digests]
    ) -> None:
        """`decided` gives the digests of a worker's decided signals by (generation, n); asked only for another log."""
        self.worker = worker
        self.path = path
        self.queue: deque[Arrival] = deque()
        self.fault = ""
        self._next_n = dict(cursor.next_n)
        self._decided_to = cursor.offset
        self._client = client
        self._name = f"{client}:{worker}"  # as WorkerKey.name, which is made for no signal anew
        self._decided = decided
        self._reader = LogReader(path, cursor.offset)
        self._read_n = dict(cursor.next_n)
        self._distrusted = ""
        self._is_blind = self._is_damaged = False
        self._compared: Digests | None = None
        self._is_again = False
        self.look()

    @property
    def cursor(self) -> WorkerCursor:
        """How far the log has been decided."""
        return WorkerCursor(dict(self._next_n), self._decided_to)

    @property
    def offset(self) -> int:
        """How many bytes of the log have been read."""
        return self._reader.offset

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits, and the last reading saw all there was: its worker rings for what comes."""
        return not self.queue and self._reader.is_at_end

    def fill(self) -> int:
        """Reads more signals when none are waiting; returns how many wait, 0 only at the end of the log or of trust."""
        before = -1
        while not self.queue and not self._is_blind and self._reader.offset != before:
            before = self._reader.offset  # a whole read may hold nothing but what was decided before the last stop
            try:
                for offset, payload in self._reader.read(READ_BYTES):
                    self._take(decode_logged(payload), offset)
            except (CorruptRecordError, VersionMismatchError) as error:
                if self._reader.offset == before == self._decided_to != START and not self._is_again:
                    self._begin_again()  # the place that was noted may be one of another log
                    before = -1
                else:
                    self._lose_trust(str(error), blind=True)
                    self._is_damaged = True
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                text = f"{self.path}: offset {self._reader.offset}: expected a signal, found: {error}"
                self._lose_trust(text, blind=True)
        return len(self.queue)

    def look(self) -> bool:
        """Whether there is something to read. A log that is another one than before is read from its start, and so is one that
        its worker has mended: a router may come to what a power cut left before the worker does."""
        glance = self._reader.glance()
        if glance is Glance.REPLACED or (self._is_damaged and self._is_mended()):
            self._begin_again()
            return True
        return glance is not Glance.NOTHING_NEW

    def pop(self) -> Arrival:
        """The next signal, now decided."""
        arrival = self.queue.popleft()
        envelope = arrival.logged.envelope
        self._next_n[envelope.generation], self._decided_to = envelope.n + 1, arrival.end
        return arrival

    def _take(self, logged: LoggedSignal, end: int) -> None:
        generation, n = logged.envelope.generation, logged.envelope.n
        if self.fault:
            if generation == self._distrusted or n:
                return
            self.fault = self._distrusted = ""  # new code begins here
        expected_n = self._read_n.get(generation, 0)
        if n < expected_n:  # decided before the last stop; the offset lags behind the decisions
            problem = self._difference(logged) if self._is_again else ""
        elif n > expected_n:
            problem = f"expected signal {generation}/{expected_n}, found {generation}/{n}"
        else:
            body = decode_body(logged.body)
            problem = self._fault_of(logged, body)
            if not problem:
                self._read_n[generation] = n + 1
                self.queue.append(Arrival(self.worker, logged, body, end))
        if problem:
            self._lose_trust(f"{self.path}: {problem}", generation)

    def _fault_of(self, logged: LoggedSignal, body: SignalBody) -> str:
        generation, n = logged.envelope.generation, logged.envelope.n
        if digest(logged.body) != logged.digest:
            return f"signal {generation}/{n}: body and digest differ"
        is_own = f"{body.strategy}.{body.symbol}" == self.worker
        if not is_own or body.id != signal_id(self._name, generation, n):
            return f"signal {generation}/{n}: expected an id of {self._client}'s worker {self.worker}, found {body.id}"
        return ""

    def _difference(self, logged: LoggedSignal) -> str:
        """Another signal under the id of one that was decided: to pass it over would lose it, to decide it would lie."""
        if self._compared is None:
            self._compared = self._decided(self.worker)
        generation, n = logged.envelope.generation, logged.envelope.n
        known = self._compared.get((generation, n))
        if known is None or known == digest(logged.body):
            return ""
        return (
            f"signal {generation}/{n} was decided before with digest {known.hex()}, found {digest(logged.body).hex()}; "
            "restore the log from a copy, or let a new generation begin"
        )

    def _lose_trust(self, fault: str, generation: str = "", *, blind: bool = False) -> None:
        self.fault, self._distrusted, self._is_blind = fault, generation, blind

    def _is_mended(self) -> bool:
        try:
            next(self._reader.read(1), None)
        except (CorruptRecordError, VersionMismatchError):
            return False
        return True

    def _begin_again(self) -> None:
        """From the start of the log as it is now. What was read and not decided is no longer there, or comes again."""
        self._reader.close()
        self._reader = LogReader(self.path)
        self.queue.clear()
        self._decided_to = START
        self._read_n = dict(self._next_n)
        self._compared, self._is_again, self._is_damaged = None, True, False
        self._lose_trust("")


def worker_log(workers_folder: Path, worker: str) -> Path:
    return workers_folder / worker / "signals.log"
