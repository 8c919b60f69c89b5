"""A file that is replaced is the old one or the new one, and each way of replacing it syncs what it says."""

import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_limit import files_no_larger_than

from strategy_runner.config.spec import read_specs
from strategy_runner.feed.checkpoint import newest_checkpoint, oldest_checkpoint_seq
from strategy_runner.small_files import Synced, paths_below, paths_in, replace_file
from strategy_runner.tape import files

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
    with files_no_larger_than(len(NEW) // 2), pytest.raises(OSError, match=f"File too large: '{path}'"):
        replace_file(path, NEW, synced="content")
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


def test_a_folder_is_listed_by_name_and_one_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "a.json.new", "c.txt"):
        (tmp_path / name).touch()
    assert paths_in(tmp_path, suffix=".json") == [tmp_path / "a.json", tmp_path / "b.json"]
    assert paths_in(tmp_path, "a.json.") == [tmp_path / "a.json.new"]
    assert paths_in(tmp_path / "gone") == paths_in(tmp_path / "c.txt") == []


def test_a_pattern_finds_what_glob_finds_and_tells_of_each_folder_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("b/live/lock", "a/mock/lock", "a/live/lock", "a/live/lock.new", "c", ".d/live/lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("*/*/lock", "*/live/lock", "a/*/lock*", "*", "gone/*", "c/*", "c/lock", "a/live"):
        assert paths_below(tmp_path, pattern) == sorted(tmp_path.glob(pattern)), pattern
    (tmp_path / "a" / "dangling").mkdir()
    (tmp_path / "a" / "dangling" / "lock").symlink_to("nowhere")  # which glob finds from Python 3.13 on
    assert paths_below(tmp_path, "a/*/lock")[0] == tmp_path / "a" / "dangling" / "lock"
    (tmp_path / "e").symlink_to("e")
    unreadable: list[OSError] = []
    assert (
        len(paths_below(tmp_path, "*/live/lock", unreadable)) == len(paths_below(tmp_path, "*/*/lock", unreadable)) - 2
    )
    assert [Path(error.filename) for error in unreadable] == [tmp_path / "e" / "live", tmp_path / "e"]
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        paths_below(tmp_path, "*/live/lock")


@pytest.mark.parametrize(
    "read",
    [
        files.segments,
        lambda folder: newest_checkpoint(folder, 1 << 40),
        oldest_checkpoint_seq,
        read_specs,
        lambda folder: paths_below(folder.parent, f"{folder.name}/*/lock"),
    ],
    ids=["segments", "newest checkpoint", "oldest checkpoint", "specifications", "what lies below"],
)
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    """A tape without segments, or a feed without checkpoints, would begin anew."""
    spare = os.open(tmp_path, os.O_RDONLY)
    os.close(spare)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))  # not one descriptor more
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
