"""The tape: dense seqs, indexes of streams, segments and chunks, and what a reader may see when."""

import math
import os
import random
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tape_records import STREAMS, append, check, check_streams, open_writer, stream_of_seq, stream_seqs

from strategy_runner.errors import CorruptRecordError, DiskFullError, NotRunningError, VersionMismatchError
from strategy_runner.model.record import SIZE, Kind
from strategy_runner.model.stream import bars, trades
from strategy_runner.tape import files
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.integers(0, 90), max_size=12), segment_records=st.integers(1, 70))
def test_records_are_dense_and_streams_index_them_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], segment_records: int
) -> None:
    folder = tmp_path_factory.mktemp("tape")
    writer = open_writer(folder, segment_records=segment_records)
    reader = TapeReader(folder)
    count = 0
    for batch in batches:
        append(writer, batch)
        touched = writer.publish()
        assert touched == {
            stream_id: next(seq for seq in range(count, count + batch) if stream_of_seq(seq) == stream_id)
            for stream_id in {stream_of_seq(seq) for seq in range(count, count + batch)}
        }
        count += batch
        assert writer.seq == reader.head.count == count
    check(reader, 0, count)
    check_streams(reader, count)
    writer.close()


def test_a_record_carries_when_it_came_in_which_epoch_and_of_what_kind(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.received_ns = 77
    writer.append(2, 60_000_000_000, 1.0, 2.0, 0.5, 1.5, math.nan)
    writer.publish()
    record = TapeReader(tmp_path).record(0)
    assert (record.received_ns, record.epoch, record.kind, record.flags, record.id) == (77, 1, Kind.BAR, 0, 0)
    assert math.isnan(record.v4)
    writer.close()
    again = TapeWriter(tmp_path, segment_records=64)
    assert again.head.epoch == 2
    again.close()


def test_nothing_is_seen_before_publish_and_everything_after(tmp_path: Path) -> None:
    """Asked of another process, which maps the same files."""
    ask = (
        "import sys\nfrom pathlib import Path\nfrom strategy_runner.tape.reader import TapeReader\n"
        "from strategy_runner.model.stream import trades\n"
        "reader = TapeReader(Path(sys.argv[1]))\n"
        "for line in sys.stdin:\n"
        "    trade = reader.find(trades('BTC-USD'))\n"
        "    entries = reader.entries(trade)\n"
        "    last = reader.record(reader.head.count - 1).v0 if reader.head.count else -1\n"
        "    print(reader.head.count, entries, last, reader.head.event_ns, flush=True)\n"
    )
    writer = open_writer(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", ask, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None

        def look() -> list[float]:
            assert other.stdin is not None and other.stdout is not None
            print("look", file=other.stdin, flush=True)
            return [float(word) for word in other.stdout.readline().split()]

        assert look() == [0, 0, -1, 0]
        append(writer, 100)  # past the end of a segment
        assert look() == [0, 0, -1, 0]
        writer.publish()
        trades_among = sum(stream_of_seq(seq) == 0 for seq in range(100))
        assert look() == [100, trades_among, 99, 1099]
        append(writer, 1)
        assert look() == [100, trades_among, 99, 1099]
        other.stdin.close()
        assert other.wait(30) == 0


def test_an_index_longer_than_a_chunk_is_one_sequence(tmp_path: Path) -> None:
    count = 2 * files.INDEX_ENTRIES + 5
    writer = TapeWriter(tmp_path, segment_records=16_384)
    only, other = writer.stream_id(trades("A")), writer.stream_id(trades("B"))
    for i in range(count):
        writer.append(only, i, 1.0, 1.0, 0.0, 0.0, 0.0)
        if i == 10:
            writer.append(other, i, 1.0, 1.0, 0.0, 0.0, 0.0)
    writer.publish()
    reader = TapeReader(tmp_path)
    assert reader.find(trades("A")) == only
    assert reader.entries(only) == count
    seqs = stream_seqs(reader, only)
    assert seqs == [*range(11), *range(12, count + 1)]
    edge = files.INDEX_ENTRIES
    assert reader.seqs(only, edge - 2, edge + 2) == seqs[edge - 2 : edge]
    assert reader.seqs(only, edge, edge + 2) == seqs[edge : edge + 2]
    for seq in (0, 11, edge - 1, edge, edge + 1, 2 * edge + 1, count, count + 1, count + 50):
        ordinal = reader.first_ordinal_at(only, seq)
        assert ordinal == sum(1 for each in seqs if each < seq)
    writer.close()
    again = TapeWriter(tmp_path, segment_records=16_384)
    again.append(only, count, 1.0, 1.0, 0.0, 0.0, 0.0)
    again.publish()
    assert stream_seqs(reader, only) == [*seqs, count + 1]
    again.close()


def test_a_tape_opened_again_at_the_very_end_of_a_chunk_and_a_segment_goes_on(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path, segment_records=files.INDEX_ENTRIES)
    only = writer.stream_id(trades("A"))
    for i in range(files.INDEX_ENTRIES):
        writer.append(only, i, 1.0, 1.0, 0.0, 0.0, 0.0)
    writer.publish()
    writer.close()
    again = TapeWriter(tmp_path, segment_records=files.INDEX_ENTRIES)
    assert again.make_durable() == files.INDEX_ENTRIES == again.head.durable
    again.append(only, 7, 1.0, 1.0, 0.0, 0.0, 0.0)
    again.publish()
    assert stream_seqs(TapeReader(tmp_path), only) == list(range(files.INDEX_ENTRIES + 1))
    again.close()


def test_arrays_are_the_same_records_segment_by_segment(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 120)
    writer.publish()
    append(writer, 10)
    reader = TapeReader(tmp_path)
    parts = reader.arrays(20, 1_000)
    assert [(seq, len(array)) for seq, array in parts] == [(20, 30), (50, 50), (100, 20)]
    for seq, array in parts:
        assert array["v"][:, 0].tolist() == [float(each) for each in range(seq, seq + len(array))]
    assert reader.arrays(30, 30) == []
    writer.close()


def test_a_reader_learns_of_a_new_stream(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    reader = TapeReader(tmp_path)
    assert reader.find(bars("ETH-USD", "1m")) is None
    added = writer.stream_id(bars("ETH-USD", "1m"))
    assert reader.find(bars("ETH-USD", "1m")) == added == 3
    assert reader.entries(added) == 0
    writer.close()
    again = TapeWriter(tmp_path, segment_records=64)
    assert again.streams == [*STREAMS, bars("ETH-USD", "1m")]
    again.close()


def test_the_segment_size_of_an_existing_tape_stays(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=10)
    append(writer, 25)
    writer.publish()
    writer.close()
    again = open_writer(tmp_path, segment_records=1_000)
    append(again, 10)
    again.publish()
    reader = TapeReader(tmp_path)
    check(reader, 0, 35)
    assert [first for first, _ in files.segments(tmp_path)] == [0, 10, 20, 30]
    again.close()


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_named_with_its_segment_and_seq_when_it_is_read(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 70)
    writer.publish()
    writer.close()
    path = files.segment_path(tmp_path, 50)
    content = bytearray(path.read_bytes())
    content[(61 - 50) * SIZE + 40] ^= 4
    path.write_bytes(content)
    reader = TapeReader(tmp_path)
    check(reader, 0, 61)
    check(reader, 62, 70)
    for read in (reader.record, reader.raw):
        with pytest.raises(CorruptRecordError, match=r"seg-000000000000050\.tape: seq 61: expected crc 0x[0-9a-f]{8}"):
            read(61)


@pytest.mark.parametrize("segment_records", [16, 50, 4096])
def test_many_records_read_at_once_are_those_read_one_by_one_up_to_the_end_of_their_segment(
    tmp_path: Path, segment_records: int
) -> None:
    writer = open_writer(tmp_path, segment_records=segment_records)
    append(writer, 700)
    writer.publish()
    writer.close()
    reader = TapeReader(tmp_path)
    luck = random.Random(segment_records)
    for stream_id in (0, 1, 2) * 20:
        its = stream_seqs(reader, stream_id)
        start = luck.randrange(len(its))
        seqs = its[start : start + luck.randrange(1, 300)]
        rows = reader.rows(seqs, stream_id)
        assert rows is not None
        assert [row.tobytes() for row in rows] == [reader.raw(seq) for seq in seqs[: len(rows)]]
        assert len(rows) == sum(seq // segment_records == seqs[0] // segment_records for seq in seqs)
        assert reader.few(seqs, stream_id) == [reader.fields(seq) for seq in seqs[: len(rows)]]


def test_no_flipped_bit_passes_when_many_records_are_read_at_once(tmp_path: Path) -> None:
    """Each bit of a record in the middle, the first and the last one's, with the neighbours' whole: dense and with gaps."""
    writer = open_writer(tmp_path, segment_records=64)
    for number in range(40):
        writer.append(1, 1_000 + number, float(number), 1.0, math.nan, 0.5, 2.0)
    writer.publish()
    writer.close()
    path = files.segment_path(tmp_path, 0)
    whole = path.read_bytes()
    reader = TapeReader(tmp_path)
    dense, gaps = list(range(10, 20)), [3, 4, 9, 15, 21, 22, 30, 38]
    assert reader.rows(dense, 1) is not None and reader.rows(gaps, 1) is not None
    with path.open("r+b") as segment:
        for seqs in (dense, gaps):
            for seq in (seqs[0], seqs[4], seqs[-1]):
                for bit in range(SIZE * 8):
                    at = seq * SIZE + bit // 8
                    segment.seek(at)
                    segment.write(bytes([whole[at] ^ 1 << bit % 8]))
                    segment.flush()
                    assert reader.rows(seqs, 1) is reader.few(seqs, 1) is None, f"bit {bit} of seq {seq}"
                    segment.seek(at)
                    segment.write(whole[at : at + 1])
                    segment.flush()
            assert reader.rows(seqs, 1) is not None
    assert reader.rows(dense, 0) is reader.few(dense, 0) is None, "records of another stream"


def test_the_newest_record_is_given_by_itself_where_nothing_is_odd_about_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "tape", segment_records=64)
    reader = TapeReader(tmp_path / "tape")
    read, alone = [0, 0, 0], 0
    for seq in range(200):
        append(writer, 1)
        writer.publish()
        stream_id = stream_of_seq(seq)
        ordinal, read[stream_id] = read[stream_id], read[stream_id] + 1
        newest = reader.new_ones(stream_id, ordinal, ordinal + 1, seq, seq + 1)
        assert newest in (None, [(seq, reader.fields(seq, stream_id))])
        alone += newest is not None
        reader.seqs(
            stream_id, ordinal, ordinal + 1
        )  # what is not given is looked up, and its chunk and segment with it
        reader.fields(seq)
        assert reader.new_ones(stream_id, ordinal, ordinal + 1, seq + 1, seq + 2) is None, "it should have come earlier"
        assert reader.new_ones(stream_id, ordinal, ordinal + 1, seq - 1, seq) is None, "it is not published"
    assert alone == 200 - 3 - 3, "all but the first of each stream and of each further segment"


@pytest.mark.parametrize("count", [1, 4])
def test_no_flipped_bit_passes_in_the_newest_records_and_their_entries(tmp_path: Path, count: int) -> None:
    writer = open_writer(tmp_path / "tape", segment_records=64)
    append(writer, 30)
    writer.publish()
    stream_id = stream_of_seq(29)
    reader = TapeReader(tmp_path / "tape")
    end = reader.entries(stream_id)
    start = end - count
    before, *seqs = reader.seqs(stream_id, start - 1, end)

    def given() -> object:
        return reader.new_ones(stream_id, start, end, before + 1, 30)

    whole_ones = [(seq, reader.fields(seq, stream_id)) for seq in seqs]
    assert given() == whole_ones
    index = files.index_path(reader.folder, stream_id, 0)
    places = [(files.segment_path(reader.folder, 0), seq * SIZE, SIZE) for seq in seqs]
    for path, first, length in [*places, (index, start * 8, count * 8)]:
        with path.open("r+b", buffering=0) as file:
            file.seek(first)
            whole = file.read(length)
            for bit in range(length * 8):
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                file.seek(first)
                file.write(damaged)
                assert given() is None, (path, bit)
            file.seek(first)
            file.write(whole)
    assert given() == whole_ones
    with index.open("r+b", buffering=0) as file:
        for ordinal in range(start, end):
            for other in {*range(before, 30)} - {seqs[ordinal - start]}:
                file.seek(ordinal * 8)
                file.write(struct.pack("<Q", other))
                assert given() is None, f"record {other} in place of {seqs[ordinal - start]}"
            file.seek(ordinal * 8)
            file.write(struct.pack("<Q", seqs[ordinal - start]))
        assert given() == whole_ones
        file.seek((start - 1) * 8)
        file.write(struct.pack("<Q", seqs[0]))
    assert given() is None, "two entries of one record"


def test_records_that_changed_places_do_not_pass_when_many_are_read_at_once(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=64)
    for number in range(40):
        writer.append(1, 1_000 + number, float(number), 1.0, math.nan, 0.5, 2.0)
    writer.publish()
    writer.close()
    path = files.segment_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[12 * SIZE : 14 * SIZE] = content[13 * SIZE : 14 * SIZE] + content[12 * SIZE : 13 * SIZE]
    path.write_bytes(content)
    reader = TapeReader(tmp_path)
    assert reader.rows(list(range(10, 20)), 1) is None
    assert reader.rows([10, 12, 18], 1) is reader.few([10, 12, 18], 1) is None
    assert reader.rows([10, 14, 18], 1) is not None


def test_a_record_whose_segment_is_gone_is_named_with_where_the_tape_begins(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 170)
    writer.publish()
    writer.make_durable()
    assert writer.remove_before(100) == 2
    with pytest.raises(CorruptRecordError, match=r"seq 99: .* found none \(the tape begins at 100\)"):
        TapeReader(tmp_path).record(99)
    writer.close()


def test_a_head_of_another_version_or_kind_is_refused(tmp_path: Path) -> None:
    open_writer(tmp_path).close()
    path = files.head_path(tmp_path)
    page = bytearray(path.read_bytes())
    for content, message in (
        (page[:8] + struct.pack("<I", 2) + page[12:], "found b'SRTAPE.* version 2"),
        (b"NOTATAPE" + page[8:], "expected a tape of version 1, found b'NOTATAPE'"),
        (page[:100], "expected 4096 bytes, found 100"),
    ):
        path.write_bytes(content)
        for open_tape in (TapeReader, lambda folder: TapeWriter(folder, segment_records=64)):
            with pytest.raises(VersionMismatchError, match=message):
                open_tape(tmp_path)


def test_without_a_tape_a_reader_asks_for_the_feed(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="expected a tape, found none; is the feed running"):
        TapeReader(tmp_path)


# -- retention ---------------------------------------------------------------------------------------------------------


def test_retention_removes_only_whole_segments_below_the_seq_asked_for(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 230)
    writer.publish()
    writer.make_durable()
    reader = TapeReader(tmp_path)
    for seq, removed, first in ((0, 0, 0), (49, 0, 0), (50, 1, 50), (99, 0, 50), (149, 1, 100), (10_000, 2, 200)):
        assert (writer.remove_before(seq), writer.head.first) == (removed, first)
    check(reader, 200, 230)
    assert stream_seqs(reader, 0)[-1] <= 229, "ordinals go on: the index of a stream is not cut"
    append(writer, 10)
    writer.publish()
    check(reader, 200, 240)
    writer.close()


def test_retention_never_passes_the_durable_mark(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 130)
    writer.publish()
    assert writer.make_durable() == 130
    append(writer, 100)
    writer.publish()
    assert writer.remove_before(230) == 2
    assert writer.head.first == 100
    writer.close()


def test_a_tape_whose_first_segments_are_gone_opens_again(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 230)
    writer.publish()
    writer.make_durable()
    writer.remove_before(150)
    writer.close()
    again = open_writer(tmp_path, segment_records=50)
    assert (again.seq, again.head.first) == (230, 150)
    append(again, 5)
    again.publish()
    check(TapeReader(tmp_path), 150, 235)
    again.close()


@pytest.mark.parametrize("damaged", [(), (0,), (20,), (20, 30), (40,)])
def test_the_age_of_a_tape_is_known_to_the_segment(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    """Never an answer above a record that is young enough to be kept. A damaged record costs what age its segment tells, and
    not the feed, which nobody needs to read it for."""
    writer = open_writer(tmp_path, segment_records=10)
    for seq in range(45):
        writer.received_ns = 1_000 * seq
        append(writer, 1)
    writer.publish()
    for seq in damaged:
        spoil(tmp_path, seq)
    reader = TapeReader(tmp_path)
    for horizon_ns in range(0, 50_000, 500):
        first = reader.first_received_at(horizon_ns)
        assert first <= -(-horizon_ns // 1_000), horizon_ns
        assert first >= min(horizon_ns // 1_000, 44) - 20 - 10 * len(damaged), "at most two segments too many are kept"
    writer.close()


def spoil(folder: Path, seq: int) -> None:
    """One bit of the first record of a segment."""
    with files.segment_path(folder, seq).open("r+b") as segment:
        segment.seek(8)
        byte = segment.read(1)[0]
        segment.seek(8)
        segment.write(bytes([byte ^ 1]))


# -- the next segment --------------------------------------------------------------------------------------------------


def test_the_next_segment_is_there_whole_before_it_is_needed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    assert [first for first, _ in files.segments(tmp_path)] == [0], "readers of an empty tape can get ready too"
    for total, expected in ((25, [0]), (26, [0, 50]), (75, [0, 50]), (76, [0, 50, 100])):
        append(writer, total - writer.seq)
        writer.publish()
        assert [first for first, _ in files.segments(tmp_path)] == expected
        assert {path.stat().st_size for _, path in files.segments(tmp_path)} == {50 * SIZE}
    writer.close()
    again = open_writer(tmp_path, segment_records=50)
    append(again, 100)
    again.publish()
    check(TapeReader(tmp_path), 0, 176)


@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_a_reader_maps_the_next_segment_and_gives_back_the_last_at_moments_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    window, records = 256, 1_024
    moment = int(part * window)
    monkeypatch.setattr("strategy_runner.tape.reader._WINDOW", window)
    monkeypatch.setattr("strategy_runner.tape.reader.own_part", lambda: part)
    writer = open_writer(tmp_path, segment_records=records)
    reader = TapeReader(tmp_path)
    assert _mapped_by_readers(tmp_path) == set()
    reader.get_ready(0)
    assert _mapped_by_readers(tmp_path) == {0}
    append(writer, 2 * records + 1)
    writer.publish()
    last: set[int] = set()
    for begin in (0, records):
        end = begin + records
        check(reader, begin, begin + moment)
        assert _mapped_by_readers(tmp_path) >= ({begin, *last} if moment else set())
        check(reader, begin + moment, end - window + moment)
        assert _mapped_by_readers(tmp_path) == {begin}
        check(reader, end - window + moment, end)
        assert _mapped_by_readers(tmp_path) == {begin, end}
        last = {begin}
    check(reader, 0, 2 * records)  # another way round, what was given back included
    reader.close()
    assert _mapped_by_readers(tmp_path) == set()


@pytest.mark.parametrize("left", [None, 0, 80], ids=["none", "empty", "unfinished"])
def test_a_reader_goes_on_where_the_next_segment_was_not_made_ahead(tmp_path: Path, left: int | None) -> None:
    """As on a full disk, or while it is being made."""
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 30)
    writer.publish()
    following = files.segment_path(tmp_path, 50)
    following.unlink() if left is None else os.truncate(following, left)
    reader = TapeReader(tmp_path)
    reader.get_ready(0)
    reader.get_ready(50)
    check(reader, 0, 30)
    append(writer, 60)
    writer.publish()
    check(reader, 30, 90)


def test_a_segment_that_ends_too_early_is_damage(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_records=50)
    append(writer, 60)
    writer.publish()
    os.truncate(files.segment_path(tmp_path, 50), 10 * SIZE)
    reader = TapeReader(tmp_path)
    check(reader, 0, 50)
    with pytest.raises(CorruptRecordError, match=r"seg-000000000000050\.tape: expected 4000 bytes, found 800"):
        reader.record(50)


def _mapped_by_readers(folder: Path) -> set[int]:
    """The first seqs of the segments that this process has mapped to be read."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    paths = [Path(line[5]) for line in lines if len(line) > 5 and line[1] == "r--s"]
    return {int(path.stem[4:]) for path in paths if path.parent == folder.resolve() and path.name.startswith("seg-")}


# -- a full disk -------------------------------------------------------------------------------------------------------

_WRITE_UNTIL_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tape_records import append, check, open_writer
from strategy_runner.errors import DiskFullError
from strategy_runner.tape.reader import TapeReader
folder = Path(sys.argv[1])
writer = open_writer(folder, segment_records=50)
append(writer, 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (50 * 80 - 1, resource.RLIM_INFINITY))
before = sorted(path.name for path in folder.rglob("*"))
writer.publish()
assert sorted(path.name for path in folder.rglob("*")) == before, "the next segment is made ahead of time, if it can be"
try:
    append(writer, 40)
except DiskFullError as error:
    assert "seg-000000000000050.tape: expected 4000 bytes of free space" in str(error), error
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert TapeReader(folder).head.count == 30
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    append(writer, 20)
    writer.publish()
    check(TapeReader(folder), 0, 70)
    sys.exit(0)
sys.exit(1)
"""


def test_a_full_disk_is_an_error_that_leaves_no_file_and_no_record(tmp_path: Path) -> None:
    """A file size limit refuses an allocation as a full disk does. With room again, the same writer goes on."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", _WRITE_UNTIL_FULL, str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(command, check=True, timeout=60)


def test_a_file_that_cannot_grow_keeps_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "seg"
    path.write_bytes(b"precious")
    with pytest.raises(DiskFullError, match="seg: expected"):
        files.map_preallocated(path, 1 << 62)
    assert path.read_bytes() == b"precious"
    with pytest.raises(DiskFullError):
        files.map_preallocated(tmp_path / "new", 1 << 62)
    assert not (tmp_path / "new").exists()


# -- a reader beside its writer ----------------------------------------------------------------------------------------


def test_a_reader_that_follows_a_busy_writer_takes_no_entry_in_the_making_for_damage(tmp_path: Path) -> None:
    child = Path(__file__).parent / "tape_records.py"
    with subprocess.Popen([sys.executable, child, tmp_path, "5000", "1"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            reader = TapeReader(tmp_path)
            found: list[list[int]] = [[], [], []]
            while len(found[0]) < 60_000:
                for stream_id, seqs in enumerate(found):
                    if reader.entries(stream_id) > len(seqs):
                        seqs.extend(reader.seqs(stream_id, len(seqs), reader.entries(stream_id)))
        finally:
            process.kill()
    for stream_id, seqs in enumerate(found):
        assert seqs == [seq for seq in range(seqs[-1] + 1) if stream_of_seq(seq) == stream_id]
