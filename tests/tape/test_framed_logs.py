"""Framed logs: what was appended is read, a torn tail is cut, damage is never taken for one."""

import gc
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.errors import CorruptRecordError, VersionMismatchError
from strategy_runner.tape.logs import PAGE_BYTES, PAYLOAD_BYTES_MAX, START, AppendLog, LogReader, Unsynced, read_log

PAYLOADS = [b"first", b"\0" * 9, b"the third frame is a little longer than the others", b"4"]


def written(path: Path, payloads: list[bytes]) -> list[int]:
    """Writes a log and returns where each frame begins, and where the last one ends."""
    log = AppendLog(path)
    starts = [log.append(payload) for payload in payloads]
    log.close()
    return [*starts, log.offset]


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(st.lists(st.binary(min_size=1, max_size=300), max_size=5), max_size=6),
    bytes_max=st.integers(1, 400),
)
def test_frames_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[bytes]], bytes_max: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "a.log"
    log = AppendLog(path)
    for block in blocks:
        log.append_many(block)
    log.close()
    reader, found = LogReader(path), []
    while frames := list(reader.read(bytes_max)):
        found += [payload for _, payload in frames]
        assert frames[-1][0] == reader.offset
    reader.close()
    assert found == list(read_log(path)) == [payload for block in blocks for payload in block]
    assert reader.offset == log.offset == path.stat().st_size


def test_a_log_is_synced_when_it_holds_what_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before may be unsynced, as may be another frame of the same length in the place of one taken back."""
    written(tmp_path / "a.log", PAYLOADS)
    synced: list[int] = []
    monkeypatch.setattr("strategy_runner.tape.logs.os.fdatasync", synced.append)
    log = AppendLog(tmp_path / "a.log")
    counts = []
    for change in (lambda: None, lambda: None, lambda: log.append(b"new"), lambda: log.cut(START), lambda: None):
        change()
        log.sync()
        counts.append(len(synced))
    end = log.append(b"one") and log.offset
    log.sync()
    log.cut(START)
    log.append(b"two")
    assert log.offset == end
    log.sync()
    assert (counts, len(synced)) == ([1, 1, 2, 3, 3], 5)


@pytest.mark.parametrize("short", [0, 7, 8])
def test_the_longest_payloads_are_read_and_so_is_what_stands_behind_them(tmp_path: Path, short: int) -> None:
    """The reader stopped before one within a frame's header of the limit, in silence."""
    payloads = [bytes(PAYLOAD_BYTES_MAX - short), b"behind"]
    written(tmp_path / "a.log", payloads)
    assert list(read_log(tmp_path / "a.log")) == payloads


@pytest.mark.parametrize("bytes_max", [1, 8, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_000, 1 << 20])
def test_a_reader_knows_whether_it_has_seen_the_end(tmp_path: Path, bytes_max: int) -> None:
    """It may have and not say so, when what it read ends where the log does; never the other way round."""
    path = tmp_path / "a.log"
    ends = written(path, [bytes([number]) * 1_000 for number in range(60)])
    reader, seen = LogReader(path), 0
    assert not reader.is_at_end
    while frames := list(reader.read(bytes_max)):
        seen += len(frames)
        assert not reader.is_at_end or reader.offset == ends[-1]
    assert (seen, reader.is_at_end) == (60, True)
    AppendLog(path).append(b"more")
    assert [payload for _, payload in reader.read(bytes_max)] == [b"more"]
    reader.close()


def test_a_log_that_is_not_there_yet_is_empty_and_then_found(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    reader = LogReader(path)
    assert list(reader.read()) == []
    path.touch()  # the writer has made the file and not yet its header
    assert list(reader.read()) == []
    log = AppendLog(path)
    assert list(reader.read()) == []
    log.append(b"x")
    assert [payload for _, payload in reader.read()] == [b"x"]
    assert list(reader.read()) == []
    log.append(b"y")
    assert [payload for _, payload in LogReader(path, reader.offset).read()] == [b"y"]


def test_a_tail_torn_at_any_byte_is_cut_and_every_earlier_frame_stays(tmp_path: Path) -> None:
    whole = tmp_path / "whole.log"
    ends = written(whole, PAYLOADS)[1:]
    content = whole.read_bytes()
    for size in range(len(content) + 1):
        path = tmp_path / "torn.log"
        path.write_bytes(content[:size])
        kept = [payload for payload, end in zip(PAYLOADS, ends, strict=True) if end <= size]
        assert list(read_log(path)) == kept
        log = AppendLog(path)
        assert log.torn_bytes == (size - max([START, *(end for end in ends if end <= size)]) if size >= START else 0)
        log.append(b"after")
        log.close()
        assert list(read_log(path)) == [*kept, b"after"]


def test_a_flipped_bit_before_the_last_frame_is_damage_to_writer_and_reader(tmp_path: Path) -> None:
    """Wherever it strikes: in a length, in a crc, in a payload."""
    path = tmp_path / "a.log"
    starts = written(path, PAYLOADS)
    content = path.read_bytes()
    for bit in range(START * 8, starts[-2] * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        struck = max(start for start in starts if start <= bit // 8)
        with pytest.raises(CorruptRecordError, match=rf"a\.log: offset {struck}: expected a whole frame"):
            list(read_log(path))
        with pytest.raises(CorruptRecordError, match=rf"offset {struck}"):
            AppendLog(path)
        assert path.read_bytes() == damaged, "what is damaged is left for a person to look at"


def lost_pages(content: bytes, synced: int, luck: random.Random) -> bytes:
    """What a power cut may leave: of what was not synced some pages, in any order, and zeros where the others were."""
    raw = bytearray(content)
    for page in range(synced - synced % PAGE_BYTES, len(raw), PAGE_BYTES):
        begin, end = max(page, synced), min(page + PAGE_BYTES, len(raw))
        if luck.random() < 0.5 and end - begin > 4:
            raw[begin:end] = bytes(end - begin)
    return bytes(raw)


@pytest.mark.parametrize("seed", range(20))
def test_pages_that_a_power_cut_took_of_what_was_not_synced_cut_the_log_there(tmp_path: Path, seed: int) -> None:
    """Whole frames stood behind them, so it passed for damage, and whoever writes the log did not start any more."""
    luck, path = random.Random(seed), tmp_path / "a.log"
    payloads = [luck.randbytes(luck.choice((1, 30, 500, 3_000, 9_000))) for _ in range(40)]
    ends = [*written(path, payloads)[1:]]
    count = luck.randrange(40)
    synced = ends[count - 1] if count else START
    path.write_bytes(lost_pages(path.read_bytes(), synced, luck))

    log = AppendLog(path, whole_to=luck.choice((START, synced)), unsynced=lambda behind: True)

    kept = list(read_log(path))
    assert kept == payloads[: len(kept)] and len(kept) >= count
    log.append(b"after")
    log.close()
    assert list(read_log(path)) == [*kept, b"after"]


@pytest.mark.parametrize("unsynced", [None, lambda behind: b"synced" in list(behind)])
def test_a_hole_is_damage_where_nobody_knows_that_it_was_not_synced(tmp_path: Path, unsynced: Unsynced | None) -> None:
    path = tmp_path / "a.log"
    starts = written(path, [b"first", b"x" * 6_000, b"y" * 6_000, b"last"])
    content = bytearray(path.read_bytes())
    content[PAGE_BYTES : 2 * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    for open_log in (lambda: AppendLog(path, unsynced=unsynced), lambda: list(read_log(path))):
        with pytest.raises(CorruptRecordError, match=f"offset {starts[1]}: expected a whole frame"):
            open_log()
    assert path.read_bytes() == content


def test_the_writer_is_shown_every_whole_frame_behind_a_hole(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.log", []
    payloads = [bytes([n]) * 3_000 for n in range(1, 12)]
    written(path, payloads)
    content = bytearray(path.read_bytes())
    for page in (1, 5):
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)

    def unsynced(behind: Iterator[bytes]) -> bool:
        shown.extend(behind)
        return True

    AppendLog(path, unsynced=unsynced).close()
    assert shown == [*payloads[3:6], *payloads[9:]]
    assert list(read_log(path)) == payloads[:1]


def test_no_flipped_bit_passes_for_a_hole(tmp_path: Path) -> None:
    """Also not in a length of one bit that stands at the end of a page."""
    for room in range(1, 7):
        path = tmp_path / f"{room}.log"
        begin = written(path, [b"x" * (PAGE_BYTES - START - 8 - room), b"y" * 64, b"behind"])[1]
        content = path.read_bytes()
        for bit in range(8 * begin, 8 * (begin + 8)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(CorruptRecordError, match=f"offset {begin}"):
                AppendLog(path, unsynced=lambda behind: True)


def test_a_log_that_is_refused_or_let_go_of_holds_no_descriptor(tmp_path: Path) -> None:
    """A log that a full disk or its damage refuses is tried again for as long as its process lives."""
    path = tmp_path / "a.log"
    starts = written(path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[starts[1]] ^= 1
    path.write_bytes(content)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(CorruptRecordError):
            AppendLog(path)
        list(LogReader(path).read(starts[1] - START))
    gc.collect()  # what an exception's traceback still holds
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_damage_at_the_end_of_what_a_reader_takes_at_once_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    starts = written(path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[starts[2] - 1] ^= 1
    path.write_bytes(content)
    reader = LogReader(path)
    with pytest.raises(CorruptRecordError, match=f"offset {starts[1]}"):
        for _ in range(3):
            list(reader.read(starts[2] - reader.offset))


def test_frames_known_to_be_whole_are_not_read_again_but_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    starts = written(path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[starts[0] + 8] ^= 1
    path.write_bytes(content)
    log = AppendLog(path, whole_to=starts[2])
    assert (log.offset, log.torn_bytes) == (starts[-1], 0)
    log.close()
    with pytest.raises(CorruptRecordError, match=f"expected at least {starts[-1] + 1} bytes, found {starts[-1]}"):
        AppendLog(path, whole_to=starts[-1] + 1)


def test_a_file_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    content = b"SRLOG\0\0\0\2\0\0\0\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises(VersionMismatchError, match=r"a\.log: expected a log of version 1"):
        AppendLog(path)
    with pytest.raises(VersionMismatchError):
        list(read_log(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "garbage", [bytes(16), bytes(5_000), random.Random(1).randbytes(16), b"something else entirely"]
)
def test_what_a_power_cut_left_of_a_log_that_was_never_synced_is_set_aside_and_begun_anew(
    tmp_path: Path, garbage: bytes
) -> None:
    """It stopped its worker for good, and a router that looked before the worker did never looked again."""
    path = tmp_path / "a.log"
    path.write_bytes(garbage)
    reader = LogReader(path)
    assert list(reader.read()) == []
    log = AppendLog(path)
    log.append(b"x")
    log.close()
    assert [payload for _, payload in reader.read()] == [b"x"]
    assert (tmp_path / "a.log.unreadable").read_bytes() == garbage


def test_a_damaged_header_before_a_whole_frame_is_damage_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    written(path, [b"the only one"])
    damaged = bytearray(path.read_bytes())
    damaged[:16] = bytes(16)
    path.write_bytes(damaged)
    for look in (AppendLog, lambda path: list(read_log(path))):
        with pytest.raises(VersionMismatchError):
            look(path)
    assert path.read_bytes() == damaged


_APPEND_FOR_EVER = """
import sys
from pathlib import Path
from strategy_runner.tape.logs import AppendLog
log = AppendLog(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while n < 30_000:
    log.append_many([b"%d " % (n + i) * (1 + (n + i) % 7) for i in range(3)])
    n += 3
"""


def test_a_reader_follows_a_writer_of_another_process_and_sees_every_frame_once(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    reader = LogReader(path)
    seen: list[int] = []
    with subprocess.Popen([sys.executable, "-c", _APPEND_FOR_EVER, str(path)], stdout=subprocess.PIPE) as writer:
        ended = False
        while True:
            frames = [payload for _, payload in reader.read(1000)]
            for payload in frames:
                words = payload.split()
                assert len(set(words)) == 1
                seen.append(int(words[0]))
            if not frames:
                if ended:
                    break
                ended = writer.poll() is not None
    assert writer.returncode == 0
    assert seen == list(range(30_000))


_APPEND_UNTIL_FULL = """
import resource, sys
from pathlib import Path
from strategy_runner.tape.logs import AppendLog
log = AppendLog(Path(sys.argv[1]))
log.append(b"before")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
end = log.offset
try:
    log.append_many([b"x" * 3000, b"y" * 3000])
except OSError as error:
    assert (log.offset, error.filename) == (end, sys.argv[1]), (log.offset, error.filename)
    log.append(b"small")
    sys.exit(0)
sys.exit(1)
"""


@pytest.mark.parametrize("limit", [50, 3100, 5000])
def test_a_full_disk_leaves_no_torn_frame(tmp_path: Path, limit: int) -> None:
    """A file size limit fails a write as a full disk does: part of it written, and then an error."""
    path = tmp_path / "a.log"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", _APPEND_UNTIL_FULL, str(path), str(limit)], check=True, timeout=60)
    log = AppendLog(path)
    assert log.torn_bytes == 0
    log.close()
    assert list(read_log(path)) == [b"before", b"small"]


def test_a_log_survives_without_a_byte_of_its_header(tmp_path: Path) -> None:
    """A crash between making the file and writing its header: there was no frame to lose."""
    path = tmp_path / "a.log"
    for size in range(START):
        path.write_bytes(b"SRLOG\0\0\0\1\0\0\0\0\0\0\0"[:size])
        written(path, [b"x"])
        assert list(read_log(path)) == [b"x"]
        path.unlink()
