"""What strategies want of orders that they had made before: cancelled, or modified. Driven by the order flow."""

import logging
import time
from collections.abc import Callable, Mapping, Set

import msgspec

from strategy_runner.model.decision import Decision
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import FINAL_STATES, OmsEventKind, OrderChange, OrderReport, OrderState
from strategy_runner.model.signal import decode_body
from strategy_runner.oms import order_machine
from strategy_runner.oms.interface import Oms, OmsUnavailable
from strategy_runner.oms.order_machine import IllegalTransitionError, advance, report_of
from strategy_runner.oms.order_making import cancelled_by, changes_of
from strategy_runner.oms.refusal import SESSION_OVER, OmsRefused
from strategy_runner.router.order_book import is_final_exit
from strategy_runner.router.order_entry import OWN, CancelWanted, Modified, ModifyWanted, OrderEntry
from strategy_runner.router.order_index import DeskOrder
from strategy_runner.router.order_journal import OrderJournal

BY_STRATEGY = "cancelled_by_strategy"
NOT_MODIFIED = "not_modified"
REASONS: dict[str, str] = {
    BY_STRATEGY: "its strategy has asked for the order to be cancelled",
    NOT_MODIFIED: "the OMS has left the order as it was",
}

log = logging.getLogger(__name__)


class OrderChanges:
    """`tell` makes an event of the desk's own of an order."""

    def __init__(
        self,
        journal: OrderJournal,
        oms: Oms,
        instruments: Mapping[str, Instrument],
        tell: Callable[[DeskOrder, OmsEventKind, OrderReport], None],
    ) -> None:
        self._journal = journal
        self._book = journal.book
        self._oms = oms
        self._instruments = instruments
        self._tell = tell
        self._waiting = {one.order.id for one in self._book.orders.values() if one.change is not None}

    def wanted(self, decision: Decision, intended: Set[str], at_ns: int) -> list[OrderEntry]:
        """The entries of a decision that was made of no orders. `intended` are orders that are on their way into
        the book."""
        body = decode_body(decision.body)
        if body.action == "cancel":
            ids = [order_id for order_id in cancelled_by(body) if self._may_change(order_id, intended)]
            return [CancelWanted(at_ns=at_ns, client_order_id=order_id, reason=BY_STRATEGY) for order_id in ids]
        if body.action != "modify":
            return []
        asked = changes_of(body, self._instruments[body.symbol])
        changes = [one for one in asked if self._may_change(one.client_order_id, intended)]
        self._waiting |= {change.client_order_id for change in changes}
        # the last one alone says that the decision is carried out: if a power cut takes it, all of them are wished again
        told = [OWN] * (len(changes) - 1) + [decision.number]
        return [
            ModifyWanted(at_ns=at_ns, change=change, decision=number)
            for change, number in zip(changes, told, strict=False)
        ]

    def _may_change(self, order_id: str, intended: Set[str]) -> bool:
        known = self._book.orders.get(order_id)
        if known is None or not is_final_exit(self._book, known):
            return known is not None or order_id in intended
        log.warning(
            "order %s: stays as it is: it closes all that was held, and what protected that has ended", order_id
        )
        return False

    def turn(self) -> bool:
        """Changes at the OMS what is to be changed; an order that it does not have yet waits for that. Raises OmsUnavailable."""
        worked = False
        for order_id in sorted(self._waiting):
            one = self._book.orders.get(order_id)
            if one is None or one.change is None or one.cancel:
                self._waiting.discard(order_id)
            elif one.order.is_known:
                self._modify(one, one.change)
                worked = True
        return worked

    def _modify(self, one: DeskOrder, change: OrderChange) -> None:
        """Asked again after a silence: its numbers are absolute. What the OMS does not do the worker is told."""
        report = self._asked(one, change)
        is_made = _is_made(report, change) and _follows(one, change)
        self._journal.append([Modified(at_ns=time.time_ns(), change=change, report=report, is_made=is_made)])
        if not is_made and not one.order.is_final:
            log.warning("order %s: not modified: %s", one.order.id, report.reason or report.state)
            told = msgspec.structs.replace(report_of(one.order), reason=report.reason or NOT_MODIFIED)
            self._tell(one, "modified", told)

    def _asked(self, one: DeskOrder, change: OrderChange) -> OrderReport:
        try:
            return self._oms.modify(change)
        except OmsRefused as refused:
            if refused.code in SESSION_OVER:
                raise OmsUnavailable(str(refused)) from refused
            reason = f"oms_{refused.code}"
            return msgspec.structs.replace(report_of(one.order), state=OrderState.REJECTED, reason=reason)


def _is_made(report: OrderReport, change: OrderChange) -> bool:
    """An order that is over was changed only if that has ended it: no more was wished than what had been filled."""
    if report.reason or report.state not in FINAL_STATES:
        return not report.reason
    numbers = report.filled, report.quantity
    return all(number.is_finite() and number == change.quantity for number in numbers)


def _follows(one: DeskOrder, change: OrderChange) -> bool:
    """Whether it can be true of what is known here."""
    try:
        advance(one.order, order_machine.Modified(change))
    except IllegalTransitionError as error:
        log.error("%s: %s", one.order.request.symbol, error)
        return False
    return True
