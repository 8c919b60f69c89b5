"""Retention in a feed that runs: what somebody may still need stays, whatever is damaged."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from feed_here import head_of, running, take_records, turn_until
from feed_process import FeedProcess, mock_spec, streams_of

from strategy_runner.feed import feed as feed_module
from strategy_runner.tape.logs import START
from strategy_runner.tape.status import APPLYING, State, StatusFile, read_status
from strategy_runner.worker.snapshot import Snapshot, write_snapshot

STATE_BYTE = 8
SNAPSHOT_SEQ, BEAT_NS = 24, 32  # where they stand on the page
SNAPSHOT_SEQ_AGAIN = 8 * (APPLYING + 2)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedProcess]:
    """Of a feed that wants to keep few records, and looks often at what it may remove; one worker has stopped."""
    monkeypatch.setattr(feed_module, "CHECKPOINT_RECORDS", 100)
    monkeypatch.setattr(feed_module, "RETENTION_INTERVAL_S", 0.0)
    mock = mock_spec(0, speed=200.0)
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock, segment_records=128) as home:
        home.spec = msgspec.structs.replace(
            home.spec,
            beat_interval_s=0.01,
            readers=(str(home.root / "*" / "status"),),
            tape=msgspec.structs.replace(home.spec.tape, retention_gb=2e-5),
        )
        yield home


def snapshot(seq: int) -> Snapshot:
    return Snapshot(
        generation="0badcafe",
        seq=seq,
        live_from=0,
        positions={},
        log_offset=START,
        n=0,
        signals=0,
        refusals=0,
        records=0,
        machine=b"",
    )


def stopped_worker(home: FeedProcess) -> Path:
    page = StatusFile(home.root / "worker" / "status")
    page.status.snapshot_seq = 1 << 40
    page.enter(State.STOPPED)
    return home.root / "worker" / "status"


def test_a_page_that_cannot_be_read_holds_records_back_and_ends_no_feed(
    home: FeedProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """One bit of a stopped worker's page ended the feed of all at every start."""
    page = stopped_worker(home)
    whole = page.read_bytes()
    page.write_bytes(whole[:STATE_BYTE] + bytes([whole[STATE_BYTE] ^ 8]) + whole[STATE_BYTE + 1 :])
    with running(home) as feed, caplog.at_level(logging.WARNING):
        head = head_of(home)
        take_records(home, feed, 1_000)
        assert head.first == 0, "who has the page may go on from anywhere"
        assert caplog.text.count(f"{page}: expected a status page") == 1
        page.write_bytes(whole)
        turn_until(feed, lambda: head.first > 0)


@pytest.mark.parametrize(("offset", "bit"), [(SNAPSHOT_SEQ, 40), (BEAT_NS, 60)], ids=["snapshot_seq", "beat"])
def test_a_flipped_bit_in_a_stopped_workers_page_takes_no_record_that_its_snapshot_needs(
    home: FeedProcess, offset: int, bit: int
) -> None:
    """The page has no checksum: it was believed, and the worker began anew."""
    page = stopped_worker(home)
    status = StatusFile(page)
    status.status.snapshot_seq = 50
    status.enter(State.STOPPED)
    write_snapshot(page.parent, snapshot(50))
    (page.parent / "copy.snapshot").touch()  # a person's
    raw = bytearray(page.read_bytes())
    raw[offset + bit // 8] ^= 1 << bit % 8
    raw[SNAPSHOT_SEQ_AGAIN : SNAPSHOT_SEQ_AGAIN + 8] = bytes(8)  # and more than that bit
    page.write_bytes(raw)
    found = read_status(page)
    assert found is not None and (found.snapshot_seq != 50 or found.beat_ns < 10**18)
    with running(home) as feed:
        head = head_of(home)
        take_records(home, feed, 1_000)
        assert head.first == 0
        write_snapshot(page.parent, snapshot(700))
        (page.parent / f"{50:015d}.snapshot").unlink(missing_ok=True)
        if offset == SNAPSHOT_SEQ:
            turn_until(feed, lambda: head.first > 0)
            assert head.first <= 700


@pytest.mark.parametrize("bit", [40, 62])
def test_a_flipped_bit_in_the_page_of_a_stopped_paper_oms_takes_no_record_that_it_has_still_to_read(
    home: FeedProcess, bit: int
) -> None:
    """It has no snapshots whose names could be asked: its books lost the fills of the records that were removed."""
    page = stopped_worker(home)
    status = StatusFile(page)
    status.status.snapshot_seq = 50
    status.enter(State.STOPPED)
    raw = bytearray(page.read_bytes())
    raw[SNAPSHOT_SEQ + bit // 8] ^= 1 << bit % 8
    page.write_bytes(raw)
    with running(home) as feed:
        head = head_of(home)
        take_records(home, feed, 1_000)
        assert head.first == 0
        status.status.snapshot_seq = 700
        status.write()
        turn_until(feed, lambda: head.first > 0)
        assert head.first <= 700


@pytest.mark.parametrize("what", ["a folder", "a link to itself", "a pipe"])
def test_what_stands_in_the_place_of_a_page_ends_no_feed(home: FeedProcess, what: str) -> None:
    page = stopped_worker(home)
    page.unlink()
    if what == "a folder":
        page.mkdir()
    elif what == "a pipe":
        os.mkfifo(page)
    else:
        page.symlink_to(page.name)
    with running(home) as feed:
        head = head_of(home)
        take_records(home, feed, 1_000)
        assert head.first == 0, "who has the page may go on from anywhere"


def test_a_page_that_cannot_be_read_and_is_older_than_the_tape_is_kept_holds_nothing_back(home: FeedProcess) -> None:
    page = stopped_worker(home)
    page.write_bytes(bytes(4_096))
    long_ago = time.time() - 3_600.0 * (home.spec.tape.retention_hours + 1.0)
    os.utime(page, (long_ago, long_ago))
    with running(home) as feed:
        head = head_of(home)
        turn_until(feed, lambda: head.first > 0)
