"""Bit rot: one flipped bit anywhere in a tape or a worker's folder is found, or changes nothing. It is never believed."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from build import Followers, bodies_on_disk, new_tape, random_rows, run_out, worker_spec, write_rows

from strategy_runner.assembly import make_follower
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import CorruptRecordError, StateError
from strategy_runner.history.tape_run import TapeRun
from strategy_runner.model.stream import Stream
from strategy_runner.monitor.checks_logs import check_client
from strategy_runner.monitor.checks_tape import check_tape
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker import follower
from strategy_runner.worker.genesis import Genesis, read_geneses

SEGMENT = 256
ROWS = random_rows(3, 60)
DURABLE = len(ROWS) - 40
KINDS = ("segment", "index", "counts", "names", "head", "snapshot", "signals")


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Files in which most of the bits mean something, and snapshots in the middle of what is read."""
    patch.setattr(files, "INDEX_ENTRIES", 256)
    patch.setattr(files, "STREAMS_MAX", 64)
    patch.setattr(follower, "SNAPSHOT_RECORDS", 150)
    patch.setattr(follower, "TURN_RECORDS_MAX", 100)


class Recorded:
    """A tape and a worker that was killed: some of what it has read lies above the durable mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = worker_spec(folder, folder=str(folder / "clients" / "acme" / "mock" / "workers" / "talk.X"))
        tape = new_tape(folder, segment_records=SEGMENT)
        write_rows(tape, ROWS[:DURABLE])
        write_rows(tape, ROWS[DURABLE:], durable=False)
        tape.close()
        StatusFile(folder / "status").enter(State.FAILED)
        followers = Followers()
        run_out(followers.make(self.spec))
        followers.close()
        self.bodies = bodies_on_disk(Path(self.spec.folder))
        self.genesis = read_geneses(Path(self.spec.folder))[0]
        assert len(self.bodies) > 100
        assert len(self.snapshots(folder)) == 2

    @staticmethod
    def snapshots(folder: Path) -> list[Path]:
        return sorted(folder.rglob("*.snapshot"))

    def copy(self, folder: Path) -> WorkerSpec:
        shutil.copytree(self.folder, folder, copy_function=shutil.copyfile)
        moved = msgspec.json.encode(self.spec).replace(str(self.folder).encode(), str(folder).encode())
        return msgspec.json.decode(moved, type=WorkerSpec)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with TemporaryDirectory(prefix="sr", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield Recorded(Path(name) / "base")


def candidates(folder: Path, kind: str) -> list[Path]:
    tape = folder / "tape"
    return {
        "segment": sorted(tape.glob("seg-*.tape")),
        "index": sorted((tape / "streams").glob("*.idx")),
        "counts": [files.counts_path(tape)],
        "names": [files.names_path(tape)],
        "head": [files.head_path(tape)],
        "snapshot": Recorded.snapshots(folder),
        "signals": sorted(folder.rglob("signals.log")),
    }[kind]


def flip(path: Path, luck: random.Random) -> str:
    raw = bytearray(path.read_bytes())
    meaningful = {"head": 13 * 8, "counts": 8 * 8}.get(path.name, len(raw))  # behind the first words both are empty
    bit = luck.randrange(8 * meaningful)
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    return f"{path.name} bit {bit}"


def carry_on(folder: Path, spec: WorkerSpec) -> list[bytes]:
    """What a feed and a worker do that are started again; the signals then. Raises StateError where they would halt."""
    tape = TapeWriter(folder / "tape", segment_records=SEGMENT)
    try:
        write_rows(tape, ROWS[tape.seq :])  # as the source gives them again
    finally:
        tape.close()
    worker = make_follower(spec, StatusFile(Path(spec.folder) / "status"))
    run_out(worker)
    worker.close()
    return bodies_on_disk(Path(spec.folder))


def rerun(folder: Path, spec: WorkerSpec, genesis: Genesis) -> list[bytes]:
    """The oracle of every comparison, over the tape as it is."""
    run = TapeRun(spec, folder / "tape", genesis)
    return [derived.body for derived in run.run(len(ROWS))]


def trial(recorded: Recorded, folder: Path, kind: str, luck: random.Random) -> str:
    """One flip; what became of it. Raises AssertionError if anybody believed it."""
    spec = recorded.copy(folder)
    what = flip(luck.choice(candidates(folder, kind)), luck)
    found = [*check_tape(folder / "tape"), *check_client(folder / "clients" / "acme" / "mock", "acme")]
    is_found = any(finding.level != "ok" for finding in found)
    outcomes = []
    for read in (lambda: rerun(folder, spec, recorded.genesis), lambda: carry_on(folder, spec)):
        try:
            signals = read()
        except StateError as error:
            assert str(error)
            outcomes.append("halted")
        else:
            assert signals == recorded.bodies, f"{what}: {len(signals)} signals, expected {len(recorded.bodies)}"
            outcomes.append("equal")
    assert is_found or "halted" not in outcomes or kind == "head", f"{what}: halted, and the doctor saw nothing"
    shutil.rmtree(folder)
    return f"{kind}: {', '.join(outcomes)}{', seen by doctor' if is_found else ''}"


def flips(recorded: Recorded, tmp_path: Path, count: int, seed: int) -> Counter[str]:
    print(f"seed {seed}")
    luck = random.Random(seed)
    return Counter(trial(recorded, tmp_path / str(n), KINDS[n % len(KINDS)], luck) for n in range(count))


def test_no_flipped_bit_is_believed(recorded: Recorded, tmp_path: Path) -> None:
    outcomes = flips(recorded, tmp_path, 98, 20)
    print("\n".join(f"{count:4} {outcome}" for outcome, count in sorted(outcomes.items())))
    assert any("halted" in outcome for outcome in outcomes)
    assert any("equal, equal" in outcome for outcome in outcomes)


def test_a_last_index_entry_that_names_no_record_is_not_believed(recorded: Recorded, tmp_path: Path) -> None:
    """It ascends, and nothing follows that could contradict it: the record would be left out in silence."""
    spec = recorded.copy(tmp_path / "copy")
    reader = TapeReader(tmp_path / "copy" / "tape")
    stream_id = reader.find(Stream.parse(spec.streams[0]))
    assert stream_id is not None
    chunk, within = divmod(reader.entries(stream_id) - 1, files.INDEX_ENTRIES)
    path = files.index_path(tmp_path / "copy" / "tape", stream_id, chunk)
    raw = bytearray(path.read_bytes())
    raw[8 * within + 4] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        CorruptRecordError, match=rf"{stream_id}-\*.idx: expected a last entry below {len(ROWS)}, found seq"
    ):
        rerun(tmp_path / "copy", spec, recorded.genesis)
    followers = Followers()
    with pytest.raises(CorruptRecordError, match="expected a last entry below"):
        run_out(followers.make(msgspec.structs.replace(spec, folder=str(tmp_path / "anew"))))
    followers.close()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_no_flipped_bit_of_two_thousand_is_believed(recorded: Recorded, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    outcomes = flips(recorded, tmp_path, 2_002, seed)
    print("\n".join(f"{count:4} {outcome}" for outcome, count in sorted(outcomes.items())))


def test_a_flipped_record_below_the_durable_mark_is_named_with_segment_and_seq(
    recorded: Recorded, tmp_path: Path
) -> None:
    spec = recorded.copy(tmp_path / "copy")
    path = files.segment_path(tmp_path / "copy" / "tape", SEGMENT)
    raw = bytearray(path.read_bytes())
    raw[10 * 80 + 33] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StateError, match=rf"{path.name}: seq {SEGMENT + 10}: expected crc"):
        rerun(tmp_path / "copy", spec, recorded.genesis)


def test_a_flipped_record_above_the_durable_mark_is_cut_and_written_again(recorded: Recorded, tmp_path: Path) -> None:
    spec = recorded.copy(tmp_path / "copy")
    seq = DURABLE + 5
    path = files.segment_path(tmp_path / "copy" / "tape", seq - seq % SEGMENT)
    raw = bytearray(path.read_bytes())
    raw[seq % SEGMENT * 80 + 33] ^= 1
    path.write_bytes(raw)
    assert carry_on(tmp_path / "copy", spec) == recorded.bodies
    assert Head(files.head_path(tmp_path / "copy" / "tape")).count == len(ROWS)


def test_an_index_entry_that_still_ascends_names_another_streams_record_and_is_refused(
    recorded: Recorded, tmp_path: Path
) -> None:
    spec = recorded.copy(tmp_path / "copy")
    path = files.index_path(tmp_path / "copy" / "tape", 1, 0)
    entries = memoryview(bytearray(path.read_bytes())).cast("Q")
    at = next(at for at in range(20, 60) if entries[at + 1] > entries[at] + 1)
    entries[at] += 1
    path.write_bytes(entries.tobytes())
    with pytest.raises(StateError, match=rf"1-\*\.idx: seq {entries[at]}: expected a record of stream 1, found one of"):
        rerun(tmp_path / "copy", spec, recorded.genesis)


def test_a_count_that_would_hide_a_streams_last_record_is_refused_and_the_feed_puts_it_right(
    recorded: Recorded, tmp_path: Path
) -> None:
    spec = recorded.copy(tmp_path / "copy")
    path = files.counts_path(tmp_path / "copy" / "tape")
    counts = memoryview(bytearray(path.read_bytes())).cast("Q")
    counts[0] -= 1
    path.write_bytes(counts.tobytes())
    with pytest.raises(
        StateError, match=rf"expected at least {len(ROWS)} entries in all indexes, found {len(ROWS) - 1}"
    ):
        rerun(tmp_path / "copy", spec, recorded.genesis)
    assert carry_on(tmp_path / "copy", spec) == recorded.bodies
    assert rerun(tmp_path / "copy", spec, recorded.genesis) == recorded.bodies
