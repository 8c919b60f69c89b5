"""The asker's session with an OMS: opened by its first question, given up with a question whose outcome is not known.

Opening a new one makes the OMS refuse whatever of the old one may still be under way. So what the OMS says of an order from
then on is final: an order that it has never taken can be sent again, or left.

Who is told that a later session was opened has been replaced: it asks nothing more, or two routers would take the session from
one another for ever. But for one of its own that came late: as many as were asked for without an answer.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from strategy_runner.model.order import OmsEvent, OrderReport
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.refusal import SESSION_OVER, OmsRefused

_R = TypeVar("_R")
_REPLACED = "another router of this client is at work, and this one sends nothing until it is started again"


class Session:
    """With the OMS at `address`. `open_session(deadline)` gives its name, `forget` is called when it is given up. Deadlines are
    of time.monotonic.

    Whoever asks holds each answer to what it can be (`expect`): one that cannot be the answer is none.
    """

    def __init__(
        self, address: str, open_session: Callable[[float], str], forget: Callable[[], None], *, timeout_s: float
    ) -> None:
        self._address = address
        self._open = open_session
        self._forget = forget
        self._timeout_s = timeout_s
        self._name = ""
        self._unanswered = 0
        self._replaced = ""

    def ask(self, question: Callable[[str, float], _R]) -> _R:
        """The answer to `question(session, deadline)`. Raises OmsUnavailable, OmsRefused; blocks at most the time limit.

        A session that ended with the OMS's last run is opened anew: that question was refused, so asking it again is asking
        it once.
        """
        if self._replaced:
            raise OmsUnavailable(self._replaced)
        deadline = time.monotonic() + self._timeout_s
        try:
            if not self._name:
                self._begin(deadline)
            try:
                return question(self._name, deadline)
            except OmsRefused as refused:
                if refused.code != "no_session":
                    raise
            self._begin(deadline)
            return question(self._name, deadline)
        except OmsUnavailable:
            self.give_up()
            raise
        except OmsRefused as refused:
            if refused.code == "superseded":
                self._unanswered -= 1
                if self._unanswered < 0:
                    self._replaced = f"{_REPLACED}: {refused}"
            if refused.code in SESSION_OVER:
                self.give_up()
            raise

    def give_up(self) -> None:
        self._name = ""
        self._forget()

    def expect(self, holds: bool, expected: str, found: str) -> None:
        """Raises OmsUnavailable, and gives the session up, if it does not hold."""
        if not holds:
            self.give_up()
            raise OmsUnavailable(f"{self._address}: expected {expected}, found {found}")

    def expect_reports(self, order_ids: Sequence[str], reports: Sequence[OrderReport | None]) -> None:
        """One for each order that was asked about, in their order; None for one that is not known. Raises as `expect`."""
        self.expect(len(reports) == len(order_ids), f"{len(order_ids)} reports", f"{len(reports)}")
        for order_id, report in zip(order_ids, reports, strict=True):
            if report is not None:
                found = report.client_order_id
                self.expect(found == order_id, f"a report of {order_id}", f"one of {found}")

    def expect_events(self, from_number: int, events: Sequence[OmsEvent]) -> None:
        """Dense from a number on. Raises as `expect`."""
        numbers = [event.number for event in events]
        expected = list(range(from_number, from_number + len(events)))
        self.expect(numbers == expected, f"events from {from_number} on", f"{numbers[:3]}...")

    def _begin(self, deadline: float) -> None:
        try:
            self._name = self._open(deadline)
        except OmsUnavailable:
            self._unanswered += 1
            raise
