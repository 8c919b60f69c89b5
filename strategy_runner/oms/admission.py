"""Admission: what is checked of a question before an OMS looks at it. Pure.

Types were checked when it was decoded. Here: whose it is, how much it is, and that every number is one.
"""

from decimal import Decimal

from strategy_runner.model.order import OrderChange, OrderRequest
from strategy_runner.oms.protocol import EVENTS_MAX, IDS_MAX, ORDERS_MAX, Ask, Events, Modify, Query, Submit
from strategy_runner.oms.refusal import OmsRefused

ID_CHARS_MAX = 64
NAME_CHARS_MAX = 256  # of every other name: a thousand events of such orders still fit into one answer
TIME_NS_MAX = (1 << 63) - 1  # the tape's own limit
_DIGITS_BEFORE, _DIGITS_BEHIND = 18, 18  # of the point: enough for any market, and no arithmetic bomb
_NAMES = ("account", "venue", "strategy", "symbol", "signal_id", "bracket")


def admit(ask: Ask, client: str) -> None:
    """Raises OmsRefused: foreign_client, malformed, too_large."""
    match ask:
        case Submit(orders):
            _count("orders", len(orders), ORDERS_MAX)
            for index, order in enumerate(orders):
                _admit_order(order, client, f"orders[{index}]")
        case Modify(change):
            _admit_change(change)
        case Query(client_order_ids):
            _count("client_order_ids", len(client_order_ids), IDS_MAX)
        case Events(from_number, limit):
            if from_number < 0:
                raise OmsRefused("malformed", f"from_number: expected at least 0, found {from_number}")
            _count("limit", limit, EVENTS_MAX)


def _admit_order(order: OrderRequest, client: str, where: str) -> None:
    if order.client != client:
        raise OmsRefused("foreign_client", f"{where}: expected orders of {client}, found one of {order.client}")
    if not 0 < len(order.client_order_id) <= ID_CHARS_MAX:
        raise OmsRefused(
            "malformed",
            f"{where}.client_order_id: expected 1 to {ID_CHARS_MAX} characters, found {order.client_order_id!r}",
        )
    for name in _NAMES:
        found = len(getattr(order, name))
        if found > NAME_CHARS_MAX:
            raise OmsRefused(
                "malformed", f"{where}.{name}: expected at most {NAME_CHARS_MAX} characters, found {found}"
            )
    _time(order.event_ns, f"{where}.event_ns")
    _time(order.expires_ns, f"{where}.expires_ns")
    _positive(order.quantity, f"{where}.quantity")
    _number(order.limit_price, f"{where}.limit_price")
    _number(order.stop_price, f"{where}.stop_price")
    if order.trail is not None:
        _positive(order.trail, f"{where}.trail")
    if order.type in ("limit", "stop_limit") and order.limit_price is None:
        raise OmsRefused("malformed", f"{where}.limit_price: expected a price for type {order.type}, found none")
    if order.type in ("stop", "stop_limit") and order.stop_price is None:
        raise OmsRefused("malformed", f"{where}.stop_price: expected a price for type {order.type}, found none")


def _admit_change(change: OrderChange) -> None:
    if change.quantity is not None:
        _positive(change.quantity, "change.quantity")
    _number(change.limit_price, "change.limit_price")
    _number(change.stop_price, "change.stop_price")


def _count(what: str, found: int, most: int) -> None:
    if found > most:
        raise OmsRefused("too_large", f"{what}: expected at most {most}, found {found}")
    if found < 1:
        raise OmsRefused("malformed", f"{what}: expected at least 1, found {found}")


def _time(at_ns: int, where: str) -> None:
    if not 0 <= at_ns <= TIME_NS_MAX:
        raise OmsRefused("malformed", f"{where}: expected nanoseconds from 0 to {TIME_NS_MAX}, found {at_ns}")


def _positive(number: Decimal, where: str) -> None:
    _number(number, where)
    if number <= 0:
        raise OmsRefused("malformed", f"{where}: expected a positive number, found {number}")


def is_within(number: Decimal, before: int, behind: int) -> bool:
    """Whether it is a number, and has at most so many digits before and behind the point."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -behind and number.adjusted() < before


def _number(number: Decimal | None, where: str) -> None:
    """A price may be negative, as some have been; it may not be infinite, NaN or of a size that no market has."""
    if number is None:
        return
    if not is_within(number, _DIGITS_BEFORE, _DIGITS_BEHIND):
        raise OmsRefused(
            "malformed",
            f"{where}: expected a number of at most {_DIGITS_BEFORE} digits before and {_DIGITS_BEHIND} behind the point, "
            f"found {number}",
        )
