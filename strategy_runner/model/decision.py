"""A decision: what the router ruled on one signal. Exactly one exists for every signal."""

from typing import Literal

import msgspec

from strategy_runner.model.signal import Envelope

Verdict = Literal["accepted", "refused", "expired"]


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a client's decision log.

    `number` is dense per client from 0; `reason` is a stable name, "" when accepted; `body` holds the signal's canonical
    bytes, so that a sink needs no other file. What was ruled by age says so: `age_ns` is how old the market data behind the
    signal was by the feed's clock, and `limit_ns` how old it might have been; else both are 0.
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
