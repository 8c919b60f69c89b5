"""Reading the body out of a decision, with a verdict instead of an exception: a poisoned body must not stop a sink."""

import msgspec

from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody, decode_body


class BodyRefused(Exception):  # noqa: N818  caught within the sinks: it becomes a dead letter
    """The body can never be kept; the message says why."""


def read_body(decision: Decision, client: str) -> SignalBody:
    """The decision's body, known to be of `client`. Raises BodyRefused."""
    try:
        body = decode_body(decision.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyRefused(
            f"body: expected a signal's canonical bytes, found {decision.body[:40]!r}: {error}"
        ) from error
    if body.client != client:
        raise BodyRefused(f"body: client: expected {client!r}, found {body.client!r}")
    return body
