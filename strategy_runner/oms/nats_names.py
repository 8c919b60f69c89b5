"""Names in NATS: where an OMS tells its events, and where positions are kept."""

import re

STREAM = "OMS_EVENTS"
SUBJECTS = "oms.events.*"
_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


def subject_of(client: str) -> str:
    return f"oms.events.{client}"


def consumer_of(client: str) -> str:
    """The durable consumer of the client's router."""
    return f"strategy-runner-{client}"


def bucket_of(client: str) -> str:
    return f"oms-positions-{client}"


def message_id(client: str, number: int) -> str:
    """The Nats-Msg-Id: JetStream takes an event that is told twice once."""
    return f"{client}/{number}"


def position_key(account: str, strategy: str, symbol: str) -> str:
    """Three words with dots between; what a key may not hold, and dots, become =XX."""
    return ".".join(_PLAIN.sub(_coded, word) for word in (account, strategy, symbol))


def _coded(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode())
