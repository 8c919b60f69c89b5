"""Checkpoints and power cuts: whatever is lost, one is left that the feed can go on from."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from disk_names import DiskNames
from feed_here import head_of, running, take_records, turn_until
from feed_process import PATIENCE_S, FeedProcess, contents, cut_the_power, mock_spec, streams_of

from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed import feed as feed_module
from strategy_runner.feed.checkpoint import Checkpoint, newest_checkpoint, remove_lost, write_checkpoint

ONE, TWO = streams_of(("BTC-USD",)), streams_of(("BTC-USD", "ETH-USD"))
CHECKPOINT = "*.checkpoint"
FROM_NOW = msgspec.structs.replace(
    mock_spec(0, speed=200.0), start_ns=0
)  # another market at each start but for its state


@pytest.fixture
def home() -> Iterator[FeedProcess]:
    with FeedProcess(ONE, mock=FROM_NOW, segment_records=256) as home:
        yield home


def checkpoints(home: FeedProcess) -> list[int]:
    return sorted(int(path.stem) for path in Path(home.spec.folder).glob(CHECKPOINT))


def check_goes_on(home: FeedProcess) -> None:
    """In another boot it makes the same records again, or it would not start, and adds to them."""
    head = head_of(home)
    head.boot = 1
    before = contents(home.reader())[: head.durable]
    with running(home) as feed:
        take_records(home, feed, 20)
    assert contents(home.reader())[: len(before)] == before


def test_the_checkpoint_of_a_first_start_outlives_a_power_cut(
    home: FeedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tape was durable and its source's state was not: another market came, and no feed started any more."""
    disk = DiskNames(monkeypatch)
    with running(home) as feed:
        take_records(home, feed, 50)
    disk.cut(Path(home.spec.folder), CHECKPOINT)
    assert checkpoints(home) == [0]
    check_goes_on(home)


def test_the_checkpoint_of_streams_added_outlives_a_power_cut(
    home: FeedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskNames(monkeypatch)
    with running(home) as feed:
        take_records(home, feed, 50)
        feed.reload(with_streams(home.spec, TWO))
        at = checkpoints(home)[-1]
        take_records(home, feed, 50)
    disk.cut(Path(home.spec.folder), CHECKPOINT)
    assert checkpoints(home) == [0, at]
    check_goes_on(home)


def with_streams(spec: FeedSpec, streams: tuple[str, ...]) -> FeedSpec:
    return msgspec.structs.replace(spec, streams=streams)


def test_no_power_cut_brings_a_checkpoint_back_whose_records_retention_has_removed(
    home: FeedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "CHECKPOINT_RECORDS", 200)
    monkeypatch.setattr(feed_module, "RETENTION_INTERVAL_S", 0.0)
    home.spec = msgspec.structs.replace(
        home.spec, beat_interval_s=0.01, tape=msgspec.structs.replace(home.spec.tape, retention_gb=3e-5)
    )
    disk = DiskNames(monkeypatch)
    with running(home) as feed:
        head = head_of(home)
        turn_until(feed, lambda: head.first > 0)
    disk.cut(Path(home.spec.folder), CHECKPOINT)
    assert checkpoints(home)[0] >= head.first
    head.boot = 1
    with running(home) as feed:
        take_records(home, feed, 20)


@pytest.mark.parametrize(
    ("durable", "left"),
    [(0, [0, 100, 200, 300, 400]), (199, [100, 200, 300, 400]), (300, [300, 400]), (400, [300, 400])],
)
def test_the_newest_two_are_kept_and_all_from_the_newest_on_that_no_power_cut_can_take(
    tmp_path: Path, durable: int, left: list[int]
) -> None:
    for seq in range(0, 500, 100):
        write_checkpoint(tmp_path, at(seq), durable=min(seq, durable))
    assert sorted(int(path.stem) for path in tmp_path.glob(CHECKPOINT)) == left
    assert newest_checkpoint(tmp_path, durable) is not None


@pytest.mark.parametrize("content", [b"", bytes(4), bytes(5)])
def test_an_empty_checkpoint_leaves_the_older_one(tmp_path: Path, content: bytes) -> None:
    write_checkpoint(tmp_path, at(5), durable=5)
    (tmp_path / f"{9:015d}.checkpoint").write_bytes(content)
    remove_lost(tmp_path, [(1, 7)])
    assert newest_checkpoint(tmp_path, 10) == at(5)


def at(seq: int) -> Checkpoint:
    return Checkpoint(seq=seq, streams=(), source={}, derivations={}, clock_ns=0)


@pytest.mark.parametrize("is_wider", [False, True])
def test_a_power_cut_while_the_disk_is_behind_leaves_a_checkpoint_to_go_on_from(
    home: FeedProcess, monkeypatch: pytest.MonkeyPatch, is_wider: bool
) -> None:
    """Both that were kept lay above the durable mark; the cut took them, and no feed started any more. Nor did one, if records
    were left of streams that were added meanwhile and no checkpoint that told of them."""
    monkeypatch.setattr(feed_module, "CHECKPOINT_RECORDS", 100)
    goes_on, sync = threading.Event(), os.fdatasync

    def behind(fd: int) -> None:
        if threading.current_thread().name == "durable" and head.durable:
            goes_on.wait(PATIENCE_S)
        sync(fd)

    with running(home) as feed:
        head = head_of(home)
        turn_until(feed, lambda: head.durable >= 150)
        monkeypatch.setattr(os, "fdatasync", behind)
        take_records(home, feed, 150)
        durable = lost_from = head.durable
        if is_wider:
            feed.reload(with_streams(home.spec, TWO))
            lost_from = head.count + 50
        take_records(home, feed, 450)
        on_disk = {path: path.read_bytes() for path in Path(home.spec.folder).glob(CHECKPOINT)}
        assert head.durable == durable < head.count - 300
        goes_on.set()
    for path in Path(home.spec.folder).glob(CHECKPOINT):
        path.unlink()
    for path, content in on_disk.items():
        path.write_bytes(content)
    cut_the_power(home.tape, lost_from=lost_from)
    head.durable = durable
    check_goes_on(home)
