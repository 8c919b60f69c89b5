"""Resuming a parked worker: a person says that it may try again, with the record that it was parked at or without it."""

import time
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec, read_specs
from strategy_runner.errors import SafetyRefusal, UsageError
from strategy_runner.model.counted import counted
from strategy_runner.router.operator_log import Request, record
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import one_operator_at_a_time, operator_name
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import read_log
from strategy_runner.worker.outbox import decode_logged
from strategy_runner.worker.parking import Trouble, read_trouble, resumed, write_trouble
from strategy_runner.worker.skips import Skip, note_skip


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that may try again; `skipped` names the record that it will not be given, if one is skipped."""

    name: str
    skipped: str


def resume_parked(home: Home, targets: list[Target], *, skip: bool, reason: str) -> list[Resumed]:
    """Lets every parked worker that a target names try again, and starts it if a daemon runs.

    With `skip` the record that each was parked at is never given to this generation of it again. Raises UsageError if none
    is parked, SafetyRefusal if a record cannot be skipped; then nothing has changed.
    """
    with one_operator_at_a_time(home):
        parked = _parked(home, targets)
        if not parked:
            asked = ", ".join(map(str, targets))
            raise UsageError(
                f"{asked}: expected a parked worker, found none; `strategy-runner status` shows how they are"
            )
        now_ns = time.time_ns()
        skips = [_skip(spec, trouble, reason, now_ns) for spec, trouble in parked] if skip else []
        for (spec, _), one in zip(parked, skips, strict=False):
            note_skip(Path(spec.folder), one)
        for spec, trouble in parked:
            write_trouble(Path(spec.folder), resumed(trouble, reason=reason, now_ns=now_ns))
        for spec, trouble in parked:
            _note(home, spec, trouble.record if skip else "", reason, now_ns)
        daemon = Daemon(home)
        if daemon.is_running():
            daemon.restart([spec.key.name for spec, _ in parked])
        return [Resumed(name=spec.key.name, skipped=trouble.record if skip else "") for spec, trouble in parked]


def _note(home: Home, spec: WorkerSpec, skipped: str, reason: str, now_ns: int) -> None:
    """For the audit trail: a record that is left out changes what the worker does."""
    detail = "parked worker may try again" + (f", without {skipped}" if skipped else "")
    asked = Request(verb="configure", strategy=spec.strategy, symbol=spec.symbol, reason=reason, detail=detail)
    record(home.client_state(spec.client, spec.mode), [asked], who=operator_name(), at_ns=now_ns)


def _parked(home: Home, targets: list[Target]) -> list[tuple[WorkerSpec, Trouble]]:
    found = []
    for name, spec in sorted(read_specs(home.daemon / "specs")[0].items()):
        if isinstance(spec, WorkerSpec) and any(target.matches(name) for target in targets):
            trouble = read_trouble(Path(spec.folder), spec.generation)
            if trouble.is_parked:
                found.append((spec, trouble))
    return found


def _skip(spec: WorkerSpec, trouble: Trouble, reason: str, now_ns: int) -> Skip:
    """Raises SafetyRefusal where leaving a record out would contradict what the worker has done, or may hit another record."""
    name = spec.key.name
    if not trouble.is_at_a_record:
        raise SafetyRefusal(f"{name}: expected one record to skip, found none: parked because it {trouble.why}")
    if trouble.is_nameless:
        raise SafetyRefusal(f"{name}: seq {trouble.seq}: expected the record on the tape, found it no longer kept")
    durable = Head(head_path(Path(spec.market.tape))).durable
    if trouble.seq >= durable:
        raise SafetyRefusal(
            f"{name}: {trouble.record}: expected a durable record, found the tape durable below seq {durable}; "
            "another record may take its place"
        )
    signalled = _signals_from(spec, trouble.seq)
    if signalled:
        raise SafetyRefusal(
            f"{name}: {trouble.record}: expected a record that it has not acted upon, "
            f"found {counted(signalled, 'signal')} of this generation from it on; they would not come out the same without it"
        )
    return Skip(
        generation=spec.generation,
        seq=trouble.seq,
        stream=trouble.stream,
        ordinal=trouble.ordinal,
        reason=reason,
        at_ns=now_ns,
    )


def _signals_from(spec: WorkerSpec, seq: int) -> int:
    path = Path(spec.folder) / "signals.log"
    if not path.exists():
        return 0
    envelopes = (decode_logged(payload).envelope for payload in read_log(path))
    return sum(one.generation == spec.generation and one.seq >= seq for one in envelopes)
