"""Checks of a client's logs: every signal as it was written, and every decision about a signal that is there.

What a worker signalled is compared with what the router decided: nothing decided that was not signalled, nothing twice.
"""

from collections import defaultdict
from pathlib import Path

import msgspec

from strategy_runner.model.counted import counted
from strategy_runner.model.decision import Decision
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.signal import LoggedSignal, SignalBody, decode_body, digest, signal_id
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.frames import Frames
from strategy_runner.router.intake import worker_log
from strategy_runner.router.journal import decision_log, decode_decision
from strategy_runner.small_files import paths_in
from strategy_runner.tape.status import State, read_status
from strategy_runner.worker.genesis import Genesis, genesis_path
from strategy_runner.worker.outbox import decode_logged

_RESTORE = "restore the file from a copy; the worker compares what it derives with it and stops at the first difference"
_RESTORE_DECISIONS = "restore the file from a copy: the sinks hold what it held"
_TORN = "nothing to do: its writer cuts it off when it starts, and writes anew what it said"
_ENDED = (State.STOPPED, State.FINISHED)

# digests of a worker's signals, by generation, in the order of n
Signals = dict[str, list[bytes]]


def check_client(state: Path, client: str) -> list[Finding]:
    """`state` is one client's folder of one mode."""
    findings: list[Finding] = []
    signals: dict[str, Signals] = {}
    decided = _Decided.now(state)  # before the signals are read: what is decided later may be about later signals
    for folder in paths_in(state / "workers"):
        if folder.is_dir():
            signals[folder.name] = _check_worker(folder, client, findings)
    count = sum(len(of_one) for worker in signals.values() for of_one in worker.values())
    if not findings:
        findings.append(
            ok("signals", state / "workers", f"{counted(count, 'signal')} of {counted(len(signals), 'worker')} whole")
        )
    return findings + _check_decisions(decided, client, signals)


# -- signals -----------------------------------------------------------------------------------------------------------


def _check_worker(folder: Path, client: str, findings: list[Finding]) -> Signals:
    path = worker_log(folder.parent, folder.name)
    signals: Signals = defaultdict(list)
    frames = Frames(path)
    for offset, payload in frames:
        try:
            fault = _fault_of(decode_logged(payload), client, folder.name, signals)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            fault = f"no signal: {problem}"
        if fault:
            findings.append(error("signals", path, f"offset {offset}: the next signal of the worker", fault, _RESTORE))
            break
    findings += ends("signals", frames, folder / "status", _RESTORE)
    findings += _check_genesis(folder)
    return signals


def _fault_of(logged: LoggedSignal, client: str, worker: str, signals: Signals) -> str:
    """What is wrong with a signal; "" and noted if nothing is."""
    envelope = logged.envelope
    known = signals[envelope.generation]
    name = f"signal {envelope.generation}/{envelope.n}"
    if envelope.n != len(known):
        return f"{name} where {envelope.generation}/{len(known)} is next"
    if digest(logged.body) != logged.digest:
        return f"{name} whose body and digest differ"
    body = decode_body(logged.body)
    key = WorkerKey(client, body.strategy, body.symbol)
    if key.folder != worker or body.id != signal_id(key.name, envelope.generation, envelope.n):
        return f"{name} with the id {body.id}"
    known.append(logged.digest)
    return ""


def _check_genesis(folder: Path) -> list[Finding]:
    frames = Frames(genesis_path(folder))
    for offset, payload in frames:
        try:
            msgspec.msgpack.decode(payload, type=Genesis)
        except msgspec.DecodeError as problem:
            return [error("signals", frames.path, f"offset {offset}: a worker's beginning", str(problem), _RESTORE)]
    if frames.damage:
        advice = "restore the file from a copy; only `parity` needs it"
        return [error("signals", frames.path, "a whole log", frames.damage, advice)]
    return []


# -- decisions ---------------------------------------------------------------------------------------------------------


class _Decided(msgspec.Struct, frozen=True):
    """A decision log at one moment: its length, and how many decisions the router says it holds."""

    path: Path
    size: int
    number: int

    @classmethod
    def now(cls, state: Path) -> "_Decided":
        path, status = decision_log(state / "router"), read_status(state / "router" / "status")
        return cls(path, path.stat().st_size if path.exists() else 0, status.position if status is not None else 0)


def _check_decisions(log: _Decided, client: str, signals: dict[str, Signals]) -> list[Finding]:
    path = log.path
    frames = Frames(path)
    findings: list[Finding] = []
    expected, accepted = 0, 0
    decided: dict[tuple[str, str], int] = {}
    for offset, payload in frames:
        if offset >= log.size:
            break
        try:
            decision = decode_decision(payload)
            body = decode_body(decision.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            fault = f"no decision: {problem}"
        else:
            fault = _decision_fault(decision, body, expected, client, signals, decided)
            accepted += decision.verdict == "accepted"
        if fault:
            place = f"offset {offset}: decision {expected} about the next signal of a worker"
            findings.append(error("decisions", path, place, fault, _RESTORE_DECISIONS))
            break
        expected += 1
    findings += ends("decisions", frames, path.parent / "status", _RESTORE_DECISIONS)
    if not findings and expected < log.number:
        told = f"{counted(log.number, 'decision')}, as the router says"
        findings.append(error("decisions", path, told, str(expected), _RESTORE_DECISIONS))
    return findings or [ok("decisions", path, f"{counted(expected, 'decision')} whole, {accepted} accepted")]


def _decision_fault(
    decision: Decision,
    body: SignalBody,
    expected: int,
    client: str,
    signals: dict[str, Signals],
    decided: dict[tuple[str, str], int],
) -> str:
    """What is wrong with a decision; "" and noted if nothing is."""
    if decision.number != expected:
        return f"decision {decision.number}"
    worker, envelope = f"{body.strategy}.{body.symbol}", decision.envelope
    key = worker, envelope.generation
    next_n = decided.get(key, 0)
    name = f"decision {expected} about {decision.signal_id}"
    if decision.signal_id != signal_id(f"{client}:{worker}", envelope.generation, envelope.n):
        return f"{name}, whose body is of {client}:{worker}@{envelope.generation}/{envelope.n}"
    if envelope.n != next_n:
        return f"{name} where {envelope.generation}/{next_n} of {worker} is next"
    logged = signals.get(worker, {}).get(envelope.generation, [])
    if envelope.n >= len(logged):
        return f"{name}, which its worker's log does not hold whole"
    if logged[envelope.n] != digest(decision.body):
        return f"{name} with another body than its worker's log holds"
    decided[key] = next_n + 1
    return ""


# -- both --------------------------------------------------------------------------------------------------------------


def ends(check: str, frames: Frames, status_path: Path, advice: str) -> list[Finding]:
    """How a log ends. A writer that stopped as it should has left nothing torn."""
    if frames.damage:
        return [error(check, frames.path, "a whole log", frames.damage, advice)]
    if not frames.torn:
        return []
    status = read_status(status_path)
    if status is not None and status.state in _ENDED:
        return [
            error(
                check,
                frames.path,
                "a log that ends with a whole frame, since its writer has ended",
                frames.torn,
                advice,
            )
        ]
    return [warning(check, frames.path, "a log that ends with a whole frame", frames.torn, _TORN)]
