"""Request and answer over ZeroMQ: one msgpack value each way, for questions that are asked now and then."""

from typing import Any

import msgspec
import zmq

from strategy_runner.bus.context import Context
from strategy_runner.errors import NotRunningError, TimeoutExpiredError

REQUEST_BYTES_MAX = 1 << 20


class RequestServer:
    """Answers one request at a time."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        self._socket.bind(endpoint)

    def receive(self, timeout_ms: int) -> Any | None:
        """The next request, or None if none came; after a request `answer` must follow. No msgpack is answered with nil."""
        if not self._socket.poll(timeout_ms):
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

    def close(self) -> None:
        self._socket.close()


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
