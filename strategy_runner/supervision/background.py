"""The daemon started in the background, for development: `up` returns when it answers, or says why it does not."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, TimeoutExpiredError

START_TIMEOUT_S = 60.0
LAST_LINES = 20


def spawn_background(home: Home, arguments: Sequence[str] = (), timeout_s: float = START_TIMEOUT_S) -> int:
    """Start a daemon that outlives the caller, and return its process id once it answers on its socket.

    `arguments` are further ones of `python -m strategy_runner.supervision.daemon`. Its output goes to
    HOME/var/daemon/daemon.log. Raises StrategyRunnerError with the last lines of it when the daemon ends,
    TimeoutExpiredError when it does not come up in time.
    """
    log = home.daemon / "daemon.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "strategy_runner.supervision.daemon", "--home", str(home.root), *arguments]
    # the daemon tells a service manager when it is ready; here we are the manager
    address = f"@strategy-runner-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("ab") as output:
        manager.bind("\0" + address[1:])
        written = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "NOTIFY_SOCKET": address},
        )
        _await_ready(process, manager, timeout_s, log, written)
    return process.pid


def _await_ready(
    process: "subprocess.Popen[bytes]", manager: socket.socket, timeout_s: float, log: Path, written: int
) -> None:
    ended = os.pidfd_open(process.pid)
    poller = select.poll()
    poller.register(ended, select.POLLIN)
    poller.register(manager, select.POLLIN)
    try:
        events = [descriptor for descriptor, _ in poller.poll(timeout_s * 1000)]
    finally:
        os.close(ended)
    if manager.fileno() in events:
        # the process lives on without us: Popen must not warn that it does
        process.returncode = 0
        return
    if not events:
        raise TimeoutExpiredError(
            f"{log}: expected the daemon to answer within {timeout_s:g} s, found{_tail(log, written)}"
        )
    raise StrategyRunnerError(f"{log}: the daemon ended with exit code {process.wait()}:{_tail(log, written)}")


def _tail(log: Path, written: int) -> str:
    lines = log.read_bytes()[written:].decode(errors="replace").splitlines()[-LAST_LINES:]
    return "\n" + "\n".join(lines) if lines else " nothing written"
