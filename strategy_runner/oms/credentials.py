"""Credentials for an OMS elsewhere: secret references become what a connection takes. What they hold is never shown.

References are read when a connection is made, in the process that makes it; a specification holds none of their values.
"""

import os
import ssl
from collections.abc import Mapping

import msgspec

from strategy_runner.config.schema import TlsConfig
from strategy_runner.config.secret import SecretReference
from strategy_runner.errors import ConfigurationError

_BEGIN = "-----BEGIN "


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM bytes. None is the authorities of this host, and nobody who asks. Its text shows nothing of them."""

    root: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    def __repr__(self) -> str:
        return "Tls(not shown)"


def secret(reference: SecretReference | None, environ: Mapping[str, str]) -> str:
    """ "" for none. Raises ConfigurationError."""
    return "" if reference is None else reference.resolve(environ)


def bearer_token(reference: SecretReference | None, environ: Mapping[str, str]) -> str:
    """What a header can hold, "" for none. Raises ConfigurationError."""
    text = secret(reference, environ)
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError("oms.token: expected one line of ASCII characters, found something else (not shown)")
    return text


def tls_of(config: TlsConfig, environ: Mapping[str, str], path: str) -> Tls:
    """`path` is that of the table, for errors. Raises ConfigurationError for what cannot be read, or is no PEM."""
    parts: dict[str, bytes] = {}
    for name in ("root", "certificate", "key"):
        text = secret(getattr(config, name), environ)
        if text and _BEGIN not in text:
            raise ConfigurationError(f"{path}.{name}: expected PEM (-----BEGIN ...), found something else (not shown)")
        if text:
            parts[name] = text.encode()
    return Tls(**parts)


def ssl_context(tls: Tls, path: str) -> ssl.SSLContext:
    """Of a client that checks the server's certificate and name. Raises ConfigurationError."""
    try:
        context = ssl.create_default_context(cadata=tls.root.decode("ascii", "ignore") if tls.root else None)
        if tls.certificate and tls.key:
            _load_chain(context, tls.certificate, tls.key)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ConfigurationError(
            f"{path}: expected certificates, and a key without passphrase that belongs to them, found {reason}"
        ) from None
    return context


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """ssl takes files alone: one in memory, that nobody else can open by a name."""
    memory = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(certificate + b"\n" + key + b"\n")
        context.load_cert_chain(
            f"/proc/self/fd/{memory}", password=""
        )  # else it would ask whoever sits at the terminal
    finally:
        os.close(memory)
