"""A client's orders as people read them: each with what was asked and what has become of it, from the desk's journal."""

from decimal import Decimal
from pathlib import Path

import msgspec

from strategy_runner.model.order import FINAL_STATES, Leg, OrderChange, OrderReport, OrderState, OrderType, Side
from strategy_runner.router.order_entry import CancelWanted, Happened, Intended, Leaving, Modified, Told
from strategy_runner.router.order_journal import read_orders
from strategy_runner.tape.logs import refuse_garbage


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """`at_ns` is when it was intended. `price` is its limit or stop, None for a market order."""

    at_ns: int
    client: str
    strategy: str
    symbol: str
    account: str
    leg: Leg
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    filled: Decimal
    average_price: Decimal | None
    state: OrderState
    reason: str
    signal_id: str
    client_order_id: str

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL_STATES


def order_rows(path: Path) -> list[OrderRow]:
    """In the order in which they were intended. An order that was cancelled because somebody here wanted it says why, where the
    OMS only knows that it was asked. Raises StateError."""
    found: dict[str, OrderRow] = {}
    wanted: dict[str, str] = {}
    refuse_garbage(path)
    for _, entry in read_orders(path):
        match entry:
            case Intended():
                found.setdefault(entry.order.client_order_id, _intended(entry))
            case Leaving():
                for order_id in entry.client_order_ids:
                    if order_id in found:
                        found[order_id] = msgspec.structs.replace(found[order_id], state=OrderState.SENT)
            case Told():
                _report(found, entry.report)
            case Happened(event=event) if entry.counts and event.report is not None:
                _report(found, event.report)
            case Modified() if entry.is_made:
                _change(found, entry.change)
            case CancelWanted() if entry.reason:
                wanted.setdefault(entry.client_order_id, entry.reason)
    for order_id, reason in wanted.items():
        row = found.get(order_id)
        if row is not None and row.state is OrderState.CANCELLED:
            found[order_id] = msgspec.structs.replace(row, reason=reason)
    return list(found.values())


def _intended(entry: Intended) -> OrderRow:
    order = entry.order
    return OrderRow(
        at_ns=entry.at_ns,
        client=order.client,
        strategy=order.strategy,
        symbol=order.symbol,
        account=order.account,
        leg=order.leg,
        side=order.side,
        type=order.type,
        quantity=order.quantity,
        price=order.limit_price if order.limit_price is not None else order.stop_price,
        filled=Decimal(0),
        average_price=None,
        state=OrderState.INTENT,
        reason="",
        signal_id=order.signal_id,
        client_order_id=order.client_order_id,
    )


def _change(found: dict[str, OrderRow], change: OrderChange) -> None:
    known = found.get(change.client_order_id)
    if known is not None:
        prices = (one for one in (change.limit_price, change.stop_price, known.price) if one is not None)
        quantity = known.quantity if change.quantity is None else change.quantity
        found[change.client_order_id] = msgspec.structs.replace(known, quantity=quantity, price=next(prices, None))


def _report(found: dict[str, OrderRow], report: OrderReport) -> None:
    known = found.get(report.client_order_id)
    if known is not None:
        found[report.client_order_id] = msgspec.structs.replace(
            known,
            quantity=report.quantity,
            filled=report.filled,
            average_price=report.average_price,
            state=report.state,
            reason=report.reason,
        )
