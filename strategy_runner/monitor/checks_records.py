"""Checks of what people asked and what risk went by: operator, breaker and risk log, skipped records, and the audit trail.

Each entry must be one of its kind and follow upon the one before; the trail must be whole and say what its sources say.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.model.counted import counted
from strategy_runner.monitor.checks_logs import ends
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.frames import Frames
from strategy_runner.risk.state import Latch
from strategy_runner.router.audit_check import sizes, verify
from strategy_runner.router.audit_log import SOURCES, audit_log
from strategy_runner.router.breaker_log import BreakerChange, breaker_log, decode_breaker
from strategy_runner.router.operator_log import Action, decode_action, operator_log
from strategy_runner.router.risk_record import decode_turn, risk_log
from strategy_runner.small_files import paths_in
from strategy_runner.worker.skips import Skip, skips_path

_RESTORE = "restore the file from a copy: the router does not start on what it cannot read"
_decode_skip = msgspec.msgpack.Decoder(Skip).decode

# what is wrong with an entry, or ""
Fault = Callable[[Any], str]


def check_records(state: Path, *, router_runs: bool) -> list[Finding]:
    """`state` is one client's folder of one mode. Nothing of a log that was never begun."""
    router = state / "router"
    findings = [
        *_check_log("operator", operator_log(state), decode_action, _action_fault(), router),
        *_check_log("breakers", breaker_log(router), decode_breaker, _breaker_fault(), router),
        # its counts may go back: a power cut takes unsynced ends of the logs that it counts
        *_check_log("risk", risk_log(router), decode_turn, lambda _: "", router),
    ]
    for worker in paths_in(state / "workers"):
        findings += _check_log("skips", skips_path(worker), _decode_skip, lambda _: "", worker)
    return [*findings, *_check_audit(state, router_runs=router_runs)]


# -- inside ------------------------------------------------------------------------------------------------------------


def _check_log(check: str, path: Path, decode: Callable[[bytes], Any], fault_of: Fault, writer: Path) -> list[Finding]:
    """`writer` is the folder of the process that writes the log."""
    frames = Frames(path)
    for number, (offset, payload) in enumerate(frames):
        try:
            fault = fault_of(decode(payload))
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            fault = f"no entry: {problem}"
        if fault:
            return [error(check, path, f"offset {offset}: entry {number} of this log", fault, _RESTORE)]
    return ends(check, frames, writer / "status", _RESTORE)


def _action_fault() -> Fault:
    last = 0

    def fault(action: Action) -> str:
        nonlocal last
        last += 1
        return "" if action.number == last else f"action {action.number} where {last} is next"

    return fault


def _breaker_fault() -> Fault:
    opened: list[Latch] = []

    def fault(change: BreakerChange) -> str:
        if change.opened:
            opened.append(change.latch)
        elif change.latch in opened:
            opened.remove(change.latch)
        else:
            return f"a breaker that closes and was not open: {change.latch.breaker}"
        return ""

    return fault


def _check_audit(state: Path, *, router_runs: bool) -> list[Finding]:
    path = audit_log(state)
    if not path.exists():
        return []
    # a router that runs copies a moment later what the sources have now
    found = verify(state, dict.fromkeys(SOURCES, 0) if router_runs else sizes(state))
    if found.broken:
        advice = "`strategy-runner audit verify` says more; keep the file, and restore it or its source from a copy"
        return [error("audit", path, "a whole chain of what the sources say", found.broken, advice)]
    if found.missing:
        told = ", ".join(f"{count} of {source}" for source, count in found.missing.items())
        advice = "nothing to do: the router copies them at its next start"
        return [warning("audit", path, "every entry of its sources", f"not copied yet: {told}", advice)]
    return [ok("audit", path, f"{counted(found.entries, 'entry')} whole, head {found.head[:16]}")]
