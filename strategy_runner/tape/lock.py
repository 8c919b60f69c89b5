"""A lock on a state folder: two processes never write the same state. The kernel frees it when its holder dies."""

import fcntl
import os
from pathlib import Path

from strategy_runner.errors import LockedError


class FolderLock:
    """Held from construction until the process ends or `release`."""

    def __init__(self, folder: Path) -> None:
        """Raises LockedError naming the folder and the pid that holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise LockedError(f"{folder}: expected a free folder, found it held by pid {holder or 'unknown'}") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
