"""Which names a power cut leaves in a folder, for tests: those of its last sync, each with what stood there then."""

import os
from pathlib import Path
from typing import Any

import pytest


class DiskNames:
    """Looks on while folders are synced. Contents of the files count as synced: their own syncs are not what is asked about."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._synced: dict[Path, dict[str, bytes]] = {}
        self._sync = os.fsync
        patch.setattr(os, "fsync", self._look)

    def cut(self, folder: Path, pattern: str) -> None:
        """Renames and removals in a folder since its last sync did not happen, for names of this pattern."""
        on_disk = self._synced.get(folder, {})
        for path in folder.glob(pattern):
            path.unlink()
        for name, content in on_disk.items():
            if Path(name).match(pattern):
                (folder / name).write_bytes(content)

    def _look(self, fd: Any) -> None:
        self._sync(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115  as the ledger of faults does
        if path.is_dir():
            self._synced[path] = {found.name: found.read_bytes() for found in path.iterdir() if found.is_file()}
