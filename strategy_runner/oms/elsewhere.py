"""A client's way into an OMS elsewhere: over gRPC, and its events over NATS if it tells them there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from strategy_runner.config.spec import OmsSpec
from strategy_runner.oms.credentials import bearer_token, secret, ssl_context, tls_of
from strategy_runner.oms.grpc import GrpcOms
from strategy_runner.oms.grpc_channel import credentials_for

if TYPE_CHECKING:
    from strategy_runner.oms.interface import Oms


def open_elsewhere(client: str, spec: OmsSpec, environ: Mapping[str, str]) -> "Oms":
    """Connects to nobody yet. Raises ConfigurationError for an extra that is missing or a secret that cannot be read, and
    SafetyRefusal for plain text to another host."""
    tls = tls_of(spec.tls, environ, "oms.tls") if spec.tls.is_given else None
    if tls is not None:
        ssl_context(tls, "oms.tls")  # gRPC itself says of what cannot be used only that no handshaker could be created
    token = bearer_token(spec.token, environ)
    oms = GrpcOms(client, spec.endpoint, credentials=credentials_for(spec.endpoint, tls), token=token)
    nats = spec.nats
    if nats.server is None:
        return oms
    from strategy_runner.oms.nats_connection import NatsConnection
    from strategy_runner.oms.nats_oms import NatsOms

    wants_tls = nats.tls.is_given or nats.server.startswith("tls://")
    connection = NatsConnection(
        nats.server,
        user=nats.user or "",
        password=secret(nats.password, environ),
        token=secret(nats.token, environ),
        credentials=secret(nats.credentials, environ),
        tls=ssl_context(tls_of(nats.tls, environ, "oms.nats.tls"), "oms.nats.tls") if wants_tls else None,
    )
    return NatsOms(oms, connection, client)
