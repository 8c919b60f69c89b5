"""Frames: the records themselves over ZeroMQ, for consumers without the files (a notebook, another host).

    XPUB     two frames: topic NUL, then one or more of (seq u64, record 80 bytes), in the order of seq;
             two frames: b"beat" NUL, then the number of records published (u64), which is the next seq, and epoch (u64)
    ROUTER   repair: a request of (first seq u64, last seq u64) is answered by one frame of the same (seq, record) pairs,
             at most REPAIR_RECORDS_MAX of them, beginning with the first that is still kept

Records of a topic that nobody subscribed to are not sent. A consumer that sees a gap in the seqs of a topic it holds alone
cannot tell loss from other streams; it asks for the range and keeps what is of its streams.
"""

import struct
from collections.abc import Callable

import zmq

from strategy_runner.bus.context import Context

_SEQ = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
REPAIR_RECORDS_MAX = 4096
_QUEUE_FRAMES = 512
_QUEUE_ANSWERS = 4  # of one consumer that does not read them: what is beyond is dropped, and asked for again
_REQUEST_BYTES_MAX = 256
_CHANGES_A_TURN = 64


class FramePublisher:
    """Sends records of subscribed topics, and answers repair requests."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._repair = context.socket(zmq.ROUTER)
        self._repair.setsockopt(zmq.LINGER, 0)
        self._repair.setsockopt(zmq.SNDHWM, _QUEUE_ANSWERS)
        self._repair.setsockopt(zmq.RCVHWM, _QUEUE_ANSWERS)
        self._repair.setsockopt(zmq.MAXMSGSIZE, _REQUEST_BYTES_MAX)
        self._repair.bind(endpoint.removesuffix(".sock") + "-repair.sock")
        self._topics: set[bytes] = set()

    @property
    def wanted(self) -> bool:
        """Somebody has subscribed to something."""
        return bool(self._topics)

    def wants(self, topic: bytes) -> bool:
        return any(topic.startswith(subscribed) for subscribed in self._topics)

    def send(self, topic: bytes, pairs: list[bytes]) -> None:
        """`pairs` are seq and record alternately, as bytes."""
        self._socket.send_multipart([topic, b"".join(pairs)], zmq.NOBLOCK)

    def beat(self, count: int, epoch: int) -> None:
        self._socket.send_multipart([b"beat\0", _PAIR.pack(count, epoch)], zmq.NOBLOCK)

    def turn(self, read: Callable[[int, int], list[bytes]]) -> int:
        """Takes some subscriptions and answers one repair request, so that no record waits for a consumer; `read` gives pairs
        of [first, last]. Returns the work done.

        A request may begin below what is kept: `read` begins with the first that is, and gives at most REPAIR_RECORDS_MAX.
        """
        work = 0
        while work < _CHANGES_A_TURN and self._socket.poll(0):
            change = self._socket.recv(zmq.NOBLOCK)
            if change[:1] == b"\1":
                self._topics.add(change[1:])
            elif change[:1] == b"\0":
                self._topics.discard(change[1:])
            work += 1
        if self._repair.poll(0):
            *route, request = self._repair.recv_multipart(zmq.NOBLOCK)
            if len(request) == _PAIR.size:
                first, last = _PAIR.unpack(request)
                self._repair.send_multipart([*route, b"".join(read(first, last))])
            work += 1
        return work

    def close(self) -> None:
        self._socket.close()
        self._repair.close()


def seq_bytes(seq: int) -> bytes:
    return _SEQ.pack(seq)
