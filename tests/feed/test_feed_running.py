"""The feed while it runs: more streams on demand, its end, and the repair of a torn group."""

import time
from pathlib import Path

import msgspec
import pytest
from feed_here import running, take_records
from feed_process import PATIENCE_S, FeedProcess, check_whole, contents, mock_spec, streams_of

from strategy_runner.assembly import make_feed
from strategy_runner.bus import doorbell
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell, StreamListener
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.errors import SafetyRefusal
from strategy_runner.feed.feed import Feed
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.model.record import SIZE, Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import StatusFile, read_status


def times(reader: TapeReader, name: str) -> list[int]:
    stream_id = reader.find(Stream.parse(name))
    if stream_id is None:
        return []
    return [reader.record(seq).event_ns for seq in reader.seqs(stream_id, 0, reader.entries(stream_id))]


def test_a_feed_that_is_told_of_more_streams_carries_them_from_then_on() -> None:
    """And what it already carried does not change by it: a second symbol and a second timeframe."""
    before = ("BTC-USD/trade", "BTC-USD/bar.1m")
    added = ("BTC-USD/bar.5m", "ETH-USD/trade", "ETH-USD/clock.1s")
    with FeedProcess(before, mock=mock_spec(0, speed=600.0)) as feed:
        feed.start()
        feed.wait_records(500)
        reader = feed.reader()
        assert not any(times(reader, name) for name in added)
        feed.rewrite((*before, *added))
        deadline = time.monotonic() + PATIENCE_S
        while not all(times(reader, name) for name in added):
            assert time.monotonic() < deadline
            feed.wait_records(reader.head.count + 100)
        feed.kill()
        # a killed feed knows what it had been told
        feed.start()
        feed.wait_records(reader.head.count + 1_000)
        assert feed.stop() == 0
        check_whole(reader)
        eth_from = times(reader, "ETH-USD/trade")[0]
        trades_ns = times(reader, "BTC-USD/trade")
        assert trades_ns[0] < eth_from < trades_ns[-1]
        own = [reader.record(seq)[8:11] for seq in _seqs(reader, "BTC-USD/trade")]
    with FeedProcess(before, mock=mock_spec(3 * len(trades_ns))) as alone:
        alone.start()
        alone.wait_finished()
        other = alone.reader()
        assert alone.stop() == 0
        undisturbed = times(other, "BTC-USD/trade")
        assert undisturbed[: len(trades_ns)] == trades_ns
        assert [other.record(seq)[8:11] for seq in _seqs(other, "BTC-USD/trade")[: len(own)]] == own


def test_a_feed_that_was_stopped_says_how_far_its_tape_goes() -> None:
    with FeedProcess(("BTC-USD/trade",), mock=mock_spec(0, speed=600.0)) as home:
        with running(home) as feed:
            take_records(home, feed, 500)
        assert read_status(home.status_path).position == home.reader().head.count


def _seqs(reader: TapeReader, name: str) -> list[int]:
    stream_id = reader.find(Stream.parse(name))
    assert stream_id is not None
    return reader.seqs(stream_id, 0, reader.entries(stream_id))


def test_a_feed_whose_source_has_ended_says_so_and_starts_again_without_a_record_more() -> None:
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(500)) as feed:
        feed.start()
        feed.wait_finished()
        head = Head(files.head_path(feed.tape))
        assert head.finished
        count = head.count
        assert feed.status().records == count
        assert feed.stop() == 0
        feed.start()
        feed.wait_finished()
        assert (head.count, head.epoch) == (count, 2)
        assert feed.stop() == 0


def test_a_mock_market_of_quotes_alone_has_bars_predictions_and_a_clock() -> None:
    """Whoever reads bars waited for ever and was told nothing."""
    mock = msgspec.structs.replace(mock_spec(2_000), trades_per_s=0.0)
    kinds = ("quote", "bar.1m", "clock.1s", "prediction.m1.1m")
    with FeedProcess(streams_of(("BTC-USD",), kinds), mock=mock) as feed:
        feed.start()
        feed.wait_finished()
        bars, predictions = times(feed.reader(), "BTC-USD/bar.1m"), times(feed.reader(), "BTC-USD/prediction.m1.1m")
        assert len(bars) > 30 and predictions == bars
        assert len(times(feed.reader(), "BTC-USD/clock.1s")) > 60 * len(bars) / 2
        assert feed.stop() == 0


@pytest.mark.parametrize(
    "first, second", [(Kind.BAR, Kind.PREDICTION), (Kind.CLOCK, Kind.TRADE), (Kind.QUOTE, Kind.QUOTE)]
)
def test_a_group_torn_by_a_power_cut_is_completed(first: Kind, second: Kind) -> None:
    """The end of the tape did not reach the disk. What one raw record causes is a group: the cut falls into one, or between."""
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(540)) as feed:
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        reader = feed.reader()
        expected = contents(reader)
        kinds = [reader.record(seq).kind for seq in range(len(expected))]
        at = max(seq for seq in range(1, len(kinds)) if (kinds[seq - 1], kinds[seq]) == (first, second))
        head = Head(files.head_path(feed.tape), writable=True)
        head.durable = at - 3
        with files.segment_path(feed.tape, 0).open("r+b") as file:
            file.seek(at * SIZE)
            file.write(b"\0" * SIZE)
        for checkpoint in sorted(Path(feed.spec.folder).glob("*.checkpoint"))[1:]:
            checkpoint.unlink()
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        reader = feed.reader()
        assert contents(reader) == expected
        check_whole(reader)


def test_a_tape_that_is_not_what_its_source_gives_halts_the_feed() -> None:
    """Somebody changed the seed: going on would mix two markets."""
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(500)) as feed:
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        for checkpoint in sorted(Path(feed.spec.folder).glob("*.checkpoint"))[1:]:
            checkpoint.unlink()
        before = contents(feed.reader())
        feed.change_mock(mock_spec(500, seed=8))
        feed.start()
        assert feed.wait_ended() == 1
        assert "seq 0: expected (" in feed.log_path.read_text()
        assert contents(feed.reader()) == before


def test_a_second_feed_on_the_same_folder_is_refused() -> None:
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(500)) as feed:
        feed.start()
        feed.wait_finished()
        assert feed.run_another() == 1
        assert f"{feed.spec.folder}: expected a free folder, found it held by pid" in feed.log_path.read_text()
        assert feed.stop() == 0


def test_a_mode_without_a_source_is_refused() -> None:
    with FeedProcess(streams_of(("BTC-USD",))) as feed:
        feed.start()
        assert feed.wait_ended() == SafetyRefusal.exit_code
        assert "expected a source of records, found none configured" in feed.log_path.read_text()


def test_a_feed_with_nothing_to_publish_makes_durable_what_it_has_and_then_sleeps() -> None:
    """The thread that syncs is not woken every few milliseconds for nothing."""
    with FeedProcess(streams_of(("BTC-USD",)), mock=mock_spec(500)) as feed:
        feed.start()
        feed.wait_finished()
        feed.wait_durable()
        tasks = Path(f"/proc/{feed.status().pid}/task")
        before = _waits(tasks)
        feed.wait_beats(5)
        assert _waits(tasks) - before < 100
        assert feed.stop() == 0


def test_on_a_crowded_host_a_feed_takes_fewer_turns_and_rings_again_once_who_waits_has_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "_CROWD", 0)  # one that waits is a crowd
    mock = msgspec.structs.replace(mock_spec(0, speed=1.0), trades_per_s=4_000.0)
    with FeedProcess(("BTC-USD/trade",), mock=mock) as home:
        bell, context = StreamDoorbell(home.spec.market.doorbell), new_context()
        frames = FramePublisher(context, home.spec.market.frames)
        Path(home.spec.folder).mkdir(parents=True, exist_ok=True)
        source = MockSource(mock, now_ns=time.time_ns())
        feed = make_feed(home.spec, source, mock.speed, bell, frames, StatusFile(home.status_path))
        reader, listener = home.reader(), StreamListener(home.spec.market.doorbell, ("BTC-USD/trade",))
        deadline = time.monotonic() + PATIENCE_S
        while not listener.wait(0):
            assert time.monotonic() < deadline
            _turns(feed, 0.01)
        while not bell.is_crowded:
            assert time.monotonic() < deadline
            _turns(feed, 0.01)
        for _ in range(3):
            count = reader.head.count
            assert _turns(feed, 1.0) < 1_000, "one in two milliseconds, and not one for each record"
            assert reader.head.count > count, "it goes on for those who look"
            assert _reason(home).startswith("the host is crowded"), "as of its last beat"
            while listener.wait(0):
                pass
            while not listener.wait(0):
                assert time.monotonic() < deadline + PATIENCE_S, "it rings no more"
                _turns(feed, 0.01)
        listener.close()
        while _reason(home):
            assert time.monotonic() < deadline + 2.0 * PATIENCE_S
            _turns(feed, 0.1)
        feed.stop()
        bell.close()
        frames.close()
        context.destroy(linger=0)


def _reason(home: FeedProcess) -> str:
    page = read_status(home.status_path)
    assert page is not None
    return page.reason


def _turns(feed: Feed, seconds: float) -> int:
    """Runs it for so long, and says how many turns it took."""
    turns, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        turns += 1
        if not feed.turn():
            feed.wait()
    return turns


def _waits(tasks: Path) -> int:
    """How often a process's threads have waited so far."""
    lines = [line for task in tasks.iterdir() for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
