"""Intake: the signal logs of a client's workers, read in order and checked.

Each log must give dense n per generation, bodies that match their digests, and ids that are this worker's; a worker whose
log does not is cut off with the reason, and the others go on.
"""

from collections import deque
from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError, VersionMismatchError
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.signal import LoggedSignal, SignalBody, decode_body, digest, signal_id
from strategy_runner.tape.logs import START, LogReader

_decode = msgspec.msgpack.Decoder(LoggedSignal).decode
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
    """A signal that is read and checked; `end` is the offset in its log behind it."""

    logged: LoggedSignal
    body: SignalBody
    end: int

    @property
    def seq(self) -> int:
        return self.logged.envelope.seq


class WorkerIntake:
    """One worker's log. `queue` holds signals that are read and checked but not yet decided."""

    def __init__(self, client: str, worker: str, path: Path, cursor: WorkerCursor) -> None:
        self.worker = worker
        self.path = path
        self.queue: deque[Arrival] = deque()
        self.fault = ""
        self.cursor = cursor
        self._client = client
        self._reader = LogReader(path, cursor.offset)
        self._read_n = dict(cursor.next_n)

    @property
    def offset(self) -> int:
        """How many bytes of the log have been read."""
        return self._reader.offset

    def fill(self) -> int:
        """Reads more signals when none are waiting; returns how many wait, 0 only at the end of the log or of trust."""
        before = -1
        try:
            while not self.queue and not self.fault and self._reader.offset != before:
                before = self._reader.offset  # a whole read may hold nothing but what was decided before the last stop
                for offset, payload in self._reader.read(READ_BYTES):
                    self._take(_decode(payload), offset)
        except (CorruptRecordError, VersionMismatchError) as error:
            self.fault = str(error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.fault = f"{self.path}: offset {self._reader.offset}: expected a signal, found: {error}"
        return len(self.queue)

    def pop(self) -> Arrival:
        """The next signal, now decided."""
        arrival = self.queue.popleft()
        envelope = arrival.logged.envelope
        self.cursor = self.cursor.after(envelope.generation, envelope.n, arrival.end)
        return arrival

    def _take(self, logged: LoggedSignal, end: int) -> None:
        generation, n = logged.envelope.generation, logged.envelope.n
        expected_n = self._read_n.get(generation, 0)
        if n < expected_n:
            return  # decided before the last stop; the offset lags behind the decisions
        if n != expected_n:
            raise CorruptRecordError(f"{self.path}: expected signal {generation}/{expected_n}, found {generation}/{n}")
        if digest(logged.body) != logged.digest:
            raise CorruptRecordError(f"{self.path}: signal {generation}/{n}: body and digest differ")
        body = decode_body(logged.body)
        key = WorkerKey(self._client, body.strategy, body.symbol)
        if key.folder != self.worker or body.id != signal_id(key.name, generation, n):
            raise CorruptRecordError(
                f"{self.path}: signal {generation}/{n}: expected an id of {self._client}'s worker {self.worker}, found {body.id}"
            )
        self._read_n[generation] = n + 1
        self.queue.append(Arrival(logged, body, end))


def worker_log(workers_folder: Path, worker: str) -> Path:
    return workers_folder / worker / "signals.log"
