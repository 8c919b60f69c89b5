"""The side of a worker in a ZeroMQ connection on one host, in the worker's own thread.

libzmq would do it in two threads of its own, of which each ring wakes one before it wakes the worker, and both want memory.
A doorbell needs little: to say hello once and then send frames, or be woken by whatever comes. So this speaks ZMTP 3.0
(rfc.zeromq.org/spec/23) over a UNIX socket, mechanism NULL, and of what it is sent reads the hello: all that matters of a ring is
that it rang. At the other end libzmq binds.
"""

import select
import socket
import struct
import time

_IPC = "ipc://"
_COMMAND, _LONG = 0x04, 0x02  # flags of a frame
_LONG_FROM = 256
_GREETING_BYTES = 64
_HELLO_WAIT_S = 0.01  # libzmq answers within a tenth of that, unless its process is stopped
_RETRY_S, _RETRY_S_MAX = 0.05, 1.0
_NOW = socket.MSG_DONTWAIT
_TAKEN_BYTES = 4096
_TIME = struct.Struct("@ll")  # struct timeval


class Wire:
    """Connects to where somebody binds, or will bind; again after each end of the other side."""

    def __init__(self, endpoint: str, socket_type: str, first: bytes = b"") -> None:
        """`endpoint` is ipc:// and a path, `socket_type` what this side is to ZeroMQ: SUB, PUSH. `first` are the frames that
        each connection begins with."""
        assert endpoint.startswith(_IPC), endpoint
        self.first = first
        self._path = endpoint.removeprefix(_IPC)
        self._hello = _greeting() + _ready(socket_type)
        self._socket: socket.socket | None = None
        self._answer: bytearray | None = None  # the other side's hello, until it is whole
        self._poll = select.poll()
        self._taken = bytearray(_TAKEN_BYTES)
        self._retry_s, self._next_try = _RETRY_S, 0.0
        self._hello_by = 0.0
        # it was heard the last time that somebody waited; and the time that its receiving waits by itself
        self._is_busy = False
        self._receive_ms = 0
        self._connect()

    def send(self, frames: bytes) -> bool:
        """All of it or, where the other side has not read what was sent before or is not there, nothing. Up to 64 KB.

        Waits _HELLO_WAIT_S at most, and that only at the beginning of a connection.
        """
        while self._is_ready():
            assert self._socket is not None
            try:
                return self._socket.send(frames, _NOW) == len(frames)
            except BlockingIOError:
                return False
            except OSError:
                self.close()  # that one has ended: perhaps there is another
        return False

    def hear(self, timeout_ms: int) -> bool:
        """Whether anything has come within the time; all of it is taken. May return False earlier while nobody is there.

        A new connection counts as heard: what was rung for before it went to nobody. Where it rang the last time too it waits in
        the receipt itself, which is one call of the system instead of two; at the end of a quiet time it would be an exception.
        """
        if not self._is_busy or timeout_ms != self._receive_ms:
            return self._poll_for(timeout_ms) and self._take(timeout_ms)
        assert self._socket is not None
        try:
            if 0 < self._socket.recv_into(self._taken) < _TAKEN_BYTES:
                return True
        except BlockingIOError:
            self._is_busy = False
            return False
        except OSError:
            pass
        self._take(timeout_ms)  # there is more, or its end
        return True

    def close(self) -> None:
        """`send` and `hear` would connect again."""
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket.close()
            self._socket, self._is_busy, self._receive_ms = None, False, 0

    def _poll_for(self, timeout_ms: int) -> bool:
        """Whether there is something to receive within the time, or an end."""
        if self._socket is None and not self._connect():
            wait_s = self._next_try - time.monotonic()
            self._poll.poll(max(0, min(timeout_ms, 1 + int(1e3 * wait_s))))
            return False
        return bool(self._poll.poll(timeout_ms))

    def _take(self, timeout_ms: int) -> bool:
        """Takes what has come. True unless it is a part of the other side's hello."""
        assert self._socket is not None
        try:
            while (count := self._socket.recv_into(self._taken, 0, _NOW)) == _TAKEN_BYTES and self._answer is None:
                pass
            if self._answer is not None and count:
                return self._hear_hello(count)
        except BlockingIOError:
            return True
        except OSError:
            count = 0
        if not count:
            self.close()
        elif timeout_ms > 0:
            self._be_busy(timeout_ms)
        return True

    def _be_busy(self, timeout_ms: int) -> None:
        assert self._socket is not None
        if timeout_ms != self._receive_ms:
            self._socket.setblocking(True)
            time_limit = _TIME.pack(timeout_ms // 1000, timeout_ms % 1000 * 1000)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time_limit)
            self._receive_ms = timeout_ms
        self._is_busy = True

    def _is_ready(self) -> bool:
        """Whether frames may be sent."""
        if self._socket is None and not self._connect():
            return False
        while self._answer is not None and self._socket is not None:
            left_s = max(0.0, self._hello_by - time.monotonic())
            if not self._poll.poll(1e3 * left_s):
                return False
            self.hear(0)
        return self._socket is not None

    def _connect(self) -> bool:
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, _RETRY_S_MAX)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            one.connect(self._path)
            one.sendall(self._hello)
        except OSError:  # nobody is there, or too many come at once
            one.close()
            return False
        self._socket, self._answer, self._hello_by = one, bytearray(), now + _HELLO_WAIT_S
        self._poll.register(one, select.POLLIN)
        return True

    def _hear_hello(self, count: int) -> bool:
        """Whether the other side is ready. Before it is, it takes nothing but our hello."""
        assert self._socket is not None and self._answer is not None
        self._answer += self._taken[:count]
        body = _GREETING_BYTES + 2
        if len(self._answer) < body or len(self._answer) < body + self._answer[body - 1]:
            return False
        self._answer = None
        self._retry_s, self._next_try = _RETRY_S, 0.0
        try:
            self._socket.sendall(self.first, _NOW)
        except BlockingIOError as error:
            raise ConnectionError("it takes nothing") from error  # half of it is no beginning
        return True


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame of a message of one."""
    if len(body) < _LONG_FROM:
        return bytes((flags, len(body))) + body
    return struct.pack(">BQ", flags | _LONG, len(body)) + body


def _greeting() -> bytes:
    """Signature, version 3.0, mechanism NULL, not the server of one."""
    return b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(1) + bytes(31)


def _ready(socket_type: str) -> bytes:
    name, value = b"Socket-Type", socket_type.encode()
    body = b"\x05READY" + bytes((len(name),)) + name + struct.pack(">I", len(value)) + value
    return frame(body, _COMMAND)
