"""A full disk: the sink says so, shows nothing half-written, and goes on when there is space."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_limit import files_no_larger_than
from sink_contents import contents
from sink_decisions import log_of, open_sink

from strategy_runner.sinks.interface import Sink, SinkUnavailable

BATCH = 400
KINDS = pytest.mark.parametrize("kind", ["duckdb", "quantconnect"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def undisturbed(kind: str, folder: Path, count: int) -> object:
    sink = open_sink(kind, folder, lambda letter: None)
    sink.write(log_of(count))
    sink.close()
    return contents(kind, folder)


def fill(sink: Sink) -> int:
    """Write until the sink refuses; the cursor it had then. It is not asked again: asking repairs."""
    reached = sink.cursor()
    with pytest.raises(SinkUnavailable):
        while reached < 500 * BATCH:
            sink.write(log_of(BATCH, reached))
            reached += BATCH
    return reached


def whole_lines(folder: Path) -> bool:
    return all(path.read_bytes().endswith(b"\n") for path in folder.rglob("*.csv"))


@KINDS
def test_a_write_cut_short_leaves_nothing_half_written(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "limited"
    sink = open_sink(kind, folder, lambda letter: None)
    sink.write(log_of(BATCH))
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with files_no_larger_than(largest + 1_001):
        reached = fill(sink)
        assert whole_lines(folder)
    assert reached >= BATCH
    assert sink.cursor() == reached
    sink.write(log_of(BATCH, reached))
    sink.close()
    assert contents(kind, folder) == undisturbed(kind, tmp_path / "calm", reached + BATCH)


@KINDS
def test_a_full_disk_is_waited_out(kind: str, small_disk: Path, tmp_path: Path) -> None:
    folder = small_disk / "sink"
    sink = open_sink(kind, folder, lambda letter: None)
    reached = fill(sink)
    assert reached > 0
    assert whole_lines(folder)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert sink.cursor() >= reached
    reached = sink.cursor()
    sink.write(log_of(BATCH, reached))
    sink.close()
    assert contents(kind, folder) == undisturbed(kind, tmp_path / "calm", reached + BATCH)


@KINDS
def test_a_folder_that_cannot_be_made_is_unavailable_not_fatal(kind: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    sink = open_sink(kind, tmp_path / "taken", lambda letter: None)
    with pytest.raises(SinkUnavailable, match="taken"):
        sink.cursor()
    (tmp_path / "taken").unlink()
    assert sink.cursor() == 0
    sink.close()
