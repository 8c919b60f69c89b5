"""Credentials of a NATS server in operator mode, for tests: keys of operator, accounts and user, and what each has signed."""

import base64
import hashlib
import os
from typing import Any

import msgspec
import nkeys

_NO_LIMIT = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    "wildcards": True,
}
_NO_LIMIT_OF_STREAMS = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def operator_mode() -> tuple[str, str]:
    """The server's configuration, and the text of the user's credentials file."""
    operator, user = _key(nkeys.PREFIX_BYTE_OPERATOR), _key(nkeys.PREFIX_BYTE_USER)
    account, system = _key(nkeys.PREFIX_BYTE_ACCOUNT), _key(nkeys.PREFIX_BYTE_ACCOUNT)
    own = _signed(operator, operator, {"type": "operator", "system_account": _name(system)})
    accounts = {
        _name(account): _signed(
            operator, account, {"type": "account", "limits": {**_NO_LIMIT, **_NO_LIMIT_OF_STREAMS}}
        ),
        _name(system): _signed(operator, system, {"type": "account", "limits": _NO_LIMIT}),
    }
    known = "\n".join(f"{name}: {jwt}" for name, jwt in accounts.items())
    config = f"operator: {own}\nsystem_account: {_name(system)}\nresolver: MEMORY\nresolver_preload: {{\n{known}\n}}\n"
    jwt = _signed(account, user, {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1})
    seed = user.seed.decode()
    text = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return config, text


def _key(kind: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), kind)))


def _name(key: Any) -> str:
    name: str = key.public_key.decode()
    return name


def _signed(issuer: Any, subject: Any, nats: dict[str, Any]) -> str:
    claims = {"iss": _name(issuer), "sub": _name(subject), "iat": 0, "name": "acme", "nats": {**nats, "version": 2}}
    digest = hashlib.sha256(msgspec.json.encode(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _url_safe(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    signed = f"{head}.{_url_safe(msgspec.json.encode(claims))}"
    return f"{signed}.{_url_safe(issuer.sign(signed.encode()))}"


def _url_safe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
