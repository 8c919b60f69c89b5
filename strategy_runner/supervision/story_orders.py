"""The orders of a signal as its story tells them: each with what has become of it and why, and its fills; and what an order
was made for.
"""

import re
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.config.times import moment
from strategy_runner.model.fill import Fill
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.private import PrivateEntry, decode_private
from strategy_runner.oms import paper_request
from strategy_runner.pipeline import pipeline
from strategy_runner.risk import reasons as risk
from strategy_runner.router import reasons as router
from strategy_runner.router.operator_log import read_actions
from strategy_runner.router.order_journal import order_log
from strategy_runner.router.order_rows import OrderRow, order_rows
from strategy_runner.supervision.holdings import fills_told
from strategy_runner.tape.logs import read_log

_OPERATORS = re.compile(r":operator/(\d+)/")  # in the place of a signal's id: the action that an order was made for
MEANINGS = {**paper_request.REASONS, **router.REASONS, **risk.REASONS, **pipeline.REASONS}


def orders_of_signal(home: Home, key: WorkerKey, run: str, signal_id: str) -> list[str]:
    """Nothing for a signal of which no order was made. Raises StateError."""
    log = order_log(home.router(key.client, run))
    rows = [row for row in order_rows(log) if row.signal_id == signal_id] if log.exists() else []
    told = _told(fill_log(home, key, run), signal_id)
    fills: dict[str, list[Fill]] = {}
    for entry in told:
        if entry.event.fill is not None:
            fills.setdefault(entry.event.fill.client_order_id, []).append(entry.event.fill)
    if rows:
        return [line for row in rows for line in [_order(row), *map(_fill, fills.get(row.client_order_id, ()))]]
    return [_entry(entry) for entry in told]


def cause_of_order(home: Home, client: str, run: str, order_id: str) -> tuple[WorkerKey, str] | None:
    """The worker, and the id of the signal, that an order was made for; by the order's id, or that of a fill of it. Where each
    worker fills its own orders nobody keeps them, and what was filled is all there is. Raises StateError."""
    told: list[OrderRow | Fill] = [*order_rows(order_log(home.router(client, run))), *fills_told(home, client, run)]
    for one in told:
        if order_id == one.client_order_id or (isinstance(one, Fill) and order_id == one.fill_id):
            return WorkerKey(one.client, one.strategy, one.symbol), one.signal_id
    return None


def operator_action(home: Home, client: str, run: str, cause: str) -> str | None:
    """What a person asked for that an order was made for; None of an order that was made for a signal. Raises StateError."""
    found = _OPERATORS.search(cause)
    if found is None:
        return None
    number = int(found[1])
    for action in read_actions(home.client_state(client, run)):
        if action.number == number:
            asked = action.request
            return f"action {number}: {asked.verb} {client}{asked.scope}, {moment(action.at_ns)} by {action.who}: {asked.reason}"
    return f"action {number}, which the operator log does not have"


def fill_log(home: Home, key: WorkerKey, run: str) -> Path:
    """A worker's own where it filled its orders itself, else the client's."""
    own = home.worker(key, run) / "fills.log"
    return own if own.exists() else home.fills(key.client, run)


def _told(path: Path, signal_id: str) -> list[PrivateEntry]:
    entries = map(decode_private, read_log(path)) if path.exists() else ()
    return [entry for entry in entries if entry.signal_id == signal_id]


def _order(row: OrderRow) -> str:
    price = f" at {row.price}" if row.price is not None else ""
    meaning = MEANINGS.get(row.reason, "")
    why = f": {row.reason}" + (f": {meaning}" if meaning else "") if row.reason else ""
    return f"{row.leg}: {row.side} {row.quantity} {row.type}{price}, {row.state}{why}; {row.client_order_id}"


def _fill(fill: Fill) -> str:
    return f"  {fill.quantity} at {fill.price} as {fill.liquidity}, fee {fill.fee} {fill.currency}; {fill.fill_id}"


def _entry(entry: PrivateEntry) -> str:
    """Where a worker fills its own orders nobody keeps them: what it was told is all there is."""
    event = entry.event
    if event.fill is not None:
        return f"{entry.leg}: {event.fill.side}{_fill(event.fill)[1:]}"
    reason = event.report.reason if event.report is not None else ""
    return f"{entry.leg}: {event.kind}{f': {reason}' if reason else ''}"
