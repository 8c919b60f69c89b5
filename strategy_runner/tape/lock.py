"""A lock on a state folder: two processes never write the same state. The kernel frees it when its holder dies."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from strategy_runner.errors import LockedError, naming
from strategy_runner.small_files import open_made, read_whole

RETRY_INTERVAL_S = 0.01


class FolderLock:
    """Held from construction until the process ends or `release`."""

    def __init__(self, folder: Path, *, expected: str = "a free folder", orphans_s: float = 0.0) -> None:
        """Raises LockedError naming the folder, what was `expected` and the pid that holds it. Of a holder that has died its
        children may hold the lock for the moment they take to die: so long at most, `orphans_s`, it is waited for."""
        self._fd = open_made(folder / "lock", os.O_RDWR, 0o640)
        deadline = time.monotonic() + orphans_s
        while not self._taken():
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            if time.monotonic() >= deadline or _is_alive(holder):
                os.close(self._fd)
                raise LockedError(f"{folder}: expected {expected}, found it held by pid {holder or 'unknown'}")
            time.sleep(RETRY_INTERVAL_S)
        with naming(folder / "lock"):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)

    def _taken(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


def holder(folder: Path) -> int:
    """The process that holds a state folder, 0 if none does. It is not asked for its lock, which whoever starts may want at the
    same moment: who is named in the file and has it open is the one."""
    lock = folder / "lock"
    try:
        pid = int(read_whole(lock) or 0)
        real = lock.resolve()  # a folder on its way may lead to another disk
        return pid if any(_leads_to(link, real) for link in Path(f"/proc/{pid}/fd").iterdir()) else 0
    except (OSError, ValueError):
        return 0


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except OSError:
        return False


def _is_alive(holder: str) -> bool:
    """A zombie has ended, if its last threads may hold the lock for a moment more."""
    try:
        state = Path(f"/proc/{int(holder)}/stat").read_text().rpartition(")")[2].split()[0]
    except (ValueError, FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
