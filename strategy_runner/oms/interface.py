"""The Oms interface: what a client's router asks of every order management system, and what may be trusted of its answers.

Ids come from the asker, so every call may be repeated: an OMS that has an order answers with what it knows of it.
"""

from collections.abc import Sequence
from typing import Protocol

from strategy_runner.errors import StrategyRunnerError
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.position import Position


class OmsUnavailable(StrategyRunnerError):  # noqa: N818  a state of the world to wait out, not a fault of ours
    """No answer. Whether the call had an effect is not known: an order that was being sent is UNKNOWN until asked about."""


class EventsUnavailable(OmsUnavailable):
    """The OMS may answer, and what it tells comes by another way, which does not: no fill is heard of."""


class Oms(Protocol):
    """One client's way into an OMS, used from one thread. A call blocks at most its time limit, then raises OmsUnavailable.

    It raises OmsRefused (oms/refusal.py) when the OMS says that it did not do what it was asked: that is certain, where silence
    is not. An order that was rejected is no refusal but a report.
    """

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        """Takes orders, one report each, in their order; a rejected one is a report too. A known id is answered with what it is
        now and never taken twice. When it returns, the orders outlive a power cut of the OMS."""
        ...

    def modify(self, change: OrderChange) -> OrderReport: ...

    def cancel(self, client_order_id: str) -> OrderReport: ...

    def query(self, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        """What is known of each; None for an id the OMS has never taken: that one may be sent again."""
        ...

    def open_orders(self) -> list[OrderReport]:
        """Every order of this client that is not in a final state."""
        ...

    def positions(self) -> list[Position]:
        """Every position of this client that is not flat, or has ever been."""
        ...

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """Events of this client from a number on, in order; empty when there are none yet."""
        ...

    def wait(self, timeout_ms: int) -> bool:
        """True when there may be new events; False after the time given. May be early, never late by more than a beat."""
        ...

    def wake(self) -> None:
        """Ends a `wait` that is going on, or the next one. From any thread, until `close`."""
        ...

    def close(self) -> None: ...
