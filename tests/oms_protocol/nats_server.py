"""A real nats-server with JetStream for tests: on a free port of this host, its files in the test's folder."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PATIENCE_S = 20.0


class NatsServer:
    """Started, killed and started again at the same port, over the same files."""

    def __init__(self, folder: Path, *more: str) -> None:
        """`more` are words of its command line."""
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("no nats-server on this machine (Debian: apt-get install nats-server)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._words = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(folder / "jetstream"), *more]
        self._log = folder / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.01)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
