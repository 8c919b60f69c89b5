"""Private entries on the tape: each gets one record, whatever is killed, and one client's trouble is nobody else's."""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feed_process import FeedProcess, cut_the_power, mock_spec, streams_of
from worker.build import START_NS
from worker.fill_desk import FillDesk

from strategy_runner.config.spec import PrivateSource
from strategy_runner.feed.private import PrivateLogs
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.private import PrivateEntry, Slot
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import private
from strategy_runner.tape.logs import START
from strategy_runner.worker.private_log import PrivateLog

PATIENCE_S = 30.0
WORKERS = ("swing.BTC-USD", "swing.ETH-USD", "trend.BTC-USD")


@pytest.fixture
def feed() -> Iterator[FeedProcess]:
    with FeedProcess(streams_of(["BTC-USD"]), mock=mock_spec(0, speed=20.0), segment_records=1024) as process:
        yield process


def desk_of(feed: FeedProcess, client: str = "acme", *, rings: bool = True) -> FillDesk:
    bell = feed.spec.market.private if rings else ""
    return FillDesk(feed.root / client / "fills.log", bell, client=client)


def source_of(desk: FillDesk) -> PrivateSource:
    return PrivateSource(client=desk.path.parent.name, path=str(desk.path))


def recorded(feed: FeedProcess, desk: FillDesk) -> dict[str, list[PrivateEntry]]:
    """By worker, the entries that its stream's records stand for, as the worker would read them."""
    reader, client = feed.reader(), desk.path.parent.name
    found: dict[str, list[PrivateEntry]] = {}
    for worker in WORKERS:
        key = WorkerKey.parse(f"{client}:{worker}")
        stream_id = reader.find(private(key))
        if stream_id is None:
            continue
        entries = PrivateLog(desk.path, key)
        for ordinal in range(reader.entries(stream_id)):
            fields = reader.fields(reader.seqs(stream_id, ordinal, ordinal + 1)[0], stream_id)
            assert fields[6] == Kind.PRIVATE
            found.setdefault(worker, []).append(entries.event(fields[2], *fields[8:13]).entry)
    return found


def slots_of(feed: FeedProcess) -> list[Slot]:
    """What the private records say, in their order."""
    reader = feed.reader()
    records = [reader.record(seq) for seq in range(reader.head.count)]
    return [Slot(one.v0, one.v1, one.v2, one.v3) for one in records if one.kind == Kind.PRIVATE]


def written(desk: FillDesk) -> dict[str, list[PrivateEntry]]:
    found: dict[str, list[PrivateEntry]] = {}
    for entry in desk.entries:
        found.setdefault(entry.worker, []).append(entry)
    return found


def await_that(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"expected within {PATIENCE_S:g} s: {what}"
        time.sleep(0.005)


def await_recorded(feed: FeedProcess, desk: FillDesk) -> None:
    await_that(lambda: recorded(feed, desk) == written(desk), "a record for each entry")


def test_each_entry_gets_one_record_on_its_worker_s_stream_in_the_order_of_the_log(feed: FeedProcess) -> None:
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    luck = random.Random(1)
    for _ in range(200):
        desk.fill(luck.choice(WORKERS), luck.choice(("buy", "sell")), "1")
    await_recorded(feed, desk)
    seqs = [
        feed.reader().record(seq).v3
        for seq in range(feed.reader().head.count)
        if feed.reader().record(seq).kind == Kind.PRIVATE
    ]
    assert seqs == list(map(float, range(200)))
    assert desk.path.stat().st_mode & 0o777 == 0o600


def test_what_nobody_rang_for_is_found_within_two_beats(feed: FeedProcess) -> None:
    desk = desk_of(feed, rings=False)
    desk.fill(WORKERS[0], "buy", "1")  # before the feed ever ran
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    await_recorded(feed, desk)
    desk.fill(WORKERS[1], "buy", "2")
    feed.wait_beats(3)
    assert recorded(feed, desk) == written(desk)


def test_a_feed_that_is_killed_again_and_again_loses_no_entry_and_doubles_none(feed: FeedProcess) -> None:
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    luck = random.Random(2)
    for _ in range(6):
        feed.start()
        feed.wait_ready()
        for _ in range(luck.randrange(1, 30)):
            desk.fill(luck.choice(WORKERS), "buy", "1")
        time.sleep(luck.random() * 0.05)  # anywhere: in the middle of what was rung for, or behind it
        feed.kill()
        desk.fill(luck.choice(WORKERS), "sell", "1")
    feed.start()
    feed.wait_ready()
    await_recorded(feed, desk)
    assert feed.stop() == 0
    feed.start()
    feed.wait_ready()
    feed.wait_beats(2)
    assert recorded(feed, desk) == written(desk)


def test_records_that_a_power_cut_took_are_made_again_from_the_log(feed: FeedProcess) -> None:
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    for number in range(40):
        desk.fill(WORKERS[number % 3], "buy", "1")
    await_recorded(feed, desk)
    feed.kill()
    reader = feed.reader()
    privates = [seq for seq in range(reader.head.count) if reader.record(seq).kind == Kind.PRIVATE]
    cut_the_power(feed.tape, lost_from=privates[10])
    feed.start()
    feed.wait_ready()
    await_recorded(feed, desk)
    assert feed.reader().cuts() == [(2, privates[10])]


def test_a_log_that_cannot_be_read_costs_the_other_clients_nothing(feed: FeedProcess) -> None:
    acme, beta = desk_of(feed), desk_of(feed, "beta", rings=False)
    for _ in range(3):
        beta.fill(WORKERS[0], "buy", "1")
    whole = beta.path.read_bytes()
    beta.path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])  # in the first entry of three
    feed.follow_fills(source_of(acme), source_of(beta))
    feed.start()
    feed.wait_ready()
    await_that(lambda: "found damage" in feed.status().last_error, "a word about beta's log")
    acme.fill(WORKERS[0], "buy", "1")
    await_recorded(feed, acme)
    assert recorded(feed, beta) == {}


def test_a_log_that_its_desk_cuts_after_the_feed_found_it_damaged_gets_records_again(feed: FeedProcess) -> None:
    """So a desk does with what a power cut left, and the feed may have looked first."""
    desk = desk_of(feed, rings=False)
    for _ in range(3):
        desk.fill(WORKERS[0], "buy", "1")
    whole = desk.path.read_bytes()
    desk.path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    await_that(lambda: "found damage" in feed.status().last_error, "a word about the log")
    os.truncate(desk.path, START)
    again = desk_of(feed, rings=False)
    again.fill(WORKERS[1], "sell", "1")
    await_recorded(feed, again)
    await_that(lambda: not feed.status().last_error, "that all is well again")


@pytest.mark.parametrize("how", ["running", "running, replaced", "stopped"])
def test_no_entry_of_a_log_that_was_shortened_gets_a_second_record(feed: FeedProcess, how: str) -> None:
    """The worker was told of the fills that were left a second time. With the whole file back all goes on."""
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    for number in range(6):
        desk.fill(WORKERS[number % 2], "buy", "1")
    await_recorded(feed, desk)
    whole = desk.path.read_bytes()
    if how == "stopped":
        feed.kill()
    short = whole[: int(slots_of(feed)[4].offset)]
    if how == "running, replaced":
        desk.path.with_name("short").write_bytes(short)
        desk.path.with_name("short").replace(desk.path)
    else:
        os.truncate(desk.path, len(short))
    if how == "stopped":
        feed.start()
        feed.wait_ready()
    await_that(lambda: "which has its record on the tape" in feed.status().last_error, "a word about the log")
    feed.wait_beats(2)
    assert [slot.number for slot in slots_of(feed)] == list(range(6))

    desk.path.with_name("whole").write_bytes(whole)
    desk.path.with_name("whole").replace(desk.path)
    again = desk_of(feed)
    again.entries = desk.entries
    again.fill(WORKERS[0], "sell", "1")
    await_recorded(feed, again)
    assert [slot.number for slot in slots_of(feed)] == list(range(7))
    await_that(lambda: not feed.status().last_error, "that all is well again")


@pytest.mark.parametrize("is_running", [True, False])
def test_a_log_that_begins_anew_gets_records_from_its_first_entry_on(feed: FeedProcess, is_running: bool) -> None:
    """Its client's folder was moved away."""
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    for _ in range(3):
        desk.fill(WORKERS[0], "buy", "1")
    await_recorded(feed, desk)
    if not is_running:
        feed.kill()
    desk.path.rename(desk.path.with_name("moved"))
    again = desk_of(feed)
    if not is_running:
        feed.start()
        feed.wait_ready()
    for number in range(5):
        again.fill(WORKERS[0], "sell", "1", at_ns=START_NS + 100 + number)
    await_that(lambda: len(slots_of(feed)) == 8, "a record for each entry")
    feed.wait_beats(2)
    assert [slot.number for slot in slots_of(feed)] == [0, 1, 2, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("worker", "at_ns", "word"),
    [(WORKERS[0], 2**64 - 1, "expected a time of 64 bits"), ("a/b.BTC-USD", 1, "expected a worker's name")],
    ids=["time", "name"],
)
def test_an_entry_that_no_record_can_stand_for_costs_the_other_clients_nothing(
    feed: FeedProcess, worker: str, at_ns: int, word: str
) -> None:
    """Its time ended the feed, and its name whoever reads the names of all streams."""
    acme, beta = desk_of(feed), desk_of(feed, "beta", rings=False)
    beta.fill(worker, "buy", "1", at_ns=at_ns)
    feed.follow_fills(source_of(acme), source_of(beta))
    feed.start()
    feed.wait_ready()
    await_that(lambda: word in feed.status().last_error, "a word about beta's log")
    acme.fill(WORKERS[0], "buy", "1")
    await_recorded(feed, acme)
    assert recorded(feed, beta) == {}


def test_a_log_that_the_disk_refuses_for_a_while_is_tried_again_and_misses_nothing(feed: FeedProcess) -> None:
    acme, beta = desk_of(feed), desk_of(feed, "beta")
    beta.fill(WORKERS[0], "buy", "1")
    aside = beta.path.rename(beta.path.with_name("aside"))
    beta.path.symlink_to(beta.path)  # too many links: an error of the system, whoever asks
    feed.follow_fills(source_of(acme), source_of(beta))
    feed.start()
    feed.wait_ready()
    await_that(lambda: "symbolic links" in feed.status().last_error, "a word about beta's log")
    beta.fill(WORKERS[1], "buy", "1")
    acme.fill(WORKERS[0], "buy", "1")
    await_recorded(feed, acme)
    aside.replace(beta.path)
    await_recorded(feed, beta)
    await_that(lambda: not feed.status().last_error, "that all is well again")


def test_after_a_sync_that_failed_an_entry_gets_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = FillDesk(tmp_path / "acme" / "fills.log")
    desk.fill(WORKERS[0], "buy", "1")
    logs = PrivateLogs([source_of(desk)], None, lambda stream, slot: False)
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", failing)
        with pytest.raises(OSError, match="Input/output"):
            logs.look()
    assert logs.take() == []
    logs.close()


def failing(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_event_of_another_client_is_no_entry(feed: FeedProcess) -> None:
    acme = desk_of(feed, rings=False)
    acme.fill(WORKERS[0], "buy", "1")
    feed.follow_fills(PrivateSource(client="beta", path=str(acme.path)))
    feed.start()
    feed.wait_ready()
    await_that(lambda: "expected an event of beta" in feed.status().last_error, "a word about the log")
    assert all(stream.kind != Kind.PRIVATE for stream in feed.reader().all_streams())


def test_a_client_that_leaves_and_comes_back_goes_on_behind_its_last_record(feed: FeedProcess) -> None:
    desk = desk_of(feed)
    feed.follow_fills(source_of(desk))
    feed.start()
    feed.wait_ready()
    for _ in range(5):
        desk.fill(WORKERS[0], "buy", "1")
    await_recorded(feed, desk)
    feed.follow_fills()
    feed.wait_beats(2)
    feed.kill()
    feed.start()
    feed.wait_ready()
    desk.fill(WORKERS[0], "buy", "1")
    feed.follow_fills(source_of(desk))
    await_recorded(feed, desk)
    feed.wait_beats(2)
    assert recorded(feed, desk) == written(desk)
