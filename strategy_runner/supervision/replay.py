"""A replay: a recorded period of the tape, run with a client's files as they are now. Nothing is written and nobody is told.

Without a beginning given, a worker that was recorded begins where it began then; so what changed files would have done can
be laid beside what was done.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import ConfigurationError, StateError, StrategyRunnerError, UsageError
from strategy_runner.history.difference import FieldDifference, field_differences
from strategy_runner.history.tape_run import TapeRun, beginning_at, missing_streams, period
from strategy_runner.model.signal import decode_body, worker_of
from strategy_runner.router.intake import worker_log
from strategy_runner.supervision.forked import run_forked
from strategy_runner.supervision.parity import Show, recorded_mode, recorded_tape
from strategy_runner.supervision.plan import make_plan
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import Wish, read_latest_run, read_wishes
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.status import read_status
from strategy_runner.worker.genesis import Genesis, read_geneses
from strategy_runner.worker.outbox import decode_logged


class Replayed(msgspec.Struct, frozen=True, array_like=True):
    """A signal: the seq of its cause, and its canonical body."""

    seq: int
    body: bytes


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One signal of a comparison. `kind` is `new` (only now), `gone` (only then) or `different` (other fields at one cause)."""

    kind: str
    signal: Replayed
    recorded: Replayed | None = None
    fields: tuple[FieldDifference, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The signals of all workers in the order of their causes, and of the same period what was recorded then.

    `problems` says which worker could not be run, or not to its end; `cold` are those that began where they were told to, with
    nothing of what was before: their strategies declare no `warmup_bars`, or the tape has none.
    """

    signals: tuple[Replayed, ...]
    recorded: tuple[Replayed, ...]
    problems: tuple[str, ...]
    records: int
    cold: tuple[str, ...]


class _Result(msgspec.Struct, frozen=True):
    """What a child sends back."""

    signals: list[Replayed]
    recorded: list[Replayed]
    problem: str
    records: int
    is_cold: bool = False


def run_replay(
    home: Home,
    target: Target,
    mode: str | None,
    *,
    from_ns: int,
    to_ns: int,
    parallel: int,
    environ: Mapping[str, str],
    show: Show,
) -> Replay:
    """Runs the workers that the files ask for over what was recorded from `from_ns` to `to_ns`; 0 is an end of it.

    Raises UsageError, NotRunningError without a tape, ConfigurationError for broken files and for streams that the tape
    does not carry.
    """
    assert target.client is not None
    run = recorded_mode(home, target.client, mode)
    tape = recorded_tape(home, run)
    specs = _specs(home, target, run, environ)
    _refuse_missing(specs, tape)
    first, end = period(tape, from_ns, to_ns)
    jobs: dict[str, Callable[[], bytes]] = {
        spec.key.name: partial(_replay, spec, tape, first if from_ns else None, end, from_ns, to_ns) for spec in specs
    }
    ended = run_forked(jobs, parallel=parallel or os.cpu_count() or 1, show=lambda done, of: show(done, of, "replayed"))
    results: dict[str, _Result] = {}
    for name, end_of in ended.items():
        if end_of.code:
            results[name] = _Result([], [], f"its process ended by {end_of.code}", 0)
        else:
            results[name] = msgspec.msgpack.decode(end_of.result, type=_Result)
    return Replay(
        signals=_in_order(signal for result in results.values() for signal in result.signals),
        recorded=_in_order(signal for result in results.values() for signal in result.recorded),
        problems=tuple(f"{name}: {result.problem}" for name, result in results.items() if result.problem),
        records=sum(result.records for result in results.values()),
        cold=tuple(name for name, result in results.items() if result.is_cold),
    )


def changes(replay: Replay) -> list[Change]:
    """What separates the replay from what was recorded. Signals are one another's match by worker, cause and turn at it;
    their ids are left out, since other files make another generation."""
    recorded = dict(_keyed(replay.recorded))
    found: list[tuple[int, Change]] = []
    for key, signal in _keyed(replay.signals):
        match = recorded.pop(key, None)
        if match is None:
            found.append((signal.seq, Change(kind="new", signal=signal)))
            continue
        fields = tuple(
            field for field in field_differences(signal.body, match.body) if field.path not in ("id", "bytes")
        )
        if fields:
            found.append((signal.seq, Change(kind="different", signal=signal, recorded=match, fields=fields)))
    found += [(signal.seq, Change(kind="gone", signal=signal)) for signal in recorded.values()]
    return [change for _, change in sorted(found, key=lambda pair: pair[0])]


# -- before ------------------------------------------------------------------------------------------------------------


def _specs(home: Home, target: Target, mode: str, environ: Mapping[str, str]) -> list[WorkerSpec]:
    """The workers of a target as the files plan them now, with the client's code where it lies: nothing is kept for a replay."""
    assert target.client is not None
    client = target.client
    run = read_latest_run(home, client)
    asked = run.wish if run is not None and run.mode == mode else Wish(mode=mode, live=mode == "live")
    wishes = read_wishes(home).with_client(client, msgspec.structs.replace(asked, stopped=()))
    plan = make_plan(home, wishes, environ=environ, clients=[client])
    workers = [spec for spec in plan.workers(client) if target.matches(spec.key.name)]
    if not workers:
        known = ", ".join(spec.key.folder for spec in plan.workers(client)) or "none"
        raise UsageError(f"{target}: expected a worker of {client}, one of {known}")
    return [msgspec.structs.replace(spec, code=home.live_code(client, spec.code)) for spec in workers]


def _refuse_missing(specs: list[WorkerSpec], tape: Path) -> None:
    problems = []
    for spec in specs:
        missing = missing_streams(spec, tape)
        if missing:
            problems.append(
                f"{spec.key.name}: expected its streams on the tape {tape}, found none of {', '.join(missing)}; "
                "`strategy-runner export` and `backtest --history` run what was not carried"
            )
    if problems:
        raise ConfigurationError(*problems)


# -- in the children ---------------------------------------------------------------------------------------------------


def _replay(spec: WorkerSpec, tape: Path, first: int | None, end: int, from_ns: int, to_ns: int) -> bytes:
    beginning = _recorded_genesis(spec, tape) if first is None else None
    signals: list[Replayed] = []
    records, problem = 0, ""
    begin, is_cold = first or 0, False
    if not to_ns:
        end = min(end, _read_to(spec) or end)
    try:
        if beginning is None:
            start = Head(head_path(tape)).first if first is None else first
            beginning = beginning_at(spec, tape, start)
        begin = beginning.live_from
        is_cold = first is not None and beginning.seq == begin
        run = TapeRun(spec, tape, beginning)
        for derived in run.run(end):
            if _is_within(derived.event_ns, from_ns, to_ns) and derived.seq >= begin:
                signals.append(Replayed(derived.seq, derived.body))
        records = run.records
    except StrategyRunnerError as error:
        problem = str(error)
    recorded = [
        one for one in _recorded(spec, begin, end) if _is_within(decode_body(one.body).cause.event_ns, from_ns, to_ns)
    ]
    return msgspec.msgpack.encode(_Result(signals, recorded, problem, records, is_cold))


def _recorded_genesis(spec: WorkerSpec, tape: Path) -> Genesis | None:
    """Where the worker of this name began last, if the tape still holds that."""
    try:
        geneses = read_geneses(Path(spec.folder))
    except (StateError, msgspec.DecodeError):
        return None
    if not geneses or geneses[-1].seq < Head(head_path(tape)).first:
        return None
    return geneses[-1]


def _read_to(spec: WorkerSpec) -> int:
    """How far the recorded worker has come: what lies behind was nobody's to signal. 0 if it has read nothing."""
    status = read_status(Path(spec.folder) / "status")
    return status.position if status is not None else 0


def _recorded(spec: WorkerSpec, first: int, end: int) -> list[Replayed]:
    """Whatever generation recorded it."""
    log = worker_log(Path(spec.folder).parent, spec.key.folder)
    if not log.exists():
        return []
    logged = [decode_logged(payload) for payload in read_log(log)]
    return [Replayed(one.envelope.seq, one.body) for one in logged if first <= one.envelope.seq < end]


def _is_within(event_ns: int, from_ns: int, to_ns: int) -> bool:
    return (not from_ns or from_ns <= event_ns) and (not to_ns or event_ns < to_ns)


# -- after -------------------------------------------------------------------------------------------------------------


def _in_order(signals: Iterable[Replayed]) -> tuple[Replayed, ...]:
    """By cause; of several workers at one cause, as they were given."""
    return tuple(sorted(signals, key=lambda signal: signal.seq))


def _keyed(signals: Iterable[Replayed]) -> list[tuple[tuple[str, str, int, int], Replayed]]:
    """Each signal under (worker, cause, its turn at the cause)."""
    turns: Counter[tuple[str, str, int]] = Counter()
    found = []
    for signal in signals:
        body = decode_body(signal.body)
        place = worker_of(body.id), body.cause.stream, body.cause.ordinal
        found.append(((*place, turns[place]), signal))
        turns[place] += 1
    return found
