"""The story of a signal: from the records that caused it, through the pipeline and the decision, to the sinks. An order has
that of its signal.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.times import moment
from strategy_runner.errors import NotRunningError, StateError, UsageError
from strategy_runner.history.columns import VALUE_COLUMNS
from strategy_runner.model.decision import Decision
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.private import Slot
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import SignalBody, decode_body, digest, worker_of
from strategy_runner.model.stream import Stream
from strategy_runner.router.cut_off import read_cut_off
from strategy_runner.router.journal import decision_log, read_decisions
from strategy_runner.supervision.story_orders import (
    MEANINGS,
    cause_of_order,
    fill_log,
    operator_action,
    orders_of_signal,
)
from strategy_runner.supervision.wishes import latest_mode
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import read_status
from strategy_runner.worker.private_log import PrivateLog

VALUES = {
    **VALUE_COLUMNS,
    Kind.PREDICTION: ("score", "confidence"),
    Kind.PRIVATE: ("offset", "digest", "digest", "entry"),
}


class Story(msgspec.Struct, frozen=True):
    """Chapters of (title, lines), in the order in which things happened."""

    id: str
    chapters: list[tuple[str, list[str]]]


def tell(home: Home, signal_id: str, mode: str | None) -> Story:
    """Raises UsageError if no such signal was decided."""
    try:
        key = WorkerKey.parse(worker_of(signal_id))
    except ValueError:
        raise UsageError(
            f"signal: expected an id such as client:strategy.symbol@generation/n, found {signal_id!r}"
        ) from None
    run = mode or latest_mode(home, key.client)
    decision = _find(home, key, run, signal_id)
    body = decode_body(decision.body)
    tape = tape_of(home, run)
    orders = orders_of_signal(home, key, run, signal_id)
    return Story(
        signal_id,
        [
            ("record", [*_cause(body, tape), *_told(home, key, run, body)]),
            *([("predictions", _predictions(body, tape))] if body.models else []),
            ("strategy", _strategy(body)),
            ("pipeline", _pipeline(body)),
            ("recorded", _recorded(decision)),
            ("decision", _decided(decision)),
            *([("orders", orders)] if orders else []),
            ("sinks", _sinks(home, key, run, decision)),
        ],
    )


def tell_order(home: Home, client: str, run: str, order_id: str) -> Story | None:
    """The story behind the id of an order or a fill; None if this run of a client has no such. Raises as `tell`."""
    found = cause_of_order(home, client, run, order_id)
    if found is None:
        return None
    key, cause = found
    action = operator_action(home, client, run, cause)
    if action is None:
        return tell(home, cause, run)
    return Story(order_id, [("operator", [action]), ("orders", orders_of_signal(home, key, run, cause))])


def _find(home: Home, key: WorkerKey, run: str, signal_id: str) -> Decision:
    folder = home.router(key.client, run)
    for decision in read_decisions(decision_log(folder)):
        if decision.signal_id == signal_id:
            return decision
    cut_off = read_cut_off(folder).get(key.folder)
    because = f"; its worker is cut off by the router: {cut_off}" if cut_off else ""
    raise UsageError(f"{signal_id}: expected a decided signal of the {run} run of {key.client}, found none{because}")


def _cause(body: SignalBody, tape: TapeReader | None) -> list[str]:
    cause = body.cause
    stream = Stream.parse(cause.stream)
    return [
        f"{cause.stream} ordinal {cause.ordinal}, {moment(cause.event_ns)}: {said(stream.kind, cause.values)}",
        on_tape(tape, stream, cause.ordinal),
    ]


def _told(home: Home, key: WorkerKey, run: str, body: SignalBody) -> list[str]:
    """Of a signal that answers to what became of an order: what the worker was told."""
    if Stream.parse(body.cause.stream).kind is not Kind.PRIVATE:
        return []
    log = PrivateLog(fill_log(home, key, run), key)
    try:
        entry = log.entry(Slot(*(value or 0.0 for value in body.cause.values)))
    except StateError as error:
        return [str(error)]
    finally:
        log.close()
    event, held = entry.event, entry.position
    what = f"{event.kind} of the {entry.leg} of {entry.signal_id}" if entry.leg else event.kind
    if event.fill is not None:
        what += f": {event.fill.side} {event.fill.quantity} at {event.fill.price}, fee {event.fill.fee}"
    elif event.report is not None and event.report.reason:
        what += f": {event.report.reason}"
    return [f"{what}; position {held.quantity} at {held.average_price}"]


def _predictions(body: SignalBody, tape: TapeReader | None) -> list[str]:
    lines = []
    for vote in body.models:
        lines.append(
            f"{vote.model}: score {vote.score:z.4f}, confidence {vote.confidence:.4f}, weight {vote.weight:g}; "
            f"{vote.stream} ordinal {vote.ordinal}, {moment(vote.event_ns)}"
        )
        lines.append(on_tape(tape, Stream.parse(vote.stream), vote.ordinal))
    return lines


def said(kind: Kind, values: Iterable[float | None]) -> str:
    """What a record says, in the digits that a number has of its own: without the last two of 0.1 + 0.2."""
    named = zip(VALUES.get(kind, ()), values, strict=False)
    return ", ".join(f"{name} {math.nan if value is None else value:.15g}" for name, value in named)


def on_tape(tape: TapeReader | None, stream: Stream, ordinal: int) -> str:
    if tape is None:
        return "no tape: made from recorded history"
    stream_id = tape.find(stream)
    if stream_id is None or ordinal >= tape.entries(stream_id):
        return "not on the tape that is kept"
    place = ""
    try:
        seq = tape.seqs(stream_id, ordinal, ordinal + 1)[0]  # of an old record the index is gone, too
        place = f"seq {seq}: "
        record = tape.record(seq)
    except StateError:
        return f"{place}no longer kept (the tape begins at seq {tape.head.first})"
    return f"seq {seq}, epoch {record.epoch}, received {moment(record.received_ns)}, crc {record.crc:#010x} holds"


def _strategy(body: SignalBody) -> list[str]:
    return [f"{body.strategy_type} on {body.symbol} at {body.venue}, {body.timeframe}: {body.action}", *body.reasons]


def _pipeline(body: SignalBody) -> list[str]:
    numbers = [
        ("size", body.size),
        ("entry", body.entry_price),
        ("stop loss", body.stop_loss),
        ("take profit", body.take_profit),
    ]
    numbers += [("confidence", body.confidence), ("strength", body.strength)]
    filled = ", ".join(f"{name} {value:.10g}" for name, value in numbers if value is not None)
    if body.refusal is None:
        return [f"passed: {filled}"]
    return [f"refused: {body.refusal}: {MEANINGS.get(body.refusal, '')}", filled]


def _recorded(decision: Decision) -> list[str]:
    envelope = decision.envelope
    return [
        f"{moment(envelope.recorded_ns)} by the worker as signal {envelope.n} of generation {envelope.generation}, "
        f"mode {envelope.mode}, at seq {envelope.seq}, epoch {envelope.epoch}; digest {digest(decision.body).hex()}"
    ]


def _decided(decision: Decision) -> list[str]:
    meaning = MEANINGS.get(decision.reason, "")
    reason = f": {decision.reason}: {meaning}" if decision.reason else ""
    aged = f"{decision.age_ns / 1e9:.3f} s old, {decision.limit_ns / 1e9:g} s allowed"
    waited_ms = (decision.decided_ns - decision.envelope.recorded_ns) / 1e6
    decided = moment(decision.decided_ns)
    return [
        f"{decision.verdict}{reason}",
        *([decision.detail] if decision.detail else []),
        *([aged] if decision.limit_ns else []),
        f"number {decision.number}, {decided}, {waited_ms:.1f} ms after it was recorded",
    ]


def _sinks(home: Home, key: WorkerKey, run: str, decision: Decision) -> list[str]:
    status = read_status(home.router(key.client, run) / "status")
    delivered = status is not None and status.progress > decision.number
    lines = [f"duckdb {home.database(key.client, run)}: {'has it' if delivered else 'not yet confirmed'}"]
    for path in sorted((home.client_state(key.client, run) / "quantconnect").rglob("*.csv")):
        line = _line_with(path, f",{decision.signal_id},")
        if line is not None:
            lines.append(f"quantconnect {path}: line {line}")
    return lines


def _line_with(path: Path, text: str) -> int | None:
    with path.open() as file:
        return next((number for number, line in enumerate(file, 1) if text in line), None)


def tape_of(home: Home, run: str) -> TapeReader | None:
    try:
        return TapeReader(home.market(run) / "tape")
    except NotRunningError:
        return None
