"""Parity of derivation on tapes that begin or change within an interval: what the feed did not know then is no difference."""

from pathlib import Path

import pytest

from strategy_runner.feed.derive import Derivation
from strategy_runner.history.derivation_parity import compare_derivation
from strategy_runner.model.stream import Stream, bars, predictions, trades
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

SECOND = 1_000_000_000
FROM_START = (trades("A"), bars("A", "1m"), predictions("A", "m1", "1m"))
LATER = (bars("A", "5m"), predictions("A", "m1", "5m"))
BEGAN_S = 1_000  # within a minute, and within five


def tape(folder: Path, *, removed: int = 0) -> TapeReader:
    """A trade every ten seconds; after a while bars of five minutes are wanted as well. `removed` seqs retention has taken."""
    writer = TapeWriter(folder, segment_records=64)
    writer.received_ns = 9
    derivation = Derivation(trades("A"), {s: writer.stream_id(s) for s in FROM_START}, emit=writer.append, seed=1)
    for n in range(600):
        if n == 100:
            derivation.want({s: writer.stream_id(s) for s in LATER})
        derivation.trade((BEGAN_S + 10 * n) * SECOND, 100.0 + n % 7, 1.0, 0.0)
        writer.publish()
    writer.make_durable()
    writer.remove_before(removed)
    writer.close()
    return TapeReader(folder)


@pytest.mark.parametrize("removed", [0, 128, 320])
def test_bars_that_began_before_the_tape_or_before_they_were_wanted_are_no_difference(
    tmp_path: Path, removed: int
) -> None:
    reader = tape(tmp_path, removed=removed)
    assert reader.head.first == removed
    found = compare_derivation(tmp_path, "A", trades("A"), seeds=[1])
    assert found.is_equal, found.first_difference
    assert found.records > (reader.head.count - removed) * 0.9


def test_predictions_of_a_seed_that_was_changed_are_no_difference_while_the_seed_is_known(tmp_path: Path) -> None:
    tape(tmp_path)
    found = compare_derivation(tmp_path, "A", trades("A"), seeds=[7, 1])
    assert found.is_equal and found.notes == (), found
    unknown = compare_derivation(tmp_path, "A", trades("A"), seeds=[7, 8])
    assert "A/prediction.m1.1m ordinal 0: expected [" in unknown.first_difference
    assert "] (models.seed 7 and 8), found [" in unknown.first_difference


def test_no_bar_is_on_the_tape_whose_interval_had_begun_before_its_stream(tmp_path: Path) -> None:
    reader = tape(tmp_path)
    assert first_s(reader, "A/bar.1m") == 1_080
    wanted_s = BEGAN_S + 10 * 100
    assert first_s(reader, "A/bar.5m") == -(-wanted_s // 300) * 300 + 300


def first_s(reader: TapeReader, name: str) -> int:
    stream_id = reader.find(Stream.parse(name))
    assert stream_id is not None
    return reader.record(reader.seqs(stream_id, 0, 1)[0]).event_ns // SECOND
