"""The channel to an OMS over gRPC: what is tried again, how often, and over which wire it may go at all."""

import json
from typing import Any

import grpc

from strategy_runner.config.wire_rules import ON_THIS_HOST
from strategy_runner.errors import SafetyRefusal
from strategy_runner.oms.credentials import Tls
from strategy_runner.oms.protocol import ANSWER_BYTES_MAX

_SERVICE = "strategy_runner.oms.v1.Oms"
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS: tuple[tuple[str, Any], ...] = (
    (
        "grpc.service_config",
        json.dumps({"methodConfig": [{"name": [{"service": _SERVICE}], "retryPolicy": _RETRIES}]}),
    ),
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # what an attempt has to succeed: TLS with a distant host takes several ways there and back
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # of any ping: one that the library sends to measure the wire stands before ours, and has a minute otherwise
    ("grpc.http2.ping_timeout_ms", 2_000),
)
_NO_PROXY = ("grpc.enable_http_proxy", 0)


def credentials_for(address: str, tls: Tls | None = None) -> grpc.ChannelCredentials | None:
    """TLS, by the authorities that this host trusts where `tls` names none; without it none for an OMS on this host, to which no
    network leads."""
    if tls is not None:
        return grpc.ssl_channel_credentials(tls.root, tls.key, tls.certificate)
    return None if address.startswith(ON_THIS_HOST) else grpc.ssl_channel_credentials()


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """Connects with its first call. Raises SafetyRefusal for another host without credentials: orders, and what says who
    asks, must not be readable on a network. A proxy of the environment is for other hosts alone."""
    is_on_this_host = address.startswith(ON_THIS_HOST)
    options = (*_OPTIONS, _NO_PROXY) if is_on_this_host else _OPTIONS
    if credentials is not None:
        return grpc.secure_channel(address, credentials, options=options)
    if not is_on_this_host:
        raise SafetyRefusal(f"{address}: expected credentials (TLS) for an OMS on another host, found none")
    return grpc.insecure_channel(address, options=options)
