"""The lock of a state folder: one holder, named to whoever comes second, freed by any kind of death."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from strategy_runner.errors import LockedError
from strategy_runner.tape.lock import FolderLock, holder

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


_LEAVE_AN_ORPHAN = """
import os, sys
from pathlib import Path
from strategy_runner.tape.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


def test_children_of_a_holder_that_has_died_are_waited_for_and_one_that_lives_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LEAVE_AN_ORPHAN, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"forked\n"
        assert holder.wait(20) == 0
        with pytest.raises(LockedError, match=f"expected peace, found it held by pid {holder.pid}$"):
            FolderLock(tmp_path, expected="peace")
        threading.Timer(0.2, holder.stdin.close).start()
        lock = FolderLock(tmp_path, orphans_s=60.0)
    with pytest.raises(LockedError, match=f"held by pid {os.getpid()}$"):
        FolderLock(tmp_path, orphans_s=60.0)
    lock.release()


def test_a_holder_is_known_by_whatever_way_leads_to_its_folder(tmp_path: Path) -> None:
    folder, way = tmp_path / "folder", tmp_path / "way"
    way.symlink_to(folder, target_is_directory=True)
    assert holder(folder) == 0
    lock = FolderLock(folder)
    assert (holder(folder), holder(way)) == (os.getpid(), os.getpid())
    lock.release()
    assert holder(folder) == 0, "the file names whoever held it last"
