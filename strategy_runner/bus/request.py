"""Request and answer over ZeroMQ: one msgpack value each way, for questions that are asked now and then."""

from typing import Any

import msgspec
import zmq

from strategy_runner.bus.context import Context
from strategy_runner.bus.wake import Wake
from strategy_runner.errors import NotRunningError, TimeoutExpiredError

REQUEST_BYTES_MAX = 1 << 20


class RequestServer:
    """Answers one request at a time, in one thread; another one may `wake` it."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        self._socket.bind(endpoint)
        self._wake = Wake()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._wake.waitable, zmq.POLLIN)

    def receive(self, timeout_ms: int | None = None) -> Any | None:
        """The next request, or None if none came in time or before `wake`; after a request `answer` must follow. No msgpack is
        answered with nil."""
        if self._socket not in dict(self._poller.poll(timeout_ms)):
            return None
        try:
            *more, last = self._socket.recv_multipart()
            asked = None if more else msgspec.msgpack.decode(last)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            asked = None
        if asked is None:
            self.answer(None)
        return asked

    def answer(self, value: Any) -> None:
        self._socket.send(msgspec.msgpack.encode(value))

    def wake(self) -> None:
        """From now on nobody waits for a request."""
        self._wake.ring()

    def close(self) -> None:
        self._socket.close()
        self._wake.close()


def request(endpoint: str, value: Any, timeout_s: float) -> Any:
    """Asks once. Raises NotRunningError if nobody listens at the endpoint, TimeoutExpiredError if no answer comes."""
    context = zmq.Context(io_threads=1)
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        monitor = socket.get_monitor_socket(zmq.EVENT_CONNECTED)
        socket.connect(endpoint)
        if not monitor.poll(int(min(timeout_s, 2.0) * 1e3)):
            raise NotRunningError(f"{endpoint}: expected somebody who answers, found nobody listening")
        socket.disable_monitor()
        socket.send(msgspec.msgpack.encode(value))
        if not socket.poll(int(timeout_s * 1e3)):
            raise TimeoutExpiredError(f"{endpoint}: expected an answer within {timeout_s:g} s, found none")
        return msgspec.msgpack.decode(socket.recv())
    finally:
        # every socket, the monitor's too: one that stays open would make the end of the context wait for ever
        context.destroy(linger=0)
