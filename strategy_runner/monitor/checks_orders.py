"""Checks of orders and fills: the client's fill log, the order desk's journal, and the paper OMS's.

What a worker was told was filled is compared with what the OMS filled: nothing told that did not happen, nothing twice.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.model.counted import counted
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.private import decode_private
from strategy_runner.monitor.checks_logs import ends
from strategy_runner.monitor.finding import Finding, error, ok
from strategy_runner.monitor.frames import Frames
from strategy_runner.oms.paper_state import Entry
from strategy_runner.router.order_entry import Happened, OrderEntry
from strategy_runner.router.order_journal import order_log, read_book
from strategy_runner.router.unprotected import unprotected
from strategy_runner.small_files import paths_below

_RESTORE = "restore the file from a copy; `strategy-runner reconcile` compares what is held with the OMS"
_decode_book = msgspec.msgpack.Decoder(Entry).decode
_decode_desk: Any = msgspec.msgpack.Decoder(OrderEntry).decode

Fills = dict[str, Fill]


def check_orders(state: Path, oms: Path, client: str) -> list[Finding]:
    """`state` is one client's folder of one mode, `oms` that of its book at the paper OMS. Nothing where no order ever was."""
    findings: list[Finding] = []
    told: Fills = {}
    # before the fill log, which has each entry first
    desk, known = _check_desk(order_log(state / "router"))
    logs = paths_below(state / "workers", "*/fills.log")
    own = state / "fills.log"
    if known or own.exists():
        logs.insert(0, own)
    for path in logs:
        findings += _check_fills(path, client, told, known if path == own else 0)
    findings += desk
    # last, since what is filled meanwhile may be told of at once
    findings += _check_book(oms / "orders.log", client, told)
    return (
        findings if findings or not logs else [ok("orders", state, f"{counted(len(told), 'fill')} of {client} whole")]
    )


def check_protection(state: Path, client: str, instruments: Mapping[str, Instrument]) -> list[Finding]:
    """What workers hold whose stop loss has ended, by the order desk's journal. Raises as `read_book`."""
    book = read_book(state / "router", client, instruments)
    return [
        error(
            "protection",
            f"{client}:{one.worker}",
            "a stop loss at the OMS for what it holds",
            f"none for {one.quantity.normalize():f}: {one.why}",
            f"`strategy-runner flatten {client}:{one.worker} --reason WHY` exits it, while its client's router runs",
        )
        for one in unprotected(book)
    ]


def _check_fills(path: Path, client: str, told: Fills, known: int) -> list[Finding]:
    """`known` is how many entries the order journal knows of."""
    findings: list[Finding] = []
    frames = Frames(path)
    for number, (offset, payload) in enumerate(frames):
        fault = _fill_fault(payload, number, client, told)
        if fault:
            place = f"offset {offset}: entry {number} of {client}"
            findings.append(error("orders", path, place, fault, _RESTORE))
            break
    if not findings and not frames.damage and frames.count < known:
        expected, found = f"the {counted(known, 'entry')} that the order journal knows of", str(frames.count)
        return [error("orders", path, expected, found, _RESTORE)]
    writer = path.parent if path.parent.parent.name == "workers" else path.parent / "router"
    return findings + ends("orders", frames, writer / "status", _RESTORE)


def _fill_fault(payload: bytes, expected: int, client: str, told: Fills) -> str:
    """What is wrong with an entry; "" and its fill noted if nothing is."""
    try:
        entry = decode_private(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return f"no entry: {problem}"
    fill = entry.event.fill
    if entry.number != expected:
        return f"entry {entry.number}"
    if entry.event.client != client:
        return f"entry {entry.number} of {entry.event.client}"
    if fill is None:
        return ""
    if fill.fill_id in told:
        return f"entry {entry.number} with the fill {fill.fill_id} once more"
    told[fill.fill_id] = fill
    return ""


def _check_desk(path: Path) -> tuple[list[Finding], int]:
    """And how many entries of the fill log it knows of."""
    frames, known = Frames(path), 0
    for offset, payload in frames:
        try:
            entry = _decode_desk(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            place = f"offset {offset}: an entry of the order desk"
            return [error("orders", path, place, str(problem), _RESTORE)], known
        if isinstance(entry, Happened):
            known = entry.fills
    return ends("orders", frames, path.parent / "status", _RESTORE), known


def _check_book(path: Path, client: str, told: Fills) -> list[Finding]:
    """The paper OMS's journal, if the client has one: dense events, and all that was told among them."""
    if not path.exists():
        return []
    frames, number, filled = Frames(path), 0, dict(told)
    for offset, payload in frames:
        try:
            entry = _decode_book(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            return [error("orders", path, f"offset {offset}: an entry of the paper OMS", str(problem), _RESTORE)]
        for event in entry.events:
            if event.number != number:
                place = f"offset {offset}: event {number} of {client}"
                return [error("orders", path, place, f"event {event.number}", _RESTORE)]
            number += 1
            if event.fill is not None and filled.get(event.fill.fill_id) == event.fill:
                del filled[event.fill.fill_id]
    findings = ends("orders", frames, path.parents[1] / "status", _RESTORE)
    if filled and not frames.damage:
        name = next(iter(filled))
        fault = f"{counted(len(filled), 'fill')} that it never made, the first {name}"
        findings.append(error("orders", path, f"every fill that {client} was told of", fault, _RESTORE))
    return findings
