"""Opening a tape after its writer died: what was published stays, what was torn is cut, what is damaged halts."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tape_records import STREAMS, append, check, check_streams, open_writer, stream_seqs

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import SIZE
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

SEGMENT = 50


def left_behind(folder: Path, *, durable: int, count: int, unpublished: int = 0) -> None:
    """A tape as a killed writer leaves it: closing publishes nothing and syncs nothing."""
    writer = open_writer(folder, segment_records=SEGMENT)
    append(writer, durable)
    writer.publish()
    assert writer.make_durable() == durable
    append(writer, count - durable)
    writer.publish()
    append(writer, unpublished)
    writer.close()


def damage(folder: Path, seq: int) -> None:
    first = seq - seq % SEGMENT
    with files.segment_path(folder, first).open("r+b") as file:
        file.seek((seq - first) * SIZE)
        file.write(b"\0" * SIZE)


@pytest.mark.parametrize("count", [1, 49, 50, 51, 100, 130])
@pytest.mark.parametrize("unpublished", [0, 3, 60])
def test_what_was_published_stays_and_what_was_not_is_written_anew(
    tmp_path: Path, count: int, unpublished: int
) -> None:
    left_behind(tmp_path, durable=min(count, 40), count=count, unpublished=unpublished)
    writer = open_writer(tmp_path)
    assert (writer.seq, writer.head.count, writer.head.epoch) == (count, count, 2)
    reader = TapeReader(tmp_path)
    assert sum(reader.entries(stream_id) for stream_id in range(3)) == count
    append(writer, 70)
    writer.publish()
    check(reader, 0, count + 70)
    check_streams(reader, count + 70)
    assert {reader.record(seq).epoch for seq in range(count)} == {1}
    assert {reader.record(seq).epoch for seq in range(count, count + 70)} == {2}
    writer.close()


@pytest.mark.parametrize("torn", [60, 75, 99, 100, 149, 150, 169])
def test_records_torn_above_the_durable_mark_are_cut_from_the_first_one_on(tmp_path: Path, torn: int) -> None:
    """What a power cut does: some page of the tail never reached the disk."""
    left_behind(tmp_path, durable=60, count=170)
    damage(tmp_path, torn)
    writer = open_writer(tmp_path)
    assert writer.seq == writer.head.count == torn
    reader = TapeReader(tmp_path)
    assert sum(reader.entries(stream_id) for stream_id in range(3)) == torn
    check_streams(reader, torn)
    append(writer, 200)
    writer.publish()
    check(reader, 0, torn + 200)
    check_streams(reader, torn + 200)
    writer.close()


def test_a_segment_above_the_durable_mark_that_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    left_behind(tmp_path, durable=60, count=170)
    files.segment_path(tmp_path, 100).unlink()
    writer = open_writer(tmp_path)
    assert writer.seq == 100
    append(writer, 30)
    writer.publish()
    check(TapeReader(tmp_path), 0, 130)
    writer.close()


def test_a_segment_of_which_a_power_cut_left_the_name_alone_holds_no_record(tmp_path: Path) -> None:
    """The one that was made ahead of time, before and after the current one was full."""
    for count in (SEGMENT - 10, SEGMENT):
        folder = tmp_path / str(count)
        writer = open_writer(folder, segment_records=SEGMENT)
        append(writer, count)
        writer.publish()
        writer.make_durable()
        writer.close()
        files.segment_path(folder, SEGMENT).write_bytes(b"")
        Head(files.head_path(folder), writable=True).boot = 1
        again = open_writer(folder, segment_records=SEGMENT)
        assert again.seq == count
        append(again, SEGMENT)
        again.publish()
        check(TapeReader(folder), 0, count + SEGMENT)
        again.close()


def test_a_segment_missing_below_the_durable_mark_halts(tmp_path: Path) -> None:
    left_behind(tmp_path, durable=120, count=170)
    files.segment_path(tmp_path, 100).unlink()
    with pytest.raises(CorruptRecordError, match="seq 100: expected segment 100, found none"):
        TapeWriter(tmp_path, segment_records=SEGMENT)


def test_damage_below_the_durable_mark_is_no_torn_tail(tmp_path: Path) -> None:
    """It is never cut, and whoever reads it is told where it is."""
    left_behind(tmp_path, durable=120, count=170)
    damage(tmp_path, 119)
    writer = open_writer(tmp_path)
    assert writer.seq == 170
    with pytest.raises(CorruptRecordError, match=r"seg-000000000000100\.tape: seq 119"):
        TapeReader(tmp_path).record(119)
    writer.close()


def test_a_stream_that_no_record_survived_of_begins_anew(tmp_path: Path) -> None:
    left_behind(tmp_path, durable=0, count=30)
    damage(tmp_path, 0)
    writer = open_writer(tmp_path)
    reader = TapeReader(tmp_path)
    assert (writer.seq, [reader.entries(stream_id) for stream_id in range(3)]) == (0, [0, 0, 0])
    append(writer, 30)
    writer.publish()
    check_streams(reader, 30)
    writer.close()


def test_the_mark_passes_the_segments_of_a_killed_writer_only_with_a_sync_of_each(tmp_path: Path) -> None:
    left_behind(tmp_path, durable=60, count=170)
    writer = TapeWriter(tmp_path, segment_records=SEGMENT)
    held = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}  # noqa: PTH208
    assert {str(files.segment_path(tmp_path.resolve(), first)) for first in (50, 100, 150)} <= held
    assert str(files.segment_path(tmp_path.resolve(), 0)) not in held
    assert writer.make_durable() == 170 == writer.head.durable
    writer.close()


def test_a_writer_killed_at_any_moment_leaves_what_its_readers_saw(tmp_path: Path) -> None:
    """A reader of this process follows a writer of another one that is killed, and again, and again."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    child = Path(__file__).parent / "tape_records.py"
    epochs: list[tuple[int, int]] = []
    seen = 0
    reader: TapeReader | None = None
    for _ in range(8):
        command = [sys.executable, str(child), str(tmp_path), "500", str(rng.randrange(1 << 32))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            try:
                assert writer.stdout.readline() == b"ready\n"
                reader = reader or TapeReader(tmp_path)
                goal = reader.head.count + rng.randint(1, 4_000)
                while seen < goal:
                    assert writer.poll() is None
                    count = reader.head.count
                    check(reader, seen, count)
                    for stream_id in range(3):
                        assert reader.entries(stream_id) >= reader.first_ordinal_at(stream_id, count)
                    seen = count
            finally:
                writer.kill()
        count = reader.head.count
        assert max(seen, reader.head.durable) <= count
        epochs.append((reader.head.epoch, count))
        seen = count
    assert reader is not None
    assert [epoch for epoch, _ in epochs] == list(range(1, 9))
    again = open_writer(tmp_path)
    assert again.seq == seen, "nothing that was published is lost, nothing unpublished is seen"
    check(reader, 0, seen)
    check_streams(reader, seen)
    assert sum(reader.entries(stream_id) for stream_id in range(len(STREAMS))) == seen
    assert sorted(seq for stream_id in range(3) for seq in stream_seqs(reader, stream_id)) == list(range(seen))
    start = 0
    for epoch, end in epochs:
        assert {reader.record(seq).epoch for seq in range(start, end)} == {epoch}
        start = end
    again.close()


def test_the_durable_mark_never_passes_what_is_published(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=SEGMENT)
    append(writer, 20)
    assert writer.make_durable() == 0
    writer.publish()
    append(writer, 5)
    assert writer.make_durable() == 20
    assert Head(files.head_path(tmp_path)).durable == 20
    assert writer.make_durable() == 20
    writer.close()
