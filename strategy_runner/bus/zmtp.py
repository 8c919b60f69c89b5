"""ZeroMQ's protocol between processes of one host, in the thread that uses it.

libzmq would do it in two threads of its own at each end, of which each ring wakes one before it wakes who waits for it, and a
thousand workers would have memory for both. A doorbell needs little: a hello, and then small frames one way. So this speaks
ZMTP 3.0 (rfc.zeromq.org/spec/23) over a UNIX socket, mechanism NULL, and any ZeroMQ socket may stand at the other end.

    Wire    connects, sends frames, and of what it is sent reads the hello: all that matters of a ring is that it rang
    Hub     binds, and has any number of lines to those that connect
"""

import logging
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCOUTQ
from typing import NamedTuple

from strategy_runner.bus.call import keep_to_owner

_IPC = "ipc://"
_COMMAND, _LONG = 0x04, 0x02  # flags of a frame
_LONG_FROM = 256
_GREETING_BYTES = 64
_SIGNATURE, _SIGNATURE_END, _VERSION, _MECHANISM = 0, 9, 10, slice(12, 32)  # where they stand in a greeting
_NULL = b"NULL".ljust(20, b"\0")
_HELLO_WAIT_S = 0.01  # the other side answers within a tenth of that, unless it is at work or stopped
_RETRY_S, _RETRY_S_MAX = 0.05, 1.0
_NOW = socket.MSG_DONTWAIT
_NOTHING = bytes(4)  # an int
_TAKEN_BYTES = 4096
_TIME = struct.Struct("@ll")  # struct timeval
_BACKLOG = 4_096  # workers that connect at once
_SEND_BUFFER_BYTES = 1  # the kernel makes it some 4 KB, each frame in which takes nearly 1 KB

log = logging.getLogger(__name__)


class Wire:
    """Connects to where somebody binds, or will bind; again after each end of the other side."""

    def __init__(
        self, endpoint: str, socket_type: str, first: bytes = b"", *, take: Callable[[int], None] = os.close
    ) -> None:
        """`endpoint` is ipc:// and a path, `socket_type` what this side is to ZeroMQ: SUB, PUSH. `first` are the frames that
        each connection begins with. `take` is given the descriptor that a hub's hello may bring, and owns it."""
        assert endpoint.startswith(_IPC), endpoint
        self.first = first
        self._take_given = take
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
            if self._answer is not None:
                return self._hear_hello(self._receive_hello())
            while (count := self._socket.recv_into(self._taken, 0, _NOW)) == _TAKEN_BYTES:
                pass
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

    def _receive_hello(self) -> bytes:
        """A part of it. Raises OSError, also at its end."""
        assert self._socket is not None
        came, given, _, _ = socket.recv_fds(self._socket, _TAKEN_BYTES, 1, _NOW | socket.MSG_CMSG_CLOEXEC)
        if not came:
            raise ConnectionError("it has ended")
        for fd in given:
            self._take_given(fd)
        return came

    def _hear_hello(self, came: bytes) -> bool:
        """Whether the other side is ready. Before it is, it takes nothing but our hello."""
        assert self._socket is not None and self._answer is not None
        self._answer += came
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


class Line:
    """One of those that have connected to a hub."""

    __slots__ = ("_is_greeted", "_is_ready", "_received", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = bytearray()
        self._is_greeted = False
        self._is_ready = False

    def send(self, frame: bytes) -> bool:
        """All of a small frame, or nothing of it where some are queued already, or nobody is there any more."""
        try:
            self._socket.send(frame, _NOW)
        except OSError:
            return False  # an end is heard of
        return True

    @property
    def has_unheard(self) -> bool:
        """Whether what was sent has still to be read at the other end."""
        return ioctl(self._socket, TIOCOUTQ, _NOTHING) != _NOTHING

    def receive(self, frame_bytes_max: int) -> Iterator[bytes]:
        """The bodies of frames that have come, at most _TAKEN_BYTES of them, so that who sends on keeps nobody from working.

        Raises EOFError at its end, ValueError at what is no frame, OSError.
        """
        try:
            taken = self._socket.recv(_TAKEN_BYTES, _NOW)
        except BlockingIOError:
            return
        if not taken:
            raise EOFError
        self._received += taken
        if self._is_greeted or self._hear_greeting():
            yield from self._frames(frame_bytes_max)

    def close(self) -> None:
        self._socket.close()

    def _hear_greeting(self) -> bool:
        greeting = self._received
        if len(greeting) < _GREETING_BYTES:
            return False
        is_ours = greeting[_SIGNATURE] == 0xFF and greeting[_SIGNATURE_END] == 0x7F and greeting[_VERSION] >= 3
        if not is_ours or greeting[_MECHANISM] != _NULL:
            raise ValueError("no greeting of ZMTP 3 without security")
        del greeting[:_GREETING_BYTES]
        self._is_greeted = True
        return True

    def _frames(self, frame_bytes_max: int) -> Iterator[bytes]:
        received, at = self._received, 0
        while len(received) - at >= 2:
            flags, body = received[at], at + 2
            size = received[at + 1]
            if flags & _LONG:
                body = at + 9
                if len(received) < body:
                    break
                size = int.from_bytes(received[at + 1 : body], "big")
            if size > frame_bytes_max:
                raise ValueError(f"a frame of {size} bytes")
            if len(received) < body + size:
                break
            at = body + size
            if flags & _COMMAND:
                self._is_ready = True  # the first is READY; those behind it ask for nothing that is done here
            elif self._is_ready:
                yield bytes(received[body:at])
            else:
                raise ValueError("a frame before READY")
        del received[:at]


class Heard(NamedTuple):
    """A frame that came, or with None the end of a line."""

    line: Line
    body: bytes | None


class Hub:
    """Binds; the socket is its owner's alone. All that happens on its lines happens inside `hear`."""

    def __init__(self, endpoint: str, socket_type: str, *, frame_bytes_max: int, given: int | None = None) -> None:
        """`endpoint` is ipc:// and a path, `socket_type` what this side is to ZeroMQ: XPUB, PULL. Its hello brings the descriptor
        `given`, which a ZeroMQ socket at the other end does not see. Raises OSError."""
        assert endpoint.startswith(_IPC), endpoint
        self._given = [] if given is None else [given]
        self._path = Path(endpoint.removeprefix(_IPC))
        self._hello = _greeting() + _ready(socket_type)
        self._frame_bytes_max = frame_bytes_max
        self._lines: dict[int, Line] = {}
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._path.unlink(missing_ok=True)
        self._door.bind(str(self._path))
        keep_to_owner(endpoint)
        self._door.listen(_BACKLOG)
        self._poll = select.epoll()
        # told once of each newcomer: one that cannot be let in, for want of descriptors, must not keep the loop awake
        self._poll.register(self._door, select.EPOLLIN | select.EPOLLET)

    @property
    def lines(self) -> Collection[Line]:
        return self._lines.values()

    @property
    def waitable(self) -> int:
        """A descriptor that can be read when `hear` has something to do."""
        return self._poll.fileno()

    def hear(self, timeout_ms: int = 0) -> list[Heard]:
        """What has come, or comes first within the time."""
        heard: list[Heard] = []
        for fd, _ in self._poll.poll(timeout_ms / 1e3):
            line = self._lines.get(fd)
            if line is None:
                self._let_in()
                continue
            try:
                for body in line.receive(self._frame_bytes_max):
                    heard.append(Heard(line, body))
            except (EOFError, ValueError, OSError) as error:
                if isinstance(error, ValueError):
                    log.warning("%s: somebody does not speak ZMTP: %s", self._path, error)
                del self._lines[fd]
                line.close()
                heard.append(Heard(line, None))
        return heard

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._poll.close()
        self._door.close()

    def _greet(self, connected: socket.socket) -> Line:
        line = Line(connected)
        try:
            socket.send_fds(connected, [self._hello], self._given)
        except OSError:  # that many descriptors are on their way (unix(7), ETOOMANYREFS), or an end, which is heard of
            line.send(self._hello)
        return line

    def _let_in(self) -> None:
        while True:
            try:
                connected, _ = self._door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("%s: cannot let in who connects: %s", self._path, error)
                return
            connected.setblocking(False)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._lines[connected.fileno()] = self._greet(connected)
            self._poll.register(connected, select.EPOLLIN)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame of a message of one."""
    if len(body) < _LONG_FROM:
        return bytes((flags, len(body))) + body
    return struct.pack(">BQ", flags | _LONG, len(body)) + body


def _greeting() -> bytes:
    """Signature, version 3.0, mechanism NULL, not the server of one."""
    return b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + _NULL + bytes(1) + bytes(31)


def _ready(socket_type: str) -> bytes:
    name, value = b"Socket-Type", socket_type.encode()
    body = b"\x05READY" + bytes((len(name),)) + name + struct.pack(">I", len(value)) + value
    return frame(body, _COMMAND)
