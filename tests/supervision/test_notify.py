"""What a service manager hears."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from strategy_runner.supervision.notify import ServiceNotifier


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0strategy-runner-test-{os.getpid()}")
        heard.setblocking(False)
        yield heard


def address(manager: socket.socket) -> str:
    return "@" + manager.getsockname()[1:].decode()


def everything(manager: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(64))
        except BlockingIOError:
            return messages


def test_ready_and_stopping_are_said_once(manager: socket.socket) -> None:
    notifier = ServiceNotifier(address(manager), watchdog_s=0.0)
    for _ in range(3):
        notifier.ready()
    for _ in range(3):
        notifier.stopping()
    assert everything(manager) == [b"READY=1", b"STOPPING=1"]


def test_the_watchdog_is_fed_at_half_its_interval(manager: socket.socket) -> None:
    now_s = [100.0]
    notifier = ServiceNotifier(address(manager), watchdog_s=10.0, clock=lambda: now_s[0])
    for now_s[0] in (100.0, 101.0, 104.9, 105.0, 109.9, 110.0):
        notifier.beat()
    assert everything(manager) == [b"WATCHDOG=1"] * 3


def test_without_a_watchdog_there_is_no_beat(manager: socket.socket) -> None:
    ServiceNotifier(address(manager), watchdog_s=0.0).beat()
    assert everything(manager) == []


def test_the_variables_are_taken_from_the_environment_so_that_no_child_sees_them(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": address(manager), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = ServiceNotifier.from_environment(environment)
    assert environment == {}
    notifier.beat()
    assert everything(manager) == [b"WATCHDOG=1"]


def test_a_watchdog_meant_for_another_process_is_not_fed(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": address(manager), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    ServiceNotifier.from_environment(environment).beat()
    assert everything(manager) == []


def test_a_manager_that_has_gone_is_no_error(tmp_path: Path) -> None:
    ServiceNotifier(str(tmp_path / "nobody"), watchdog_s=1.0).ready()


def test_without_a_manager_nothing_is_sent() -> None:
    notifier = ServiceNotifier.from_environment({})
    notifier.ready()
    notifier.beat()
