"""What the harness found, each as a test that needs no luck."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oms import paper_build
from router.desk import CLIENT, GENERATION, body_of
from worker.build import Followers, new_tape, random_rows, worker_spec, write_rows

from strategy_runner.config.home import Home
from strategy_runner.feed.checkpoint import Checkpoint, newest_checkpoint, remove_lost, write_checkpoint
from strategy_runner.model.decision import Decision
from strategy_runner.model.order import Leg
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.model.stream import trades
from strategy_runner.router.journal import Journal
from strategy_runner.router.order_entry import Intended
from strategy_runner.router.order_journal import OrderJournal, order_log, read_orders
from strategy_runner.supervision.state_version import check_state_version
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Syncs and writes in their order, as `sync NAME` and `write NAME`."""
    seen: list[str] = []

    def seeing(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: Any, *more: Any) -> Any:
            number = fd if isinstance(fd, int) else fd.fileno()
            seen.append(f"{what} {Path(os.readlink(f'/proc/self/fd/{number}')).name}")  # noqa: PTH115
            return real(fd, *more)

        return call

    for name, what in (("fsync", "sync"), ("fdatasync", "sync"), ("pwrite", "write")):
        monkeypatch.setattr(os, name, seeing(what, getattr(os, name)))
    yield seen


def test_a_tapes_head_is_on_the_disk_before_its_first_record(tmp_path: Path, calls: list[str]) -> None:
    """A head without boot or epoch passed for a tape that needs no recovery, and records were written over."""
    TapeWriter(tmp_path / "tape", segment_records=1_024).close()
    assert "sync head" in calls and calls.index("sync tape") > calls.index("sync head")


def test_after_a_power_cut_the_mark_is_where_the_tape_ends_even_if_the_page_says_less(tmp_path: Path) -> None:
    """Workers that began before the first sync took their snapshots for ones above the mark, and began elsewhere."""
    writer = TapeWriter(tmp_path, segment_records=1_024)
    stream_id = writer.stream_id(trades("A"))
    for seq in range(100):
        writer.append(stream_id, 1_000 + seq, 1.0, 1.0, 1.0, 0.0, 0.0)
    writer.publish()
    writer.close()
    head = Head(files.head_path(tmp_path), writable=True)
    head.boot, head.durable = 1, 7
    TapeWriter(tmp_path, segment_records=1_024).close()
    assert (head.count, head.durable) == (100, 100)


def test_counts_that_a_power_cut_made_of_streams_that_are_none_do_not_stop_the_next_start(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path, segment_records=1_024)
    writer.append(writer.stream_id(trades("A")), 1_000, 1.0, 1.0, 1.0, 0.0, 0.0)
    writer.publish()
    writer.make_durable()
    writer.close()
    counts = files.counts_path(tmp_path)
    counts.write_bytes(random.Random(1).randbytes(counts.stat().st_size))
    Head(files.head_path(tmp_path), writable=True).boot = 1
    TapeWriter(tmp_path, segment_records=1_024).close()
    again = TapeWriter(tmp_path, segment_records=1_024)
    assert again.seq == 1
    again.close()


def test_a_checkpoint_of_records_that_a_power_cut_took_is_never_used_again(tmp_path: Path) -> None:
    """The tape passed its seq with other records, and from then on no feed could be started."""
    for seq, epoch in ((500, 1), (900, 1), (700, 2)):
        checkpoint = Checkpoint(seq=seq, epoch=epoch, streams=(), source={}, derivations={}, clock_ns=epoch)
        write_checkpoint(tmp_path, checkpoint, durable=1_000)
    remove_lost(tmp_path, [(2, 650)])
    found = newest_checkpoint(tmp_path, 1_000)
    assert found is not None and (found.seq, found.epoch) == (700, 2)


def test_a_workers_beginning_is_on_the_disk_before_its_first_signal(tmp_path: Path, calls: list[str]) -> None:
    """After a power cut it began elsewhere, under the numbers of signals that had been sent."""
    spec, tape = worker_spec(tmp_path), new_tape(tmp_path)
    write_rows(tape, random_rows(1, 30))
    followers = Followers()
    follower = followers.make(spec)
    calls.clear()
    while follower.turn():
        pass
    first = calls.index("write signals.log")
    assert "sync genesis.log" in calls[:first] and "sync snapshot.new" in calls[:first]
    assert "sync signals.log" in calls[:first], "or its header may be lost, and what follows not"
    assert "sync talk.X" in calls[:first], "the folder, or the snapshot's name may be lost"
    followers.close()


def test_the_version_of_the_state_is_on_the_disk_before_anything_else(tmp_path: Path, calls: list[str]) -> None:
    """Empty after a power cut, it was another version, and no daemon started."""
    (tmp_path / "var").mkdir()
    check_state_version(Home(tmp_path))
    assert calls[-2:] == ["sync .VERSION.new", "sync var"]


def test_a_bracket_of_whose_intents_a_power_cut_took_some_is_intended_whole_again(tmp_path: Path) -> None:
    """An entry was sent without its take profit; it might have been its stop loss."""
    legs: tuple[Leg, ...] = ("entry", "stop_loss", "take_profit")
    orders = tuple(paper_build.request(leg, leg=leg, bracket="entry") for leg in legs)
    envelope = Envelope(n=0, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=0, generation=GENERATION)
    body = body_of("talk.X", 0)
    decision = Decision(0, body.id, "accepted", "", 1, envelope, canonical(body), orders=orders)
    decisions = Journal(tmp_path)
    decisions.append([decision], {})
    decisions.close()

    def reopened() -> OrderJournal:
        return OrderJournal(tmp_path, tmp_path / "fills.log", CLIENT, paper_build.INSTRUMENTS)

    desk = reopened()
    desk.append([Intended(at_ns=1, order=order, decision=0) for order in orders])
    desk.close()
    path = order_log(tmp_path)
    ends = [end for end, _ in read_orders(path)]
    for end in ends:
        os.truncate(path, end)
        reopened().close()
        assert [entry.order for _, entry in read_orders(path) if isinstance(entry, Intended)] == list(orders)


@pytest.mark.parametrize("synced", [False, True])
def test_records_that_a_killed_feed_never_published_do_not_come_back_behind_those_of_the_next(
    tmp_path: Path, synced: bool
) -> None:
    """They were whole. A fill's record was written anew elsewhere, its old place was taken, and those behind it came back with
    the power: the feed went on behind the last of them, and a worker was never told of the first."""

    def feed(prices: list[float], *, published: bool, durable: bool) -> None:
        writer = TapeWriter(tmp_path, segment_records=1_024)
        stream_id = writer.stream_id(trades("A"))
        for price in prices:
            writer.append(stream_id, 1_000 + writer.seq, price, 1.0, 1.0, 0.0, 0.0)
        if published:
            writer.publish()
        if durable:
            writer.make_durable()
        writer.close()

    feed([1.0] * 10, published=True, durable=True)
    feed([2.0] * 5, published=False, durable=False)
    feed([3.0], published=True, durable=synced)
    Head(files.head_path(tmp_path), writable=True).boot = 1
    TapeWriter(tmp_path, segment_records=1_024).close()
    reader = TapeReader(tmp_path)
    assert [reader.record(seq).v0 for seq in range(reader.head.count)] == [1.0] * 10 + [3.0]
    assert Head(files.head_path(tmp_path)).count == 11
