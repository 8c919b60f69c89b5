"""A file that is replaced is the old one or the new one, and each way of replacing it syncs what it says."""

import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from strategy_runner.small_files import Synced, replace_file

OLD, NEW = b"old", b"new" * 40_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "word.json"
    found.write_bytes(OLD)
    return found


@pytest.mark.parametrize(
    ("synced", "expected"),
    [
        ("nothing", []),
        ("content", [(".word.json.new", OLD)]),
        ("name", [(".word.json.new", OLD), ("folder", NEW)]),
    ],
)
def test_the_content_is_synced_before_the_file_has_its_name_and_the_folder_after(
    path: Path, synced: Synced, expected: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, sync = [], os.fsync

    def look(fd: Any) -> None:
        sync(fd)
        what = Path(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115  as the ledger of faults does
        if what.is_file():
            assert what.read_bytes() == NEW
        seen.append(("folder" if what == path.parent else what.name, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", look)
    replace_file(path, NEW, synced=synced)
    assert seen == expected
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent) == ["word.json"]  # noqa: PTH208


def test_a_disk_that_takes_a_part_leaves_the_old_file_and_has_its_space_back(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{path}'"):
            replace_file(path, NEW, synced="content")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == ["word.json"]  # noqa: PTH208


def test_what_a_killed_process_left_is_written_over(path: Path) -> None:
    path.with_name(".word.json.new").write_bytes(NEW + b"more")
    replace_file(path, NEW, synced="nothing")
    assert path.read_bytes() == NEW


def test_a_file_has_the_permissions_asked_for_less_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(path, NEW, synced="nothing")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        replace_file(path, NEW, synced="nothing", permissions=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
