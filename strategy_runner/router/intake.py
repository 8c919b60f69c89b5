"""Intake: the signal logs of a client's workers, read in order and checked.

Each log must give dense n per generation and bodies that match their digests; a worker whose log does not is cut off with
the reason, and the others go on.
"""

from collections import deque
from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.signal import LoggedSignal, digest
from strategy_runner.tape.logs import START, LogReader

_decode = msgspec.msgpack.Decoder(LoggedSignal).decode
READ_BYTES = 1 << 18


class WorkerCursor(msgspec.Struct, frozen=True):
    """How far a worker's log has been decided: the generation, its next n, and an offset at or below it."""

    generation: str = ""
    n: int = 0
    offset: int = START


class WorkerIntake:
    """One worker's log. `queue` holds signals that are read and checked but not yet decided."""

    def __init__(self, worker: str, path: Path, cursor: WorkerCursor) -> None:
        self.worker = worker
        self.path = path
        self.queue: deque[LoggedSignal] = deque()
        self.fault = ""
        self._reader = LogReader(path, cursor.offset)
        self._decided = cursor
        self._read = WorkerCursor(cursor.generation, cursor.n, cursor.offset)
        self._ends: deque[int] = deque()

    @property
    def offset(self) -> int:
        """How many bytes of the log have been read."""
        return self._reader.offset

    @property
    def cursor(self) -> WorkerCursor:
        return self._decided

    def fill(self) -> int:
        """Reads more signals when none are waiting; returns how many wait."""
        if self.queue or self.fault:
            return len(self.queue)
        try:
            for offset, payload in self._reader.read(READ_BYTES):
                self._take(_decode(payload), offset)
        except (CorruptRecordError, msgspec.DecodeError) as error:
            self.fault = str(error)
        return len(self.queue)

    def pop(self) -> LoggedSignal:
        """The next signal, now decided."""
        logged = self.queue.popleft()
        self._decided = WorkerCursor(logged.envelope.generation, logged.envelope.n + 1, self._ends.popleft())
        return logged

    def _take(self, logged: LoggedSignal, end: int) -> None:
        envelope = logged.envelope
        generation, expected_n = self._read.generation, self._read.n
        if envelope.generation != generation and envelope.n == 0:
            generation, expected_n = envelope.generation, 0
        if envelope.generation == generation and envelope.n < expected_n:
            return  # decided before the last stop; the offset lags behind the decisions
        if envelope.generation != generation or envelope.n != expected_n:
            found = f"{envelope.generation}/{envelope.n}"
            raise CorruptRecordError(f"{self.path}: expected signal {generation}/{expected_n}, found {found}")
        if digest(logged.body) != logged.digest:
            raise CorruptRecordError(f"{self.path}: signal {generation}/{envelope.n}: body and digest differ")
        self._read = WorkerCursor(generation, envelope.n + 1, end)
        self.queue.append(logged)
        self._ends.append(end)


def worker_log(workers_folder: Path, worker: str) -> Path:
    return workers_folder / worker / "signals.log"
