"""The right of way: while signals wait for too long, sinks and audit trail stand back and let the router decide them.

All threads of a router share one interpreter, which one of them has at a time and which is given to none before another. Left to
it, a decision waits for a database's rows and for the audit trail. The order desk never stands back: an order that waits is as
bad as a signal that does.
"""

import threading
from collections.abc import Callable

LATE_NS = 2_000_000
STAND_BACK_S = 0.05  # at most, before each piece of work: rows must go out though signals never cease

GiveWay = Callable[[], object]


class RightOfWay:
    """The router's. Who stands back calls `give_way` before each piece of work."""

    def __init__(self) -> None:
        self._is_free = threading.Event()
        self._is_free.set()

    def tell(self, waited_ns: int) -> None:
        """How long the oldest of the signals that are being decided has waited; 0 if there are none."""
        if waited_ns <= LATE_NS:
            self._is_free.set()
        else:
            self._is_free.clear()

    def give_way(self) -> None:
        self._is_free.wait(STAND_BACK_S)


def no_way_given() -> None:
    """Where nobody has the right of way."""
