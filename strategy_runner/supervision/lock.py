"""One daemon a home: a lock that the kernel drops with its holder, so that a crash never leaves it behind."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.errors import LockedError

# A child forked just before its daemon was killed holds the lock for the moment it takes to die.
WAIT_FOR_ORPHANS_S = 2.0
RETRY_INTERVAL_S = 0.01


@contextlib.contextmanager
def daemon_lock(home: Home) -> Iterator[None]:
    """Hold HOME/var/daemon/lock. Raises LockedError with the process id of the daemon that holds it."""
    path = home.daemon / "lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + WAIT_FOR_ORPHANS_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = os.pread(descriptor, 32, 0).decode().strip()
        if _is_alive(holder) or time.monotonic() > deadline:
            raise LockedError(f"{path}: expected no other daemon on this home, found process {holder or 'unknown'}")
        time.sleep(RETRY_INTERVAL_S)


def _is_alive(holder: str) -> bool:
    """A zombie holds no lock: it has only not been waited for."""
    try:
        state = Path(f"/proc/{int(holder)}/stat").read_text().rpartition(")")[2].split()[0]
    except (ValueError, FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
