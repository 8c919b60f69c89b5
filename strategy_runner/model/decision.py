"""A decision: what the router ruled on one signal. Exactly one exists for every signal."""

from decimal import Decimal
from typing import Literal

import msgspec

from strategy_runner.model.order import OrderRequest
from strategy_runner.model.signal import Envelope

Verdict = Literal["accepted", "refused", "expired"]


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a client's decision log.

    `number` is dense per client from 0; `reason` is a stable name, "" when accepted; `body` holds the signal's canonical
    bytes, so that a sink needs no other file. What was ruled by age says so: `age_ns` is how old the market data behind the
    signal was by the feed's clock, and `limit_ns` how old it might have been; else both are 0.

    With a route to an OMS an accepted signal carries its `orders`, as they were checked and as they are sent: not at or after
    `expires_ns` of the feed's clock (0: whenever). `price` is the last of the symbol, which they were checked by; `detail`
    says more, such as the signal that a refused one lost to. What `is_observed` is recorded and routed nowhere, not even by
    a route that is opened later. `size` is what is let through of an exit whose entries were let through in part only; None is
    all that the signal asks for.
    """

    number: int
    signal_id: str
    verdict: Verdict
    reason: str
    decided_ns: int
    envelope: Envelope
    body: bytes
    age_ns: int = 0
    limit_ns: int = 0
    orders: tuple[OrderRequest, ...] = ()
    expires_ns: int = 0
    price: Decimal | None = None
    detail: str = ""
    is_observed: bool = False
    size: float | None = None
