"""What systemd is told: ready, alive, stopping. One datagram each to the socket in NOTIFY_SOCKET (man 3 sd_notify)."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping

# systemd recommends half the interval (man 3 sd_watchdog_enabled)
BEATS_PER_INTERVAL = 2


class ServiceNotifier:
    """Speaks to a service manager, or to nobody when there is none. Never blocks and never fails."""

    def __init__(self, address: str, watchdog_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = _socket_address(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None
        self._beat_interval_s = watchdog_s / BEATS_PER_INTERVAL
        self._clock = clock
        self._next_beat_s = clock()
        self._said: set[str] = set()

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> "ServiceNotifier":
        """Takes the variables away, so that no child speaks in the daemon's name."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "0")
        watchdog_pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        meant_for_us = watchdog_pid == str(os.getpid())
        return cls(address, int(watchdog_us) / 1e6 if meant_for_us else 0.0)

    def ready(self) -> None:
        self._say_once("READY=1")

    def stopping(self) -> None:
        self._say_once("STOPPING=1")

    def beat(self) -> None:
        """Tell the watchdog that we live, as often as it needs to hear it."""
        now = self._clock()
        if self._beat_interval_s > 0 and now >= self._next_beat_s:
            self._next_beat_s = now + self._beat_interval_s
            self._send("WATCHDOG=1")

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._send(message)

    def _send(self, message: str) -> None:
        if self._socket is not None:
            # a manager that has gone, or whose queue is full, is no reason to stop trading
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)


def _socket_address(address: str) -> str:
    """A leading @ stands for the NUL of an abstract address."""
    return "\0" + address[1:] if address.startswith("@") else address
