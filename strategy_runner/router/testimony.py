"""Testimony: what an OMS tells, as far as it can be judged by itself. Pure.

What it tells is added up, written down, and passed on to workers by way of the tape that all clients share. So a number must be
one that can be added, a time one that a record can have, and the names in an event must not contradict each other.
"""

import re
from decimal import Decimal

from strategy_runner.model.names import STRATEGY_PATTERN
from strategy_runner.model.order import FINAL_STATES, OmsEvent
from strategy_runner.oms.admission import is_within

# of the point: a price may be an average, with more behind it than an order's has
_DIGITS_BEFORE, _DIGITS_BEHIND = 18, 36
_TIMES = range(-(1 << 63), 1 << 63)


def is_summable(number: Decimal) -> bool:
    """Whether sums and products of it stay exact enough to be meant: it is finite, and of a size that some market has."""
    return is_within(number, _DIGITS_BEFORE, _DIGITS_BEHIND)


def fault_of(event: OmsEvent) -> str:
    """What of an event cannot be, "" if all of it can."""
    for name, number in _numbers(event):
        if not is_summable(number):
            return f"{name}: expected a number that can be counted, found {number}"
    fill, report = event.fill, event.report
    for name, at_ns in (("event_ns", event.event_ns), ("fill.event_ns", fill.event_ns if fill else 0)):
        if at_ns not in _TIMES:
            return f"{name}: expected nanoseconds in 64 bits, found {at_ns}"
    if report is not None and report.quantity <= 0 and report.state not in FINAL_STATES:
        return f"report.quantity: expected a positive number, found {report.quantity}"
    if fill is None:
        return ""
    if re.fullmatch(STRATEGY_PATTERN, fill.strategy) is None:
        return f"fill.strategy: expected a strategy's name, found {fill.strategy!r}"
    named = (event.client, event.account, event.strategy, event.symbol)
    found = (fill.client, fill.account, fill.strategy, fill.symbol)
    if found != named:
        return f"fill: expected one of {_words(named)}, found one of {_words(found)}"
    if report is not None and report.client_order_id != fill.client_order_id:
        return f"report: expected one of order {fill.client_order_id}, found one of {report.client_order_id}"
    return ""


def _numbers(event: OmsEvent) -> list[tuple[str, Decimal]]:
    found = []
    if event.amount is not None:
        found.append(("amount", event.amount))
    if event.fill is not None:
        fill = event.fill
        found += [("fill.price", fill.price), ("fill.quantity", fill.quantity), ("fill.fee", fill.fee)]
    if event.report is not None:
        found += [("report.quantity", event.report.quantity), ("report.filled", event.report.filled)]
    return found


def _words(names: tuple[str, ...]) -> str:
    return " ".join(names)
