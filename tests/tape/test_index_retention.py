"""Retention takes the indexes' oldest chunks too, and nobody who reads what is kept notices."""

import os
import random
from pathlib import Path

import pytest
from disk_names import DiskNames
from tape_records import STREAMS, append, check, open_writer, stream_of_seq

from strategy_runner.errors import CorruptRecordError
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.kept import read_kept
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

CHUNK = 64
SEGMENT = 100


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 entries: what takes 32,768 records of one stream is seen with few."""
    monkeypatch.setattr(files, "INDEX_ENTRIES", CHUNK)


def filled(folder: Path, count: int) -> TapeWriter:
    writer = open_writer(folder, segment_records=SEGMENT)
    append(writer, count)
    writer.publish()
    writer.make_durable()
    return writer


def chunks(folder: Path, stream_id: int) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (folder / "streams").glob(f"{stream_id}-*.idx"))


def seqs_of(stream_id: int, first: int, count: int) -> list[int]:
    return [seq for seq in range(first, count) if stream_of_seq(seq) == stream_id]


def check_kept(folder: Path, first: int, count: int) -> None:
    """Every stream gives exactly its records that are kept, under the ordinals they always had."""
    reader = TapeReader(folder)
    check(reader, first, count)
    for stream_id, stream in enumerate(STREAMS):
        assert reader.find(stream) == stream_id
        kept = seqs_of(stream_id, first, count)
        position = reader.first_ordinal_at(stream_id, first)
        assert position == len(seqs_of(stream_id, 0, first))
        found: list[int] = []
        while len(found) < len(kept):
            found += reader.seqs(stream_id, position + len(found), reader.entries(stream_id))
        assert found == kept
        for seq in random.Random(1).sample(range(first, count), 30):
            assert reader.first_ordinal_at(stream_id, seq) == len(seqs_of(stream_id, 0, seq))
    reader.close()


def test_chunks_wholly_below_the_first_seq_go_with_the_segments(tmp_path: Path) -> None:
    writer = filled(tmp_path, 2_050)
    reader = TapeReader(tmp_path)
    early = reader.seqs(0, 0, 5)
    assert chunks(tmp_path, 0)[0] == 0
    assert writer.remove_before(1_520) == 15
    below = len(seqs_of(0, 0, 1_500))
    assert chunks(tmp_path, 0)[0] == below // CHUNK > 5
    check_kept(tmp_path, 1_500, 2_050)
    assert reader.seqs(0, 0, 5) == early, "whoever still holds a chunk may go on reading it"
    with pytest.raises(CorruptRecordError, match=r"0-1\.idx: expected entries of kept records, found no file"):
        reader.seqs(0, CHUNK, CHUNK + 1)
    append(writer, 500)
    writer.publish()
    writer.make_durable()
    assert writer.remove_before(2_000) == 5
    check_kept(tmp_path, 2_000, 2_550)
    writer.close()


def test_a_tape_whose_chunks_are_gone_opens_again(tmp_path: Path) -> None:
    writer = filled(tmp_path, 2_050)
    writer.remove_before(1_500)
    writer.close()
    before = {stream_id: chunks(tmp_path, stream_id) for stream_id in range(3)}
    again = open_writer(tmp_path)
    assert {stream_id: chunks(tmp_path, stream_id) for stream_id in range(3)} == before, "none is made again"
    assert again.seq == 2_050
    append(again, 300)
    again.publish()
    check_kept(tmp_path, 1_500, 2_350)
    again.make_durable()
    assert again.remove_before(1_700) == 2
    check_kept(tmp_path, 1_700, 2_350)
    again.close()


@pytest.mark.parametrize("power_was_cut", [False, True])
def test_a_stream_of_which_nothing_is_kept_and_whose_chunks_were_full_goes_on(
    tmp_path: Path, power_was_cut: bool
) -> None:
    writer = open_writer(tmp_path, segment_records=SEGMENT)
    for stream_id in [0] * 2 * CHUNK + [1] * 300:
        writer.append(stream_id, 1, 0.0, 0.0, 0.0, 0.0, 0.0)
    writer.publish()
    writer.make_durable()
    assert writer.remove_before(300) == 3
    assert chunks(tmp_path, 0) == []
    writer.close()
    if power_was_cut:
        Head(files.head_path(tmp_path), writable=True).boot = 1
    again = open_writer(tmp_path)
    reader = TapeReader(tmp_path)
    assert reader.first_ordinal_at(0, 300) == reader.first_ordinal_at(0, again.seq) == 2 * CHUNK
    again.append(0, 2, 0.0, 0.0, 0.0, 0.0, 0.0)
    again.publish()
    assert reader.seqs(0, 2 * CHUNK, reader.entries(0)) == [again.seq - 1]
    again.close()


@pytest.mark.parametrize("seed", range(4))
def test_after_a_power_cut_the_indexes_are_made_again_with_the_ordinals_they_had(tmp_path: Path, seed: int) -> None:
    writer = filled(tmp_path, 2_050)
    writer.remove_before(1_500)
    writer.close()
    luck = random.Random(seed)
    Head(files.head_path(tmp_path), writable=True).boot = 1
    for path in [*(tmp_path / "streams").glob("*.idx"), files.counts_path(tmp_path)]:
        size = path.stat().st_size
        path.write_bytes(luck.choice([bytes(size), luck.randbytes(size), path.read_bytes()]))
    again = open_writer(tmp_path)
    assert again.seq == 2_050
    check_kept(tmp_path, 1_500, 2_050)
    append(again, 100)
    again.publish()
    check_kept(tmp_path, 1_500, 2_150)
    again.close()


def test_where_retention_has_come_to_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segments were gone and what says so was not there: no feed started any more."""
    disk = DiskNames(monkeypatch)
    writer = filled(tmp_path, 2_050)
    writer.remove_before(1_500)
    writer.close()
    disk.cut(tmp_path / "streams", "kept")
    Head(files.head_path(tmp_path), writable=True).boot = 1
    again = open_writer(tmp_path)
    assert again.seq == 2_050
    check_kept(tmp_path, 1_500, 2_050)
    again.close()


def test_chunks_that_a_killed_writer_left_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """It had noted where retention had come to; behind that nobody looked for them again."""
    writer = filled(tmp_path, 2_050)
    before = {path: path.read_bytes() for path in (tmp_path / "streams").glob("*.idx")}
    writer.remove_before(1_500)
    writer.close()
    kept = {stream_id: chunks(tmp_path, stream_id) for stream_id in range(3)}
    for path, content in before.items():
        path.write_bytes(content)
    again = open_writer(tmp_path)
    assert {stream_id: chunks(tmp_path, stream_id) for stream_id in range(3)} == kept
    check_kept(tmp_path, 1_500, 2_050)
    again.close()


@pytest.mark.parametrize("content", [b"", bytes(4), bytes(5)])
def test_an_empty_word_of_where_retention_has_come_to_is_damage(tmp_path: Path, content: bytes) -> None:
    path = files.kept_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=r"streams/kept: expected "):
        read_kept(path)


@pytest.mark.parametrize("left", ["everything", "some segments"])
def test_a_writer_killed_while_it_removes_goes_on_where_it_wanted_to_be(tmp_path: Path, left: str) -> None:
    writer = filled(tmp_path, 2_050)
    segments = {path: path.read_bytes() for _, path in files.segments(tmp_path)}
    writer.remove_before(1_500)
    writer.close()
    Head(files.head_path(tmp_path), writable=True).first = 0 if left == "everything" else 700
    for path, content in segments.items():
        if left == "everything" or path >= files.segment_path(tmp_path, 700):
            path.write_bytes(content)
    again = open_writer(tmp_path)
    assert again.head.first == 1_500
    check_kept(tmp_path, 1_500, 2_050)
    append(again, 100)
    again.publish()
    again.make_durable()
    assert again.remove_before(1_700) >= 2
    assert next(first for first, _ in files.segments(tmp_path)) == 1_700
    check_kept(tmp_path, 1_700, 2_150)
    again.close()


def test_a_reader_that_is_closed_holds_no_file(tmp_path: Path) -> None:
    writer = filled(tmp_path, 50)

    def held() -> int:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208
        return sum(os.path.realpath(link) == str(files.names_path(tmp_path.resolve())) for link in links)

    before = held()
    reader = TapeReader(tmp_path)
    assert reader.find(STREAMS[0]) == 0
    assert held() == before + 1
    reader.close()
    assert held() == before
    writer.close()
