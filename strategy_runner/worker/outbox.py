"""The outbox: a worker's own signal log.

What the worker derives again after a restart is compared with what the log already holds and appended only where it is
new. A difference is a divergence: the worker stops and reports, it never guesses.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time_ns  # bound here: once the determinism guard watches, `time.time_ns` asks who is calling
from typing import Protocol

import msgspec

from strategy_runner.errors import DivergenceError
from strategy_runner.model.signal import Envelope, LoggedSignal, SignalBody, canonical, digest
from strategy_runner.tape.logs import START, AppendLog, begin_of, read_frames

Pending = tuple[Envelope, SignalBody]  # a signal on its way into the log

_encode = msgspec.msgpack.Encoder().encode
decode_logged = msgspec.msgpack.Decoder(LoggedSignal).decode


class Elsewhere(Protocol):
    """Who writes the log in the outbox's place."""

    def write(self, pending: list[Pending]) -> None: ...

    def end_writing(self) -> int:
        """The log's end, with all of it written."""
        ...


class Outbox:
    """Signals of one generation, dense n. `record` collects in `pending`, `flush` writes.

    `epoch` and `received_ns` are the feed's and the record's at hand, set by who drives; 0 where there is no feed.
    """

    def __init__(
        self,
        path: Path,
        *,
        generation: str,
        mode: str,
        n: int = 0,
        offset: int = START,
        cuts: Sequence[tuple[int, int]] = (),
        is_restored: bool = False,
        is_observed: bool = False,
    ) -> None:
        """`n` and `offset` are the snapshot's: signals from `n` on may stand in the log from `offset` on.

        `cuts` are the tape's power cuts (epoch, seq): signals of records that one of them took are taken back. No router has
        let them out, since their records were never durable. With `is_restored` the offset is a snapshot's: the log was synced to
        there, and what stands behind it is derived again, so what a power cut took of it is no loss.
        """
        self.path = path
        self._log = AppendLog(path, whole_to=offset, unsynced=is_derived_again if is_restored else None)
        self._elsewhere: Elsewhere | None = None
        if cuts:
            self._log.cut(_first_lost(path, offset, cuts))
        self._generation = generation
        self._mode = mode
        self._is_observed = is_observed
        # what is still to be derived again, in the order of n
        self._recorded = _recorded_from(path, offset, generation, n) if self._log.offset > offset else {}
        self._from_n = n
        self.pending: list[Pending] = []
        self.epoch = self.received_ns = 0
        self.last_id, self.last_ns = "", 0  # of the last signal, and when its record was received
        self.signals = 0
        self.refusals = 0

    @property
    def offset(self) -> int:
        """The place of the next signal, with nothing pending: the end of the log, or, while signals are derived again, where the
        first of those stands that are still to come. From a snapshot's place on a restart must find what it will derive."""
        assert not self.pending, "flush before the offset is used"
        place, _ = next(iter(self._recorded.values()), (self._log.offset, b""))
        return place

    @property
    def end(self) -> int:
        """Of the log."""
        return self._log.offset

    def begin_after_recorded(self) -> int:
        """For a generation that comes back after another one and begins anew: its signals of old stay, its n goes on."""
        n = max(self._recorded, default=self._from_n - 1) + 1
        self._recorded = {}
        return n

    def record(self, n: int, body: SignalBody, seq: int) -> None:
        """Takes a signal. Raises DivergenceError if the log already holds another one of the same number."""
        self.last_id, self.last_ns = body.id, self.received_ns
        self.signals += 1
        self.refusals += body.refusal is not None
        if self._recorded and self._is_known(n, body):
            return
        envelope = Envelope(
            n=n,
            seq=seq,
            epoch=self.epoch,
            mode=self._mode,
            received_ns=self.received_ns,
            recorded_ns=time_ns(),
            generation=self._generation,
            is_observed=self._is_observed,
        )
        self.pending.append((envelope, body))

    def flush(self) -> int:
        """Writes what was collected and returns how many signals. Raises OSError and then keeps them for another try."""
        if not self.pending:
            return 0
        # all that is pending is encoded here, in a row: one by one between records costs twice as much, in cold caches
        (self._elsewhere or self).write(self.pending)
        written = len(self.pending)
        self.pending = []
        return written

    def write(self, pending: list[Pending]) -> None:
        """Appends what this outbox, or another one of this log, has flushed. Raises OSError."""
        bodies = ((envelope, canonical(body)) for envelope, body in pending)  # each is let go before the next is made
        self._log.append_many([_encode(LoggedSignal(envelope, digest(raw), raw)) for envelope, raw in bodies])

    def write_elsewhere(self, elsewhere: Elsewhere) -> None:
        """What is flushed from now on another process writes."""
        self._elsewhere = elsewhere

    def come_back(self) -> None:
        """Writes by itself again. Raises what the other process has ended with, and drops what is pending then: there may be a
        gap before it, and a run again derives both."""
        elsewhere, self._elsewhere = self._elsewhere, None
        if elsewhere is None:
            return
        end = self._log.offset
        try:
            end = elsewhere.end_writing()
        except Exception:
            self.pending = []
            raise
        finally:
            self._log.close()
            self._log = AppendLog(self.path, whole_to=end)

    def sync(self) -> None:
        self._log.sync()

    def close(self) -> None:
        self._log.close()

    def _is_known(self, n: int, body: SignalBody) -> bool:
        """Whether the log already holds this very signal. Raises DivergenceError if it holds another one of the same number."""
        recorded = self._recorded.pop(n, None)
        if recorded is None:
            return False
        _, known = recorded
        hashed = digest(canonical(body))
        if known != hashed:
            raise DivergenceError(
                f"{self.path}: signal {body.id}: expected digest {known.hex()}, found {hashed.hex()} when derived again"
            )
        return True


def is_derived_again(behind: Iterator[bytes]) -> bool:
    """Whatever stands behind a snapshot comes again."""
    return True


def _first_lost(path: Path, offset: int, cuts: Sequence[tuple[int, int]]) -> int:
    """Offset of the first signal whose record a power cut took, or the end of the log."""
    end = offset
    for following, payload in read_frames(path, offset):
        envelope = decode_logged(payload).envelope
        if any(envelope.epoch < epoch and envelope.seq >= seq for epoch, seq in cuts):
            return end
        end = following
    return end


def _recorded_from(path: Path, offset: int, generation: str, n: int) -> dict[int, tuple[int, bytes]]:
    """(place, digest) by n of the signals that stand in the log after the snapshot."""
    found: dict[int, tuple[int, bytes]] = {}
    for end, payload in read_frames(path, offset):
        logged = decode_logged(payload)
        if logged.envelope.generation == generation and logged.envelope.n >= n:
            found[logged.envelope.n] = begin_of(end, payload), logged.digest
    return found
