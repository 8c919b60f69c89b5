"""The feed killed at any moment: the tape it goes on writing is the one it would have written undisturbed."""

import random
import re
import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from feed_process import PATIENCE_S, FeedProcess, check_whole, contents, mock_spec, streams_of

from strategy_runner.config.spec import MockSpec, ReplaySpec
from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.record import SIZE
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, read_status

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


def some_history(folder: Path, seed: int = 5) -> ReplaySpec:
    """Trades of one symbol, trades and quotes of another, minute bars of a third."""
    rng = np.random.default_rng(seed)
    start_ns = 1_700_000_000_000_000_000

    def times(count: int, step_ns: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return start_ns + np.cumsum(rng.integers(0, step_ns, count)).astype(np.int64)

    def walk(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.round(100.0 + np.cumsum(rng.normal(0.0, 0.05, count)), 2)

    for symbol, count in (("BTC-USD", 15_000), ("ETH-USD", 10_000)):
        with SeriesWriter(series_of(folder, "trades", symbol)) as writer:
            writer.append(times(count, 10**9), [walk(count), np.ones(count), np.zeros(count)])
            writer.commit()
    with SeriesWriter(series_of(folder, "quotes", "ETH-USD")) as writer:
        bid = walk(5_000)
        writer.append(times(5_000, 10**9), [bid, bid + 0.1, np.ones(5_000), np.ones(5_000)])
        writer.commit()
    with SeriesWriter(series_of(folder, "bars_1m", "SOL-USD")) as writer:
        close = walk(2_500)
        ts = (start_ns // 60_000_000_000 + 1 + np.arange(2_500, dtype=np.int64)) * 60_000_000_000
        writer.append(ts, [close, close + 1.0, close - 1.0, close, np.ones(2_500)])
        writer.commit()
    return ReplaySpec(folder=str(folder), speed=0.0, from_ns=0, to_ns=0)


def streams(replay: bool) -> tuple[str, ...]:
    if not replay:
        return streams_of(SYMBOLS)
    return (*streams_of(SYMBOLS[:2]), *streams_of(SYMBOLS[2:], ("bar.1m", "bar.5m", "clock.1s", "prediction.m1.5m")))


@pytest.mark.parametrize(
    ("replay", "records", "kills"),
    [
        pytest.param(False, 12_000, 4, id="mock"),
        pytest.param(True, 12_000, 4, id="replay"),
        pytest.param(False, 120_000, 40, id="mock, long", marks=pytest.mark.slow),
        pytest.param(True, 12_000, 24, id="replay, long", marks=pytest.mark.slow),
    ],
)
def test_a_killed_feed_makes_the_tape_of_an_undisturbed_one(
    tmp_path: Path, replay: bool, records: int, kills: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    mock: MockSpec | None = None if replay else mock_spec(records)
    history = some_history(tmp_path) if replay else None
    with FeedProcess(streams(replay), mock=mock, replay=history) as feed:
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        expected = contents(feed.reader())
        assert len(expected) > records
    with FeedProcess(streams(replay), mock=mock, replay=history) as feed:
        for i in range(kills):
            feed.start()
            feed.wait_records(rng.randrange(len(expected) * i // kills, len(expected) * (i + 1) // kills))
            feed.kill()
            if (feed.tape / "head").exists():
                so_far = contents(feed.reader())
                assert so_far == expected[: len(so_far)]
        feed.start()
        feed.wait_finished()
        assert feed.stop() == 0
        reader = feed.reader()
        assert contents(reader) == expected
        assert 1 < reader.head.epoch <= kills + 1, "a process killed before it opened the tape began no epoch"
        check_whole(reader)
        assert reader.head.durable == reader.head.count


def test_a_feed_that_was_asked_for_a_second_clock_while_it_ran_goes_on_after_a_kill() -> None:
    """Both tick at one moment; their order is that of a feed that was asked for both at once."""
    one, two = streams_of(("BTC-USD",), ("trade", "clock.1s")), streams_of(("BTC-USD",), ("clock.10s",))
    with FeedProcess(one, mock=mock_spec(0, speed=200.0)) as feed:
        feed.start()
        feed.wait_records(50)
        feed.rewrite((*one, *two))
        deadline = time.monotonic() + PATIENCE_S
        while not _has_ticked(feed.reader(), two[0]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        feed.kill()
        so_far = contents(feed.reader())
        feed.start()
        feed.wait_records(len(so_far) + 50)
        assert feed.stop() == 0
        assert contents(feed.reader())[: len(so_far)] == so_far
        check_whole(feed.reader())


def test_a_feed_whose_tape_is_damaged_says_so_on_its_page() -> None:
    with FeedProcess(streams_of(SYMBOLS), mock=mock_spec(0, speed=600.0)) as feed:
        feed.start()
        feed.wait_records(500)
        feed.kill()
        damaged = feed.reader().head.durable - 20
        ((_, segment),) = files.segments(feed.tape)
        with segment.open("r+b") as file:
            file.seek(damaged * SIZE + 40)
            file.write(b"\xff\xff\xff")
        feed.start()
        assert feed.wait_ended() != 0
        status = read_status(feed.status_path)
        assert status is not None
        assert status.state is State.FAILED
        assert f"seq {damaged}: expected crc" in status.last_error


def test_a_feed_whose_source_gives_other_records_than_before_says_so_on_its_page() -> None:
    with FeedProcess(streams_of(SYMBOLS), mock=mock_spec(0, speed=600.0)) as feed:
        feed.start()
        feed.wait_records(500)
        feed.kill()
        feed.change_mock(mock_spec(0, seed=8, speed=600.0))
        feed.start()
        assert feed.wait_ended() != 0
        status = read_status(feed.status_path)
        assert status is not None
        assert status.state is State.FAILED
        assert re.search(r"seq \d+: expected", status.last_error)


def _has_ticked(reader: TapeReader, name: str) -> bool:
    stream_id = reader.find(Stream.parse(name))
    return stream_id is not None and reader.entries(stream_id) > 2


@pytest.mark.parametrize("gone_on", ["stopped", "killed"])
def test_a_feed_does_not_go_on_with_another_recording_in_the_place_of_its_own(tmp_path: Path, gone_on: str) -> None:
    """It went on with the new file from the row where it had stood in the old one, and said nothing."""
    history = msgspec.structs.replace(some_history(tmp_path / "history"), speed=3_000.0)
    path = Path(history.folder) / "trades" / "BTC-USD.parquet"
    other = some_history(tmp_path / "other", seed=6)
    with FeedProcess(streams(True), replay=history) as feed:
        feed.start()
        feed.wait_records(500)
        assert gone_on == "killed" or feed.stop() == 0
        feed.kill()
        so_far = contents(feed.reader())
        path.rename(tmp_path / "kept.parquet")
        (Path(other.folder) / "trades" / "BTC-USD.parquet").rename(path)
        feed.start()
        assert feed.wait_ended() == 1
        said = feed.log_path.read_text().splitlines()[-1]
        assert f"{path}: expected the recording of which " in said
        assert " rows were read before, " in said and "found another one, " in said and "put it back as it was" in said
        status = read_status(feed.status_path)
        assert status is not None and status.state is State.FAILED and status.last_error in said
        assert contents(feed.reader()) == so_far
        shutil.copy2(tmp_path / "kept.parquet", path)
        feed.start()
        feed.wait_records(len(so_far) + 100)
        assert feed.stop() == 0
        assert contents(feed.reader())[: len(so_far)] == so_far


def test_a_feed_does_not_go_on_where_other_series_are_recorded_now(tmp_path: Path) -> None:
    history = msgspec.structs.replace(some_history(tmp_path), speed=3_000.0)
    with FeedProcess(streams(True), replay=history) as feed:
        feed.start()
        feed.wait_records(500)
        assert feed.stop() == 0
        (tmp_path / "trades" / "ETH-USD.parquet").unlink()
        feed.start()
        assert feed.wait_ended() == 1
        said = feed.log_path.read_text().splitlines()[-1]
        assert f"{tmp_path}: expected ETH-USD/trade, of which " in said and "found ETH-USD/quote; put it back" in said
