"""Orders of tests, and waiting for what must come."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from typing import Any

from strategy_runner.model.order import OmsEvent, OrderRequest, client_order_id
from strategy_runner.oms.interface import OmsUnavailable

PATIENCE_S = 20.0
_numbers: Iterator[int] = count()


def order(client: str = "acme", **changes: Any) -> OrderRequest:
    """An order that no other test has."""
    signal = f"{client}:swing.BTC-USD@0badcafe/{next(_numbers)}"
    fields: dict[str, Any] = {
        "client_order_id": client_order_id(signal, "entry"),
        "client": client,
        "account": "main",
        "venue": "test",
        "strategy": "swing",
        "symbol": "BTC-USD",
        "signal_id": signal,
        "leg": "entry",
        "side": "buy",
        "type": "limit",
        "quantity": Decimal("0.10"),
        "limit_price": Decimal("101.50"),
        "event_ns": 1_700_000_000_000_000_000,
    }
    return OrderRequest(**{**fields, **changes})


def eventually(look: Callable[[], Any], what: str) -> Any:
    """The first value that is true. An OMS that is away meanwhile is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = look()
        except OmsUnavailable:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"expected within {PATIENCE_S:g} s: {what}"
        time.sleep(0.005)


def follow(oms: Any, from_number: int, until: int) -> list[OmsEvent]:
    """Events from a number on as a router reads them, until there are as many."""
    events: list[OmsEvent] = []

    def read() -> bool:
        events.extend(oms.events(from_number + len(events), 100))
        return len(events) >= until or (oms.wait(200) and False)

    eventually(read, f"{until} events, found {len(events)}")
    return events
