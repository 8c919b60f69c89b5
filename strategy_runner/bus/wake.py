"""Wakes a thread that waits for sockets: the one thing that another thread may do to it."""

import os
import threading


class Wake:
    """An eventfd. `ring` may be called from any thread at any time, the rest by the one that waits."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = threading.Lock()

    @property
    def waitable(self) -> int:
        return self._fd

    def ring(self) -> None:
        with self._closing:  # or it would ring at a file that has got the number since
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def hush(self) -> bool:
        """Forgets all rings so far; whether there were any."""
        try:
            return os.eventfd_read(self._fd) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        with self._closing:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
