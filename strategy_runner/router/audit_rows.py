"""Audit entries as rows for people and programs: when, what, of whom and why, with the whole entry as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.model.order import OmsEvent
from strategy_runner.model.signal import decode_body
from strategy_runner.router.audit_log import AuditEntry, read_audit
from strategy_runner.router.breaker_log import decode_breaker
from strategy_runner.router.journal import decode_decision
from strategy_runner.router.operator_log import decode_action
from strategy_runner.router.order_entry import (
    CancelWanted,
    Contradicted,
    Happened,
    Intended,
    Leaving,
    Modified,
    ModifyWanted,
    Told,
)
from strategy_runner.router.order_journal import decode_entry as decode_order

_json = msgspec.json.Encoder().encode


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """`at_ns` is when it happened, by the log that tells it. "" is what an entry has not."""

    number: int
    at_ns: int
    source: str
    what: str
    strategy: str
    symbol: str
    signal_id: str
    order_id: str
    reason: str
    entry: str
    hash: str


def rows(folder: Path, from_ns: int, to_ns: int) -> Iterator[AuditRow]:
    """Of a run's audit log, what happened in a stretch of time; `to_ns` 0 is without end. Raises StateError."""
    for _, entry in read_audit(folder):
        row = row_of(entry)
        if from_ns <= row.at_ns and (not to_ns or row.at_ns < to_ns):
            yield row


def row_of(entry: AuditEntry) -> AuditRow:
    at_ns, words, told = _READERS[entry.source](entry.payload)
    named = dict.fromkeys(("what", "strategy", "symbol", "signal_id", "order_id", "reason"), "") | words
    return AuditRow(
        number=entry.number,
        at_ns=at_ns,
        source=entry.source,
        entry=_json(told).decode(),
        hash=entry.chain.hex(),
        **named,
    )


_Read = tuple[int, dict[str, str], Any]


def _decision(payload: bytes) -> _Read:
    decision = decode_decision(payload)
    body = decode_body(decision.body)
    told = msgspec.structs.asdict(decision) | {"body": msgspec.Raw(decision.body)}
    words = {
        "what": f"signal {decision.verdict}",
        "strategy": body.strategy,
        "symbol": body.symbol,
        "signal_id": decision.signal_id,
        "order_id": decision.orders[0].client_order_id if decision.orders else "",
        "reason": decision.reason,
    }
    return decision.decided_ns, words, told


def _order(payload: bytes) -> _Read:
    entry = decode_order(payload)
    match entry:
        case Intended(order=order):
            words = {
                "what": f"order {order.leg}",
                "strategy": order.strategy,
                "symbol": order.symbol,
                "signal_id": order.signal_id,
                "order_id": order.client_order_id,
            }
        case Leaving(client_order_ids=order_ids):
            words = {"what": "order sent", "order_id": " ".join(order_ids)}
        case Told(report=report):
            words = {"what": f"order {report.state}", "order_id": report.client_order_id, "reason": report.reason}
        case Happened(event=event):
            words = _happened(event)
        case CancelWanted(client_order_id=order_id, reason=reason):
            words = {"what": "cancel", "order_id": order_id, "reason": reason}
        case ModifyWanted(change=change):
            words = {"what": "modify", "order_id": change.client_order_id}
        case Modified(change=change, report=report):
            made = "modified" if entry.is_made else "not modified"
            words = {"what": f"order {made}", "order_id": change.client_order_id, "reason": report.reason}
        case Contradicted(symbol=symbol, problem=problem):
            words = {"what": "contradiction", "symbol": symbol, "reason": problem}
        case _:
            words = {"what": str(entry.__struct_config__.tag)}
    return entry.at_ns, words, entry


def _happened(event: OmsEvent) -> dict[str, str]:
    words = {"what": event.kind, "strategy": event.strategy, "symbol": event.symbol}
    if event.fill is not None:
        return words | {"order_id": event.fill.client_order_id, "signal_id": event.fill.signal_id}
    if event.report is not None:
        return words | {"order_id": event.report.client_order_id, "reason": event.report.reason}
    return words


def _breaker(payload: bytes) -> _Read:
    change = decode_breaker(payload)
    latch = change.latch
    words = {
        "what": f"breaker {latch.breaker} {'opened' if change.opened else 'closed'}",
        "strategy": latch.strategy,
        "symbol": latch.symbol,
        "reason": latch.facts,
    }
    return change.at_ns, words, change


def _action(payload: bytes) -> _Read:
    action = decode_action(payload)
    asked = action.request
    words = {
        "what": f"operator {asked.verb}",
        "strategy": asked.strategy,
        "symbol": asked.symbol,
        "reason": asked.reason or asked.detail,
    }
    return action.at_ns, words, action


_READERS = {"decisions": _decision, "orders": _order, "breakers": _breaker, "operator": _action}
