"""Snapshots: the newest that counts, and what does not count."""

from pathlib import Path

import msgspec
import pytest

from strategy_runner.worker.snapshot import Snapshot, newest_snapshot, oldest_seq, remove_snapshots, write_snapshot

GENERATION = "0badcafe"


def snapshot(seq: int, generation: str = GENERATION) -> Snapshot:
    return Snapshot(
        generation=generation,
        seq=seq,
        live_from=5,
        positions={"X/trade": seq},
        log_offset=16,
        n=3,
        signals=3,
        refusals=1,
        records=seq,
        machine=b"state",
    )


def seqs(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.snapshot"))


def newest(folder: Path, durable: int = 1_000) -> int | None:
    found = newest_snapshot(folder, GENERATION, durable)
    return found.seq if found else None


def test_a_snapshot_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot(7))
    assert newest_snapshot(tmp_path, GENERATION, 7) == snapshot(7)


def test_without_a_snapshot_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert oldest_seq(tmp_path) == 0


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for seq in (90, 100, 110, 2_000):
        write_snapshot(tmp_path, snapshot(seq))
    assert seqs(tmp_path) == [110, 2_000]
    assert oldest_seq(tmp_path) == 110


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:3],
        lambda raw: raw[:-1],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: bytes(len(raw)),
    ],
    ids=["empty", "no whole crc", "torn", "one bit of the state", "zeros"],
)
def test_a_damaged_newest_one_falls_back_to_the_older(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    write_snapshot(tmp_path, snapshot(100))
    write_snapshot(tmp_path, snapshot(200))
    path = tmp_path / f"{200:015d}.snapshot"
    path.write_bytes(damage(path.read_bytes()))
    assert newest(tmp_path) == 100


def test_a_whole_file_of_another_format_does_not_count(tmp_path: Path) -> None:
    class Other(msgspec.Struct):
        generation: str = GENERATION
        seq: int = 300

    write_snapshot(tmp_path, snapshot(100))
    write_snapshot(tmp_path, Other())  # type: ignore[arg-type]  # what a later version might write
    assert seqs(tmp_path) == [100, 300]
    assert newest(tmp_path) == 100


def test_one_of_another_generation_does_not_count(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot(100))
    write_snapshot(tmp_path, snapshot(200, "0badcaff"))
    assert newest(tmp_path) == 100


def test_one_newer_than_the_durable_mark_does_not_count(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot(100))
    write_snapshot(tmp_path, snapshot(200))
    assert newest(tmp_path, durable=199) == 100
    assert newest(tmp_path, durable=200) == 200
    assert newest(tmp_path, durable=99) is None


def test_those_above_a_seq_can_be_removed_and_the_others_stay(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot(100))
    write_snapshot(tmp_path, snapshot(200))
    remove_snapshots(tmp_path, above=100)
    assert seqs(tmp_path) == [100]
    remove_snapshots(tmp_path)
    assert seqs(tmp_path) == []


def test_a_write_that_died_in_the_middle_leaves_the_older_ones(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot(100))
    (tmp_path / "snapshot.new").write_bytes(b"half of it")
    assert newest(tmp_path) == 100
    write_snapshot(tmp_path, snapshot(200))
    assert newest(tmp_path) == 200
