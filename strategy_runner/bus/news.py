"""News over ZeroMQ: one publisher tells, whoever listens hears; what is lost on the way is asked for elsewhere.

PUB -> SUB    two frames: topic, which ends with NUL since subscriptions match by prefix; the news
"""

import zmq

from strategy_runner.bus.call import Waitable, keep_to_owner
from strategy_runner.bus.context import Context

_QUEUE_FRAMES = 10_000


class NewsPublisher:
    """Tells. For a listener that lags `_QUEUE_FRAMES` behind, what comes next is dropped."""

    def __init__(self, context: Context, endpoint: str) -> None:
        """Binds; an ipc socket is its owner's alone."""
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._socket.bind(endpoint)
        keep_to_owner(endpoint)

    def tell(self, topic: bytes, news: bytes) -> None:
        """Never blocks."""
        self._socket.send_multipart([topic, news], zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()


class NewsListener:
    """Hears the news of one topic, of a publisher that may come and go."""

    def __init__(self, context: Context, endpoint: str, topic: bytes, *, frame_bytes_max: int) -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes_max)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_FRAMES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
        self._socket.subscribe(topic)
        self._socket.connect(endpoint)

    @property
    def waitable(self) -> Waitable:
        return self._socket

    def wait(self, timeout_ms: int) -> bool:
        """True when there is news."""
        return bool(self._socket.poll(timeout_ms))

    def hear(self, limit: int) -> list[bytes]:
        """News that has come, at most `limit` pieces of it. Never blocks."""
        news: list[bytes] = []
        try:
            while len(news) < limit:
                news.append(self._socket.recv_multipart(zmq.NOBLOCK)[-1])
        except zmq.Again:
            pass
        return news

    def close(self) -> None:
        self._socket.close()
