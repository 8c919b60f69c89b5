"""The lock of a state folder: one holder, named to whoever comes second, freed by any kind of death."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strategy_runner.errors import LockedError
from strategy_runner.tape.lock import FolderLock

_HOLD = """
import sys
from pathlib import Path
from strategy_runner.tape.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(
                LockedError, match=f"folder: expected a free folder, found it held by pid {holder.pid}$"
            ):
                FolderLock(folder)
        finally:
            holder.kill()
    lock = FolderLock(folder)
    with pytest.raises(LockedError, match=f"held by pid {os.getpid()}$"):
        FolderLock(folder)
    lock.release()
    FolderLock(folder).release()
