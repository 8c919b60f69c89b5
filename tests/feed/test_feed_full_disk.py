"""A full disk: the feed halts with everything kept that it published, lives on, and goes on by itself."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from feed_process import FeedProcess, check_whole, contents, mock_spec, streams_of

from strategy_runner.tape.head import Head

RECORDS = 45_000
STREAMS = streams_of(("BTC-USD",))
SEGMENT = 4_096


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of its own; `resize` is how it becomes larger."""
    with tempfile.TemporaryDirectory(prefix="sr", dir="/tmp") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # readers of this process may still hold files


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@pytest.fixture(scope="module")
def undisturbed() -> list[bytes]:
    with FeedProcess(STREAMS, mock=mock_spec(RECORDS), segment_records=SEGMENT) as feed:
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        return contents(feed.reader())


def check_standing_still(feed: FeedProcess, undisturbed: list[bytes]) -> int:
    """It lives, publishes nothing, and what it has published is kept and durable; how much that is."""
    feed.wait_halted()
    head = Head(feed.tape / "head")
    count, beat_ns = head.count, head.beat_ns
    feed.wait_beats(4)
    assert head.count == head.durable == count < len(undisturbed)
    assert head.beat_ns > beat_ns
    reader = feed.reader()
    assert contents(reader) == undisturbed[:count]
    check_whole(reader)
    status = feed.status()
    assert status.reason.startswith("disk full: goes on with 1 MB free")
    assert status.last_error == f"{feed.tape}: disk full: expected 1 MB of free space"
    return count


def test_a_full_disk_halts_the_feed_and_space_lets_it_go_on(disk: Path, undisturbed: list[bytes]) -> None:
    """Killed while it is halted it stands where it stood; in the end the tape is that of an undisturbed feed."""
    with FeedProcess(STREAMS, mock=mock_spec(RECORDS), segment_records=SEGMENT, below=disk) as feed:
        feed.start()
        count = check_standing_still(feed, undisturbed)
        feed.kill()
        feed.start()
        assert check_standing_still(feed, undisturbed) == count
        resize(disk, "7m")  # enough to go on, and to be full again
        feed.wait_records(count + 1)
        assert check_standing_still(feed, undisturbed) > count
        resize(disk, "64m")
        feed.wait_finished()
        assert feed.status().last_error == ""
        assert feed.stop() == 0
        assert contents(feed.reader()) == undisturbed
        check_whole(feed.reader())


def test_a_feed_that_finds_no_space_to_begin_with_waits_for_it(disk: Path, undisturbed: list[bytes]) -> None:
    resize(disk, "300k")
    with FeedProcess(STREAMS, mock=mock_spec(3_000), segment_records=SEGMENT, below=disk) as feed:
        feed.start()
        feed.wait_halted()
        feed.wait_beats(2)
        assert feed.status().reason == "disk full: waits for space to begin"
        assert "counts: expected 524288 bytes of free space" in feed.status().last_error
        resize(disk, "64m")
        feed.wait_finished()
        assert feed.stop() == 0
        found = contents(feed.reader())
        assert len(found) > 3_000
        assert found == undisturbed[: len(found)]


def test_a_halted_feed_stops_when_it_is_told_to(disk: Path) -> None:
    resize(disk, "300k")
    with FeedProcess(STREAMS, mock=mock_spec(RECORDS), segment_records=SEGMENT, below=disk) as feed:
        feed.start()
        feed.wait_halted()
        assert feed.stop() == 0


def test_streams_asked_for_while_the_disk_is_full_are_carried_when_there_is_space(disk: Path) -> None:
    added = ("ETH-USD/trade", "ETH-USD/bar.1m")
    with FeedProcess(STREAMS, mock=mock_spec(0), segment_records=SEGMENT, below=disk) as feed:
        feed.start()
        feed.wait_halted()
        count = Head(feed.tape / "head").count
        feed.rewrite((*STREAMS, *added))
        feed.wait_beats(4)
        assert Head(feed.tape / "head").count == count
        resize(disk, "9m")
        feed.wait_records(count + 1)
        feed.wait_halted()
        kinds = {stream.name for stream in feed.reader().all_streams()}
        assert kinds >= set(added)
        check_whole(feed.reader())
