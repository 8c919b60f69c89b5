"""Calls over ZeroMQ: many callers ask one server, each answer finds its caller, and nobody waits for ever.

    DEALER or REQ -> ROUTER    one frame: the question          (a REQ adds an empty frame before it)
    ROUTER -> DEALER or REQ    one frame: its answer

Every queue has a limit. A caller whose answer does not come throws its socket away, so that a late answer can never be
taken for that of a later question.
"""

import time
from pathlib import Path
from typing import TypeAlias

import zmq

from strategy_runner.bus.context import Context

_IPC = "ipc://"
_QUEUE_FRAMES = 1_000
_RECONNECT_MS, _RECONNECT_MS_MAX = 20, 250

Route = tuple[bytes, ...]
Waitable: TypeAlias = "zmq.Socket[bytes] | int"  # a socket, or a file descriptor


class CallServer:
    """Takes questions and answers each when it likes. Frames above `frame_bytes_max` end their caller's connection."""

    def __init__(self, context: Context, endpoint: str, *, frame_bytes_max: int) -> None:
        """Binds; an ipc socket is its owner's alone."""
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes_max)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.bind(endpoint)
        keep_to_owner(endpoint)

    @property
    def waitable(self) -> Waitable:
        return self._socket

    def receive(self, limit: int) -> list[tuple[Route, bytes]]:
        """Questions that have come, at most `limit` of them, each with the way back. Never blocks."""
        questions: list[tuple[Route, bytes]] = []
        try:
            while len(questions) < limit:
                *route, question = self._socket.recv_multipart(zmq.NOBLOCK)
                questions.append((tuple(route), question))
        except zmq.Again:
            pass
        return questions

    def answer(self, route: Route, answer: bytes) -> None:
        """Never blocks: to a caller that has gone, or takes no answers, it is lost, as on any wire."""
        try:
            self._socket.send_multipart([*route, answer], zmq.NOBLOCK)
        except zmq.Again:
            return

    def close(self) -> None:
        self._socket.close()


class Caller:
    """One caller. After a call that gave None only `close` may follow."""

    def __init__(self, context: Context, endpoint: str, *, frame_bytes_max: int) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes_max)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS_MAX)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a server that is not there
        self._socket.connect(endpoint)

    def call(self, question: bytes, deadline: float) -> bytes | None:
        """The answer, or None if none came before `deadline`, of time.monotonic."""
        if not self._socket.poll(_left_ms(deadline), zmq.POLLOUT):
            return None
        try:
            self._socket.send(question, zmq.NOBLOCK)
        except zmq.Again:  # the connection ended between the two lines
            return None
        if not self._socket.poll(_left_ms(deadline), zmq.POLLIN):
            return None
        return self._socket.recv_multipart(zmq.NOBLOCK)[-1]

    def close(self) -> None:
        self._socket.close()


def wait_for_any(timeout_ms: int, *waitables: Waitable) -> bool:
    """True as soon as one of them has something to receive, False after the time given."""
    poller = zmq.Poller()
    for waitable in waitables:
        poller.register(waitable, zmq.POLLIN)
    return bool(poller.poll(timeout_ms))


def keep_to_owner(endpoint: str) -> None:
    """Takes a socket's file from everybody but its owner."""
    if endpoint.startswith(_IPC):
        Path(endpoint.removeprefix(_IPC)).chmod(0o600)


def _left_ms(deadline: float) -> int:
    return max(0, int((deadline - time.monotonic()) * 1e3))
