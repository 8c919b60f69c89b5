"""The order machine: which news may follow which state of an order, and what the order then is. Pure.

News may come twice, late, or by another way than it was expected; whatever cannot change what is known is harmless. News that
contradicts what is known is an IllegalTransitionError, never a guess: the symbol is to be blocked until a person has looked.
"""

from decimal import Decimal

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.fill import Fill
from strategy_runner.model.order import FINAL_STATES, OmsEvent, OrderChange, OrderReport, OrderRequest, OrderState
from strategy_runner.model.position import ZERO


class IllegalTransitionError(StateError):
    """News of an order contradicts what is known of it."""


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order and all that is known of it. `request` stays what was asked first; quantity and prices are as modified since.

    `turnover` is the sum of price times quantity over `fills`, the ids of what was filled; `is_known` once an OMS has spoken
    of the order as its own, so that it can never be sent a second time.
    """

    request: OrderRequest
    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    state: OrderState = OrderState.INTENT
    filled: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: tuple[str, ...] = ()
    is_known: bool = False
    reason: str = ""
    oms_order_id: str = ""

    @property
    def id(self) -> str:
        return self.request.client_order_id

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled


class Sent(msgspec.Struct, frozen=True, tag="sent", gc=False):
    """It leaves for the OMS."""


class Acknowledged(msgspec.Struct, frozen=True, tag="acknowledged", gc=False):
    """The OMS has it."""

    oms_order_id: str = ""


class Filled(msgspec.Struct, frozen=True, tag="filled", gc=False):
    """A part or the rest of it was executed."""

    fill: Fill


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled", gc=False):
    reason: str = ""


class Rejected(msgspec.Struct, frozen=True, tag="rejected", gc=False):
    reason: str = ""


class Expired(msgspec.Struct, frozen=True, tag="expired", gc=False):
    reason: str = ""


class Modified(msgspec.Struct, frozen=True, tag="modified", gc=False):
    change: OrderChange


class Lost(msgspec.Struct, frozen=True, tag="lost", gc=False):
    """No answer came: nobody knows what became of it."""


class Absent(msgspec.Struct, frozen=True, tag="absent", gc=False):
    """The OMS was asked and has never had it."""


News = Sent | Acknowledged | Filled | Cancelled | Rejected | Expired | Modified | Lost | Absent

_INTENT, _SENT, _ACKNOWLEDGED, _PARTIAL = (
    OrderState.INTENT,
    OrderState.SENT,
    OrderState.ACKNOWLEDGED,
    OrderState.PARTIALLY_FILLED,
)
_UNKNOWN, _REJECTED = OrderState.UNKNOWN, OrderState.REJECTED
_OPEN = tuple(state for state in OrderState if state not in FINAL_STATES)
_STAYS = {state: state for state in FINAL_STATES}

# What is not in a table is illegal. Fills and modifications have numbers to check and functions of their own.
_NEXT: dict[type, dict[OrderState, OrderState]] = {
    Sent: {_INTENT: _SENT, _SENT: _SENT, _ACKNOWLEDGED: _ACKNOWLEDGED, _PARTIAL: _PARTIAL, **_STAYS},
    Acknowledged: {**dict.fromkeys(_OPEN, _ACKNOWLEDGED), _PARTIAL: _PARTIAL, **_STAYS},
    Cancelled: {**dict.fromkeys(_OPEN, OrderState.CANCELLED), **_STAYS},
    Rejected: {**dict.fromkeys(_OPEN, _REJECTED), _REJECTED: _REJECTED},
    Expired: {**dict.fromkeys(_OPEN, OrderState.EXPIRED), **_STAYS},
    Lost: {**dict.fromkeys(_OPEN, _UNKNOWN), **_STAYS},
    Absent: {_INTENT: _INTENT, _UNKNOWN: _INTENT, **_STAYS},
}
_KNOWING = frozenset({Acknowledged, Cancelled, Rejected, Expired})  # news that only one who has the order can tell
_TAKEN_BACK = frozenset({OrderState.CANCELLED, OrderState.EXPIRED})
_FILLABLE = {*_OPEN, *_TAKEN_BACK}


def new_order(request: OrderRequest) -> Order:
    return Order(
        request=request, quantity=request.quantity, limit_price=request.limit_price, stop_price=request.stop_price
    )


def advance(order: Order, news: News) -> Order:
    """The order after the news; the same order if the news says nothing new. Raises IllegalTransitionError."""
    if isinstance(news, Filled):
        return _filled(order, news.fill)
    if isinstance(news, Modified):
        return _modified(order, news.change)
    state = _NEXT[type(news)].get(order.state)
    if state is None or (isinstance(news, Rejected) and order.filled):
        raise _illegal(order, news)
    if order.is_final:
        return order  # the end came first; this is its late answer
    if isinstance(news, Absent) and order.is_known:
        raise _illegal(order, news)
    if state is _ACKNOWLEDGED and order.filled:
        state = _PARTIAL
    is_known = order.is_known or type(news) in _KNOWING
    reason, oms_order_id = getattr(news, "reason", order.reason), order.oms_order_id
    if isinstance(news, Acknowledged):
        oms_order_id = oms_order_id or news.oms_order_id
    if (state, is_known, reason, oms_order_id) == (order.state, order.is_known, order.reason, order.oms_order_id):
        return order
    return msgspec.structs.replace(order, state=state, is_known=is_known, reason=reason, oms_order_id=oms_order_id)


def report_of(order: Order) -> OrderReport:
    return OrderReport(
        client_order_id=order.id,
        client=order.request.client,
        state=order.state,
        quantity=order.quantity,
        filled=order.filled,
        average_price=order.turnover / order.filled if order.filled else None,
        reason=order.reason,
        oms_order_id=order.oms_order_id,
    )


def news_of_report(report: OrderReport | None) -> News:
    """What the answer to a question says of an order. Fills are never made up from it: they come one by one, as events."""
    if report is None:
        return Absent()
    match report.state:
        case OrderState.CANCELLED:
            return Cancelled(report.reason)
        case OrderState.REJECTED:
            return Rejected(report.reason)
        case OrderState.EXPIRED:
            return Expired(report.reason)
        case OrderState.INTENT | OrderState.SENT | OrderState.UNKNOWN:
            return Lost()  # the OMS itself does not know yet
        case _:
            return Acknowledged(report.oms_order_id)


def news_of_event(event: OmsEvent) -> News | None:
    """What an event of an OMS says of its order; None for one that is of no order."""
    if event.fill is not None:
        return Filled(event.fill)
    if event.report is None:
        return None
    if event.kind == "modified":
        return Modified(OrderChange(client_order_id=event.report.client_order_id, quantity=event.report.quantity))
    return news_of_report(event.report)


def _filled(order: Order, fill: Fill) -> Order:
    if fill.fill_id in order.fills:
        return order
    if fill.client_order_id != order.id or fill.side != order.request.side:
        raise _illegal(order, Filled(fill))
    filled = order.filled + fill.quantity
    if order.state not in _FILLABLE or fill.quantity <= 0 or filled > order.quantity:
        raise _illegal(order, Filled(fill))
    partly = order.state if order.is_final else _PARTIAL  # a fill that crossed with the cancellation does not undo it
    return msgspec.structs.replace(
        order,
        state=OrderState.FILLED if filled == order.quantity else partly,
        filled=filled,
        turnover=order.turnover + fill.price * fill.quantity,
        fills=(*order.fills, fill.fill_id),
        is_known=True,
    )


def _modified(order: Order, change: OrderChange) -> Order:
    quantity = order.quantity if change.quantity is None else change.quantity
    limit = order.limit_price if change.limit_price is None else change.limit_price
    stop = order.stop_price if change.stop_price is None else change.stop_price
    is_same = (quantity, limit, stop) == (order.quantity, order.limit_price, order.stop_price)
    if order.is_final and is_same:
        return order
    if quantity <= 0 or quantity < order.filled or change.client_order_id != order.id:
        raise _illegal(order, Modified(change))
    if order.state in _TAKEN_BACK:
        return order  # the answer to what came after it was faster than its event
    if order.is_final:
        raise _illegal(order, Modified(change))
    state = order.state
    if state is not _INTENT:
        state = _PARTIAL if order.filled else _ACKNOWLEDGED
    if quantity == order.filled:
        state = OrderState.FILLED
    if is_same and state is order.state:
        return order
    return msgspec.structs.replace(
        order,
        state=state,
        quantity=quantity,
        limit_price=limit,
        stop_price=stop,
        is_known=order.is_known or state is not _INTENT,
    )


def _illegal(order: Order, news: News) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"order {order.id}: expected news that may follow {order.state.value} "
        f"({order.filled} of {order.quantity} filled), found {news}"
    )
