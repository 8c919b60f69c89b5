"""What the disk was really told to keep: inside a process of the product, every sync, rename and removal is written down.

A power cut takes what no sync covers. The harness does not believe the product about that: it wraps the system calls and
notes what they made durable, one line each, in a file that survives the process. `power.py` reads it when it cuts.

    sync INODE SIZE RECORDS     a file's first SIZE bytes; RECORDS is how many the tape had then, for segments
    shortened INODE SIZE        a file was cut to SIZE
    folder INODE                renames and removals in a folder
    moved PATH KEPT             a rename; KEPT is a link to what stood at PATH before, or -
    removed PATH KEPT           KEPT is a link to what was removed

Only calls made from Python are seen; DuckDB's own are not, and its files are left alone by a power cut.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategy_runner.model.record import SIZE, record_crc
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head

LEDGER = "ledger"
KEPT = "kept"
SYNC_S = 0.003  # the mean of what a sync takes more, since the home may lie in memory


class DiskWatch:
    """Wraps the calls of this process. `folder` holds the ledger and the links; `root` is the part of the disk it watches."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = str(root) + os.sep
        self._ledger = os.open(folder / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._links = 0
        self._luck = random.Random()
        self._link, self._unlink, self._replace, self._write = os.link, os.unlink, os.replace, os.write

    def install(self) -> None:
        os.fsync = self._syncing(os.fsync)  # type: ignore[assignment]  # the same but for the names of arguments
        os.fdatasync = self._syncing(os.fdatasync)  # type: ignore[assignment]
        os.replace = os.rename = self._moving  # type: ignore[assignment]
        os.unlink = os.remove = self._removing
        os.ftruncate = self._shortening(os.ftruncate)

    def _syncing(self, sync: Callable[[int], None]) -> Callable[[Any], None]:
        def synced(fd: Any) -> None:
            number = fd if isinstance(fd, int) else fd.fileno()
            found = os.fstat(number)
            path = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115  once for each sync: it should cost nothing
            records = _written(path, number) if path.endswith(".tape") else 0
            sync(fd)
            time.sleep(self._luck.expovariate(1.0 / SYNC_S))
            if os.path.isdir(path):  # noqa: PTH112
                self._note(f"folder {found.st_ino}")
            else:
                self._note(f"sync {found.st_ino} {found.st_size} {records}")

        return synced

    def _shortening(self, cut: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def shortened(fd: int, size: int) -> None:
            found = os.fstat(fd)
            cut(fd, size)
            if size < found.st_size:
                self._note(f"shortened {found.st_ino} {size}")

        return shortened

    def _moving(self, source: Any, target: Any, **more: Any) -> None:
        kept = self._keep(target)
        self._replace(source, target, **more)
        self._note_of(target, "moved", kept)

    def _removing(self, path: Any, **more: Any) -> None:
        kept = self._keep(path)
        self._unlink(path, **more)
        self._note_of(path, "removed", kept)

    def _keep(self, path: Any) -> str:
        if not self._is_watched(path):
            return "-"
        self._links += 1
        kept = self._folder / KEPT / f"{os.getpid()}-{self._links}"
        try:
            self._link(path, kept)
        except FileNotFoundError:
            return "-"
        return str(kept)

    def _note_of(self, path: Any, what: str, kept: str) -> None:
        if self._is_watched(path):
            self._note(f"{what} {os.fspath(path)} {kept}")

    def _is_watched(self, path: Any) -> bool:
        return str(os.fspath(path)).startswith(self._root)

    def _note(self, line: str) -> None:
        self._write(self._ledger, f"{line}\n".encode())


def _written(segment: str, fd: int) -> int:
    """Up to which seq a sync of a segment is about to write records: those published, and whole ones behind them that are
    written and not published yet."""
    path = Path(segment)
    seq, first = Head(head_path(path.parent)).count, int(path.stem[4:])
    while True:
        raw = os.pread(fd, SIZE, (seq - first) * SIZE) if seq >= first else b""
        if len(raw) < SIZE or record_crc(seq, raw) != int.from_bytes(raw[:4], "little"):
            return seq
        seq += 1
