"""A connection to NATS from code that does not know asyncio: nats-py runs in one thread of its own. Needs the extra [nats].

It survives the server: it reconnects for ever, and meanwhile every call fails after its time limit.
"""

import asyncio
import concurrent.futures
import contextlib
import importlib
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from strategy_runner.config.wire_rules import is_local_url
from strategy_runner.errors import ConfigurationError, SafetyRefusal
from strategy_runner.oms.interface import OmsUnavailable

try:
    import nats.errors
    from nats.aio.client import Client, RawCredentials
    from nats.js import JetStreamContext
except ImportError as missing:
    raise ConfigurationError(
        f"OMS events over NATS: expected the package of the extra [nats], found no {missing.name}; "
        "install strategy-runner[nats]"
    ) from missing

TIMEOUT_S = 2.0
_RECONNECT_WAIT_S = 0.1
_CONNECT_TIMEOUT_S = 1
_PING_INTERVAL_S, _PINGS_UNANSWERED_MAX = 1, 2  # the library would ask a dead connection for minutes
_CREDENTIALS = re.compile(r"-BEGIN NATS USER JWT-+\n\S+\n.*-BEGIN USER NKEY SEED-+\n(\S+)\n", re.DOTALL)
_FAULTS = (nats.errors.Error, TimeoutError, OSError)
_T = TypeVar("_T")


class _GuardedClient(Client):
    """Says nothing before the wire is what it is to be. The library goes over to TLS only where the server's first line asks for
    it, which comes in plain text, and reconnects to whatever other servers that line names."""

    def _connect_command(self) -> bytes:
        assert self._current_server is not None
        server = self._current_server.uri.geturl()
        needs_tls = "tls" in self.options or not is_local_url(server)
        if needs_tls and not self._server_info.get("tls_required"):
            raise nats.errors.Error(f"expected TLS, found plain text at {server}")
        return super()._connect_command()


class NatsConnection:
    """`run` and `spawn` take coroutines from any other thread."""

    def __init__(
        self,
        server: str,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        credentials: str = "",
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`credentials` is the text of a NATS credentials file. Connects with the first call that needs it. Raises SafetyRefusal
        for a server on another host without TLS: what it tells, and what says who asks, must not be readable on a network; and
        ConfigurationError for credentials that are none."""
        if credentials:
            _check_credentials(credentials)
        if tls is None and not is_local_url(server):
            raise SafetyRefusal(f"{server}: expected TLS for a NATS server on another host, found none")
        self.server = server
        self.timeout_s = timeout_s
        self._user = user
        self._password = password
        self._token = token
        self._credentials = credentials
        self._tls = tls
        self._client: Client | None = None
        self._problem = ""
        self._connecting = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    async def stream(self) -> JetStreamContext:
        """JetStream of the connected client. For coroutines that `run` and `spawn` take."""
        async with self._connecting:
            if self._client is None:
                client = _GuardedClient()
                await client.connect(
                    self.server,
                    user=self._user or None,
                    password=self._password or None,
                    token=self._token or None,
                    user_credentials=RawCredentials(self._credentials) if self._credentials else None,
                    tls=self._tls,
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    ping_interval=_PING_INTERVAL_S,
                    max_outstanding_pings=_PINGS_UNANSWERED_MAX,
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # any number does, says asyncio.sleep
                    max_reconnect_attempts=-1,
                    error_cb=self._note,
                )
                self._client = client
        return self._client.jetstream(timeout=self.timeout_s)

    def run(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Waits for what the coroutine gives, at most the time limit. Raises OmsUnavailable."""
        self._problem = ""
        future = self.spawn(_within(call(), self.timeout_s))
        try:
            return future.result()
        except _FAULTS as error:
            problem = self._problem or str(error) or f"expected an answer within {self.timeout_s:g} s, found none"
            raise OmsUnavailable(f"{self.server}: {problem}") from None

    def spawn(self, coroutine: Coroutine[Any, Any, _T]) -> "concurrent.futures.Future[_T]":
        """Lets it run, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        self.spawn(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._client is not None:
            # the connection was lost; from 3.13 on asyncio tells of it by one of the last two
            with contextlib.suppress(*_FAULTS, TypeError, AttributeError):
                await self._client.close()

    async def _note(self, error: Exception) -> None:
        """What fails in the background is tried again, or shows as a call without an answer: then this is why."""
        self._problem = str(error) or self._problem


async def _within(coroutine: Awaitable[_T], timeout_s: float) -> _T:
    return await asyncio.wait_for(coroutine, timeout_s)


def _check_credentials(text: str) -> None:
    """The library does not: for a JWT that is not there it looks without end. Raises ConfigurationError."""
    try:
        nkeys: Any = importlib.import_module("nkeys")
    except ImportError as missing:
        raise ConfigurationError(
            f"oms.nats.credentials: expected the packages of the extra [nats], found no {missing.name}; "
            "install strategy-runner[nats]"
        ) from missing
    found = _CREDENTIALS.search(text)
    try:
        is_sound = found is not None and bool(nkeys.from_seed(bytearray(found[1].encode())))
    except (nkeys.NkeysError, ValueError):
        is_sound = False
    if not is_sound:
        raise ConfigurationError(
            "oms.nats.credentials: expected the text of a NATS credentials file, with a user's JWT and seed, "
            "found something else (not shown)"
        )
