"""Rules over how a client reaches an OMS elsewhere: whole credentials, one way to say who asks, no plain text on a network."""

from typing import Any
from urllib.parse import urlsplit

from strategy_runner.config.decode import Reading, table_of
from strategy_runner.config.notation import found

ON_THIS_HOST = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
_WAYS = ("password", "token", "credentials")


def check_wires(reading: Reading, tree: dict[str, Any]) -> None:
    """`tree` is an environment's or a client's, faults and all."""
    oms = table_of(tree, "oms")
    nats = table_of(oms, "nats")
    _whole(reading, table_of(oms, "tls"), "oms.tls")
    _whole(reading, table_of(nats, "tls"), "oms.nats.tls")
    given = [way for way in _WAYS if way in nats]
    if len(given) > 1:
        text = f"expected one of password, token and credentials, found {' and '.join(given)}"
        reading.fault(f"oms.nats.{given[-1]}", text)
    for one, other in (("user", "password"), ("password", "user")):
        if one in nats and other not in nats:
            reading.fault(f"oms.nats.{other}", f"expected one, since oms.nats.{one} is given, found nothing")
    server = nats.get("server")
    if isinstance(server, str) and server.startswith("nats://") and not is_local_url(server) and not nats.get("tls"):
        text = f"expected tls:// or [oms.nats.tls] for a server on another host, found {found(server)}: plain text on a network"
        reading.fault("oms.nats.server", text)


def is_local_url(server: str) -> bool:
    """Whether no network leads to it."""
    return urlsplit(server).hostname in ("127.0.0.1", "localhost", "::1")


def _whole(reading: Reading, tls: dict[str, Any], path: str) -> None:
    """A certificate is nothing without its key."""
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if one in tls and other not in tls:
            reading.fault(f"{path}.{other}", f"expected one, since {path}.{one} is given, found nothing")
