"""The backend: the OMS proper, as the server that carries the protocol sees it. The paper OMS is one."""

from collections.abc import Sequence
from typing import Protocol

from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.position import Position


class Backend(Protocol):
    """As oms/interface.py's Oms, for every client. Each client is asked for on a thread of its own. What is answered outlives a
    power cut. A question may raise OmsRefused: then nothing was done. Any other error ends the process: starting again is
    how it recovers."""

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        """One report each; a known id is answered with what it is now. Every order is this client's."""
        ...

    def modify(self, client: str, change: OrderChange) -> OrderReport: ...

    def cancel(self, client: str, client_order_id: str) -> OrderReport: ...

    def query(self, client: str, client_order_ids: Sequence[str]) -> list[OrderReport | None]: ...

    def open_orders(self, client: str) -> list[OrderReport]: ...

    def positions(self, client: str) -> list[Position]: ...

    def events(self, client: str, from_number: int, limit: int) -> list[OmsEvent]:
        """Only what may be told: what is durable here, and rests on durable records."""
        ...

    def last_number(self, client: str) -> int:
        """How many events of a client can be read; so this is the number of the next one."""
        ...
