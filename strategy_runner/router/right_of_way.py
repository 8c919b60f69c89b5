"""The right of way: while signals wait for too long, all else that the router does stands back and lets it decide them.

All threads of a router share one interpreter, which one of them has at a time and which is given to none before another. Left to
it, a decision waits for a database's rows, for the audit trail, and for orders. Sinks and audit trail stand back while a signal
has waited for long. The order desk does so only in a flood: an order that waits is as bad as a signal that does, but of a
thousand orders at once most must wait, and each signal behind them would too.
"""

import threading
from collections.abc import Callable

LATE_NS = 2_000_000
FLOOD = 32  # signals at once: of those that are decided as they come few wait for one another
STAND_BACK_S = 0.05  # at most, before each piece of work: orders and rows must go out though signals never cease

GiveWay = Callable[[], object]


class RightOfWay:
    """The router's. Who stands back calls `give_way`, or the desk `give_way_to_flood`, before each piece of work."""

    def __init__(self) -> None:
        self._is_free, self._is_calm = threading.Event(), threading.Event()
        self.tell(0, 0)

    def tell(self, waited_ns: int, count: int) -> None:
        """How long the oldest of the signals that are being decided has waited, and how many they are."""
        _set(self._is_free, waited_ns <= LATE_NS)
        _set(self._is_calm, count < FLOOD)

    def give_way(self) -> None:
        self._is_free.wait(STAND_BACK_S)

    def give_way_to_flood(self) -> None:
        self._is_calm.wait(STAND_BACK_S)


def _set(event: threading.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()


def no_way_given() -> None:
    """Where nobody has the right of way."""
