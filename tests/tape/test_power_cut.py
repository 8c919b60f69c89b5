"""After a power cut: what was synced is there, what was not may be anything, and the tape knows the difference."""

import random
from pathlib import Path

import pytest

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import SIZE
from strategy_runner.model.stream import trades
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

STREAMS = [trades("A"), trades("B"), trades("C")]
SEGMENT = 256


def written_tape(folder: Path, records: int, durable: int) -> None:
    """`records` published records on three streams, of which the first `durable` are synced."""
    writer = TapeWriter(folder, segment_records=SEGMENT)
    ids = [writer.stream_id(stream) for stream in STREAMS]
    for seq in range(records):
        writer.append(ids[seq % 3], 1_000 + seq, float(seq), 1.0, 0.0, 0.0, 0.0)
        if seq + 1 == durable:
            writer.publish()
            writer.make_durable()
    writer.publish()
    writer.close()


def cut_the_power(folder: Path, *, count: int, lost_from: int, luck: random.Random) -> None:
    """The pages that were never synced: a stale head, indexes and counts of any age, records gone from `lost_from` on."""
    head = Head(files.head_path(folder), writable=True)
    head.boot, head.count = 1, count
    for path in [*(folder / "streams").iterdir(), files.counts_path(folder)]:
        size = path.stat().st_size
        path.write_bytes(luck.choice([bytes(size), luck.randbytes(size), path.read_bytes()]))
    for first, path in files.segments(folder):
        keep = max(0, min(lost_from - first, SEGMENT)) * SIZE
        with path.open("r+b") as segment:
            segment.seek(keep)
            segment.write(bytes(SEGMENT * SIZE - keep))


@pytest.mark.parametrize("seed", range(8))
def test_every_durable_record_is_there_and_indexed_and_the_cut_is_noted(tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    durable = luck.randrange(1, 900)
    lost_from = luck.randrange(durable, 1_000)
    written_tape(tmp_path, 1_000, durable)
    cut_the_power(tmp_path, count=luck.choice([0, durable, 1_000]), lost_from=lost_from, luck=luck)

    writer = TapeWriter(tmp_path, segment_records=SEGMENT)

    assert writer.seq == lost_from >= durable
    reader = TapeReader(tmp_path)
    assert reader.cuts() == [(2, lost_from)]
    for offset, stream in enumerate(STREAMS):
        stream_id = reader.find(stream)
        assert stream_id is not None
        expected = list(range(offset, lost_from, 3))
        assert reader.entries(stream_id) == len(expected)
        assert reader.seqs(stream_id, 0, len(expected)) == expected
    assert [reader.record(seq).v0 for seq in range(lost_from)] == [float(seq) for seq in range(lost_from)]


def test_the_tape_goes_on_behind_the_cut_with_a_new_epoch(tmp_path: Path) -> None:
    written_tape(tmp_path, 600, 300)
    cut_the_power(tmp_path, count=600, lost_from=411, luck=random.Random(1))
    writer = TapeWriter(tmp_path, segment_records=SEGMENT)

    writer.append(writer.stream_id(STREAMS[0]), 9_999, 7.0, 1.0, 0.0, 0.0, 0.0)
    writer.publish()

    reader = TapeReader(tmp_path)
    assert (reader.record(411).v0, reader.record(411).epoch, reader.record(410).epoch) == (7.0, 2, 1)
    assert reader.seqs(0, 137, 138) == [411]


def test_what_a_lost_record_had_caused_goes_with_it_but_nothing_below_the_mark(tmp_path: Path) -> None:
    for durable, expected in ((300, 399), (400, 400)):
        folder = tmp_path / str(durable)
        written_tape(folder, 600, durable)
        cut_the_power(folder, count=600, lost_from=401, luck=random.Random(1))
        writer = TapeWriter(folder, segment_records=SEGMENT, ends_group=lambda stream: stream == STREAMS[2])
        assert writer.seq == expected


def test_a_writer_that_cannot_open_its_tape_gives_its_descriptors_back(tmp_path: Path) -> None:
    written_tape(tmp_path, 600, 500)
    Head(files.head_path(tmp_path), writable=True).epoch = 0
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(CorruptRecordError, match="expected an epoch of at least 1"):
        TapeWriter(tmp_path, segment_records=SEGMENT)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_damage_below_the_durable_mark_halts_and_names_the_record(tmp_path: Path) -> None:
    written_tape(tmp_path, 600, 500)
    Head(files.head_path(tmp_path), writable=True).boot = 1
    files.segment_path(tmp_path, 256).unlink()

    with pytest.raises(CorruptRecordError, match="seq 256: expected segment 256, found none"):
        TapeWriter(tmp_path, segment_records=SEGMENT)


@pytest.mark.parametrize("seq", [0, 255, 256, 299])
def test_a_record_below_the_mark_that_names_another_stream_halts_and_is_not_indexed_there(
    tmp_path: Path, seq: int
) -> None:
    """Its own stream's readers would have passed it over, and no crc would have been asked."""
    written_tape(tmp_path, 600, 500)
    Head(files.head_path(tmp_path), writable=True).boot = 1
    segment = files.segment_path(tmp_path, seq - seq % SEGMENT)
    raw = bytearray(segment.read_bytes())
    raw[seq % SEGMENT * SIZE + 4] ^= 1  # the lowest bit of the stream
    segment.write_bytes(raw)

    with pytest.raises(CorruptRecordError, match=rf"{segment.name}: seq {seq}: expected bytes that match their crc"):
        TapeWriter(tmp_path, segment_records=SEGMENT)


def test_a_killed_writer_of_the_same_boot_cuts_nothing(tmp_path: Path) -> None:
    written_tape(tmp_path, 600, 300)

    writer = TapeWriter(tmp_path, segment_records=SEGMENT)

    assert writer.seq == 600
    assert TapeReader(tmp_path).cuts() == []
