"""Parity: what a worker recorded against what the tape gives when it is run again, signal by signal, byte for byte.

Nothing is written: a tape, a signal log and a beginning in, a comparison out.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from strategy_runner.errors import StateError, StrategyError, StrategyRunnerError
from strategy_runner.history.difference import (
    FieldDifference,
    InputRecord,
    field_differences,
    first_differing_input,
)
from strategy_runner.history.tape_run import Derived, TapeRun
from strategy_runner.model.signal import Envelope, decode_body, digest
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.genesis import Genesis, genesis_path, read_geneses
from strategy_runner.worker.outbox import decode_logged
from strategy_runner.worker.snapshot import Snapshot, newest_snapshot, oldest_seq

NO_END = 1 << 62


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a worker's life. `beginning` is a genesis, or a snapshot where the tape no longer reaches back to it.

    Its signals are those of the genesis's generation from number `first_n` on and below `end_n`. `position` is the seq up
    to which the worker has read and written all it caused; None is as far as its signals tell, for a life long gone.
    """

    genesis: Genesis
    beginning: Genesis | Snapshot
    first_n: int
    end_n: int
    position: int | None


def lives(folder: Path, tape_first: int, position: int) -> tuple[list[Life], tuple[str, ...]]:
    """The stretches of a worker's newest generation that the tape still holds, oldest first, and what else there is to say.

    Raises StateError, msgspec.DecodeError if the beginnings are damaged.
    """
    geneses = read_geneses(folder)
    if not geneses:
        return [], (f"{genesis_path(folder)}: expected where the worker began, found nothing",)
    generation = geneses[-1].spec.generation
    by_n = {one.n: one for one in geneses if one.spec.generation == generation}
    older = sorted({one.spec.generation for one in geneses} - {generation})
    notes = [f"not compared: signals of the older generation {one}" for one in older]
    found: list[Life] = []
    numbers = sorted(by_n)
    for n, following in zip(numbers, [*numbers[1:], NO_END], strict=True):
        genesis, is_last = by_n[n], following == NO_END
        beginning: Genesis | Snapshot | None = genesis
        if genesis.seq < tape_first:
            beginning = newest_snapshot(folder, generation, oldest_seq(folder)) if is_last else None
            since = f"the snapshot at seq {beginning.seq}" if beginning else "nowhere: no snapshot serves"
            notes.append(
                f"began at seq {genesis.seq}, the tape is kept from seq {tape_first} on: compared from {since}"
            )
        if beginning is not None:
            found.append(
                Life(
                    genesis=genesis,
                    beginning=beginning,
                    first_n=beginning.n,
                    end_n=following,
                    position=position if is_last else None,
                )
            )
    return found, tuple(notes)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One signal that is not as it should be; bodies are canonical JSON, `seq` is the cause's place on the tape."""

    kind: str
    n: int
    seq: int
    derived: str | None
    recorded: str | None
    fields: tuple[FieldDifference, ...]
    input: InputRecord | None


class WorkerParity(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker compares. `different` signals have one number and other bytes; `lost` were not recorded, `doubled`
    recorded more than once, `alien` recorded though nothing on the tape causes them. Seqs are [first_seq, end_seq)."""

    worker: str
    generation: str
    first_seq: int = 0
    end_seq: int = 0
    records: int = 0
    signals: int = 0
    different: int = 0
    lost: int = 0
    doubled: int = 0
    alien: int = 0
    first: Difference | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_equal(self) -> bool:
        return not (self.different or self.lost or self.doubled or self.alien or self.problem)


class _Logged(msgspec.Struct, gc=False):
    """What is remembered of a recorded signal while its fellows are compared."""

    seq: int
    event_ns: int | None
    digest: bytes


class _Found:
    """Counts, and the first difference by seq."""

    def __init__(self) -> None:
        self.counts = {"different": 0, "lost": 0, "doubled": 0, "alien": 0}
        self.first: tuple[int, str, int, bytes | None] | None = None

    def add(self, kind: str, seq: int, n: int, derived: bytes | None) -> None:
        self.counts[kind] += 1
        if self.first is None or seq < self.first[0]:
            self.first = (seq, kind, n, derived)


def compare(life: Life, tape: Path, log: Path, *, from_ns: int = 0, to_ns: int = 0) -> WorkerParity:
    """Runs a life again and compares. `from_ns` and `to_ns` limit the event times of what is compared, not of what is run;
    0 is no limit.

    What is damaged and what cannot be run becomes the `problem`. Raises OSError.
    """
    spec = life.genesis.spec
    result = WorkerParity(worker=spec.key.name, generation=spec.generation, first_seq=life.beginning.seq)
    found, window = _Found(), _Window(from_ns, to_ns)
    try:
        logged = _logged(life, log, window, found)
        last = max((one.seq for one in logged.values()), default=life.beginning.seq)
        position = last if life.position is None else life.position
        end = min(max(position, last + 1), TapeReader(tape).head.count)
        run = TapeRun(spec, tape, life.beginning)
    except (StrategyRunnerError, msgspec.DecodeError) as error:
        return msgspec.structs.replace(result, problem=str(error))
    problem, compared = "", 0
    try:
        for derived in _wanted(run.run(end), life.first_n):
            compared += _compare_one(derived, logged.pop(derived.n, None), position, window, found)
    except (StateError, StrategyError) as error:
        # where it failed when it was recorded, too, it has read no further: the position stands before the record
        if run.seq < position or isinstance(error, StateError):
            problem = f"seq {run.seq}: {error}"
    for n, one in logged.items():
        if window.holds(one.event_ns):
            found.add("alien", one.seq, n, None)
    return msgspec.structs.replace(
        result,
        end_seq=end,
        records=run.records,
        signals=compared,
        first=_first(life, tape, log, found),
        problem=problem,
        **found.counts,
    )


class _Window(msgspec.Struct, frozen=True):
    from_ns: int
    to_ns: int

    def holds(self, event_ns: int | None) -> bool:
        """None, of a body that cannot be read, lies in every window."""
        if event_ns is None:
            return True
        return (not self.from_ns or self.from_ns <= event_ns) and (not self.to_ns or event_ns < self.to_ns)


def _wanted(signals: Iterator[Derived], first_n: int) -> Iterator[Derived]:
    return (derived for derived in signals if derived.n >= first_n)


def _compare_one(derived: Derived, logged: _Logged | None, position: int, window: _Window, found: _Found) -> int:
    """1 if the signal was compared. One that the worker had not come to write when it was killed is not lost: it will."""
    if not window.holds(derived.event_ns):
        return 0
    if logged is None:
        if derived.seq >= position:
            return 0
        found.add("lost", derived.seq, derived.n, derived.body)
    elif logged.digest != digest(derived.body):
        found.add("different", derived.seq, derived.n, derived.body)
    return 1


def _logged(life: Life, log: Path, window: _Window, found: _Found) -> dict[int, _Logged]:
    """The life's recorded signals by number. The digest is taken of the body itself, whatever stands beside it."""
    known: dict[int, _Logged] = {}
    for envelope, raw in _bodies(life, log):
        event_ns = _event_ns(raw)
        if envelope.n not in known:
            known[envelope.n] = _Logged(envelope.seq, event_ns, digest(raw))
        elif window.holds(event_ns):
            found.add("doubled", envelope.seq, envelope.n, None)
    return known


def _bodies(life: Life, log: Path) -> Iterator[tuple[Envelope, bytes]]:
    for payload in read_log(log):
        signal = decode_logged(payload)
        envelope = signal.envelope
        if envelope.generation == life.genesis.spec.generation and life.first_n <= envelope.n < life.end_n:
            yield envelope, signal.body


def _event_ns(raw: bytes) -> int | None:
    try:
        return decode_body(raw).cause.event_ns
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _first(life: Life, tape: Path, log: Path, found: _Found) -> Difference | None:
    if found.first is None:
        return None
    seq, kind, n, derived = found.first
    recorded = next((raw for envelope, raw in _bodies(life, log) if envelope.n == n), None)
    return Difference(
        kind=kind,
        n=n,
        seq=seq,
        derived=derived.decode() if derived is not None else None,
        recorded=recorded.decode(errors="replace") if recorded is not None else None,
        fields=field_differences(derived, recorded) if derived is not None and recorded is not None else (),
        input=first_differing_input(TapeReader(tape), derived, recorded),
    )
