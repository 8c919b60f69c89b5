"""Checks of a tape: the crc of every record that is kept, the indexes against the records, the counts of the head.

Whoever damaged a bit is found by file and seq. Reads while the feed writes; what is published at the beginning is checked.
"""

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError, NotRunningError, VersionMismatchError
from strategy_runner.model.counted import counted
from strategy_runner.model.record import DTYPE, SIZE, Kind
from strategy_runner.model.stream import Stream
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.frames import Frames
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.kept import Kept, read_kept
from strategy_runner.tape.status import State, read_status

BLOCK_RECORDS = 65_536
CHECK = "tape"
_RESTORE = (
    "restore the file from a copy; without one, move the folders of this mode below var/market, var/oms and var/clients away "
    "and begin anew: nothing below it is trusted"
)
_NO_WRITER = (
    "stop the feed: it rebuilds indexes and counts from the records after a reboot; else as for a damaged record"
)

_NOTED = (
    (Kind.GAP, "no gaps in what the feed received", "each names symbol, time and cause: read the streams SYMBOL/gap"),
    (Kind.CLOCK_STEP, "a wall clock that nobody set", "let NTP slew it; the feed's own clock went on evenly"),
)

Records = npt.NDArray[np.void]
Seqs = npt.NDArray[np.uint64]


def check_tape(folder: Path) -> list[Finding]:
    """`folder` holds head and segments. Raises OSError when a file cannot be read at all."""
    try:
        head = Head(files.head_path(folder))
        head.first  # noqa: B018  it has a check of its own
    except NotRunningError:
        return []
    except (VersionMismatchError, CorruptRecordError, ValueError) as fault:
        return [error(CHECK, files.head_path(folder), "the head of a tape", str(fault), _RESTORE)]
    if not head.segment_records:
        return [error(CHECK, files.head_path(folder), "records in a segment", "0", _RESTORE)]
    return _Tape(folder, head).check()


class _Tape:
    """One tape as it was when the check began. `is_closed` once its feed has ended as it should."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder = folder
        self.head = head
        status = read_status(folder.parent / "status")
        self.is_closed = status is not None and status.state is State.STOPPED
        # in this order, since a feed at work may move all three meanwhile, none of them past the next
        self.first, self.durable, self.count = head.first, head.durable, head.count
        self.epoch = head.epoch
        self._dropped = status.refusals if status is not None else 0
        self._noted: dict[Kind, tuple[int, float]] = {}
        self.boundary = Kept()
        self.findings: list[Finding] = []
        self.streams: list[Stream] = []
        self.damaged: set[int] = set()

    def check(self) -> list[Finding]:
        self._read_names()
        self._read_kept()
        if self._check_head() and self._check_segments():
            for first, path in self.kept():
                self._check_records(first, path)
            _Indexes(self).check()
        self._tell_noted()
        if not any(finding.level == "error" for finding in self.findings):
            kept = self.count - self.first
            streams = counted(len(self.streams), "stream")
            word = f"{counted(kept, 'record')} whole, seq {self.first} to {self.count - 1}, {streams}"
            self.findings.append(ok(CHECK, self.folder, word if kept > 0 else "empty"))
        return self.findings

    def _read_names(self) -> None:
        known = self._counted()  # before the names, which are written first
        frames = Frames(files.names_path(self.folder))
        for offset, payload in frames:
            try:
                self.streams.append(Stream.parse(payload.decode()))
            except ValueError as fault:
                self.report(frames.path, "a stream's name", f"offset {offset}: {fault}")
        if known > len(self.streams):
            found = frames.torn or frames.damage or counted(len(self.streams), "name")
            self.report(
                frames.path,
                f"names of {counted(known, 'stream')}, as {files.counts_path(self.folder)} has counts",
                found,
            )
        for path, damage in ((frames.path, frames.damage), *self._other_logs()):
            if damage:
                self.report(path, "a whole log", damage)

    def _counted(self) -> int:
        """Behind the last stream that has records."""
        path = files.counts_path(self.folder)
        counts = np.frombuffer(path.read_bytes(), dtype="<u8") if path.exists() else np.zeros(0, dtype="<u8")
        return int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0

    def _read_kept(self) -> None:
        try:
            self.boundary = read_kept(files.kept_path(self.folder))
        except CorruptRecordError as fault:
            self.report(files.kept_path(self.folder), "where the indexes begin", str(fault))

    def _tell_noted(self) -> None:
        """What the feed itself could not help: it is on the tape, or counted, for somebody to read."""
        for kind, expected, advice in _NOTED:
            count, worst = self._noted.get(kind, (0, 0.0))
            if count:
                self.findings.append(warning(CHECK, self.folder, expected, f"{count}, up to {worst:.3f} s", advice))
        if self._dropped:
            advice = "its log names symbol, reason and row"
            self.findings.append(
                warning(
                    CHECK, self.folder, "only sound rows from the feed's source", f"{self._dropped} dropped", advice
                )
            )

    def _other_logs(self) -> Iterator[tuple[Path, str]]:
        frames = Frames(files.cuts_path(self.folder))
        for _ in frames:
            pass
        yield frames.path, frames.damage

    def _check_head(self) -> bool:
        path = files.head_path(self.folder)
        if not self.first <= self.count:
            self.report(path, f"a first seq of at most the count {self.count}", f"first {self.first}")
            return False
        size = int(self.head.segment_records)
        end = max((first + size for first, _ in files.segments(self.folder)), default=self.first)
        if self.count > end + size:
            self.report(path, f"a count of at most {end}, where the last segment ends", str(self.count))
            return False
        if self.durable > self.count or (self.is_closed and self.durable < self.count):
            limit = "equal to" if self.is_closed else "of at most"
            self.report(path, f"a durable mark {limit} the count {self.count}", f"durable {self.durable}")
        if self.first % self.head.segment_records:
            self.report(
                path, f"a first seq at a segment's begin ({self.head.segment_records} records)", str(self.first)
            )
            return False
        return True

    def _check_segments(self) -> bool:
        there = dict(files.segments(self.folder))
        whole = True
        for first, path in self.kept():
            if first not in there:
                if first < self.head.first:
                    continue  # retention has taken it meanwhile
                self.report(path, f"a segment with seq {first} to {self.end_of(first) - 1}", "no such file")
                whole = False
            elif path.stat().st_size < (self.end_of(first) - first) * SIZE:
                found = f"{path.stat().st_size} bytes, which end at seq {first + path.stat().st_size // SIZE}"
                self.report(path, f"records up to seq {self.end_of(first) - 1}", found)
                whole = False
        left = [path for first, path in there.items() if first < self.first]
        if left:
            advice = f"rm {left[0]}: the feed was killed while it removed it"
            self.findings.append(warning(CHECK, left[0], f"no segment below seq {self.first}", f"{len(left)}", advice))
        return whole

    def _check_records(self, first: int, path: Path) -> None:
        try:
            raw = memoryview(files.map_existing(path))
        except FileNotFoundError:
            return  # retention has taken it meanwhile
        end = self.end_of(first)
        for start in range(first, end, BLOCK_RECORDS):
            stop = min(end, start + BLOCK_RECORDS)
            block = raw[(start - first) * SIZE : (stop - first) * SIZE]
            self._check_block(path, start, np.frombuffer(block, dtype=DTYPE), block)

    def _check_block(self, path: Path, start: int, records: Records, raw: memoryview) -> None:
        # as record_crc, without a call for each record
        crcs = [
            crc32(raw[at : at + SIZE - 4], seq & 0xFFFFFFFF) for seq, at in enumerate(range(4, len(raw), SIZE), start)
        ]
        wrong = np.flatnonzero(records["crc"] != np.array(crcs, dtype=np.uint32))
        if len(wrong):
            seq = start + int(wrong[0])
            self.damaged.add(path_first(path))
            expected = f"seq {seq}: crc {crcs[int(wrong[0])]:#010x}"
            more = f" ({len(wrong)} records from seq {start} to {start + len(records) - 1})" if len(wrong) > 1 else ""
            self.report(path, expected, f"{int(records['crc'][int(wrong[0])]):#010x}{more}")
            return
        self._check_meaning(path, start, records)

    def _check_meaning(self, path: Path, start: int, records: Records) -> None:
        """Of records whose bytes are whole: a known stream of their kind, epochs and times that do not go back."""
        kinds = np.array([int(stream.kind) for stream in self.streams] or [0], dtype=np.uint8)
        ids = records["stream"]
        unknown = ids >= len(self.streams)
        foreign = unknown | (kinds[np.where(unknown, 0, ids)] != records["kind"])
        if foreign.any():
            at = int(foreign.argmax())
            found = f"stream {int(ids[at])}, kind {int(records['kind'][at])}"
            self.report(path, f"seq {start + at}: a stream of names.log and its kind", found)
        for kind, _, _ in _NOTED:
            seconds = np.abs(records["v"][records["kind"] == kind, 0])
            if len(seconds):
                count, worst = self._noted.get(kind, (0, 0.0))
                self._noted[kind] = count + len(seconds), max(worst, float(seconds.max()))
        steps = np.flatnonzero(np.diff(records["received_ns"]) < 0)
        if len(steps):
            at = int(steps[0]) + 1
            back_ms = int(records["received_ns"][at - 1] - records["received_ns"][at]) / 1e6
            advice = "the host's clock was set back while the feed ran; let NTP slew it"
            found = f"{back_ms:.3f} ms earlier than the record before"
            self.findings.append(
                warning(CHECK, path, f"seq {start + at}: a time of receipt that does not go back", found, advice)
            )
        last_epoch = int(records["epoch"].max())
        if last_epoch > self.epoch & 0xFFFF and self.epoch <= 0xFFFF:
            at = int((records["epoch"] > self.epoch).argmax())
            self.report(path, f"seq {start + at}: an epoch of at most {self.epoch}", str(last_epoch))

    def kept(self) -> Iterator[tuple[int, Path]]:
        for first in range(self.first, self.count, self.head.segment_records):
            yield first, files.segment_path(self.folder, first)

    def end_of(self, first: int) -> int:
        return min(first + int(self.head.segment_records), self.count)

    def report(self, path: Path, expected: str, found: str) -> None:
        self.findings.append(error(CHECK, path, expected, found, _RESTORE))


class _Indexes:
    """The streams' indexes: each names exactly the records of its stream, in order."""

    def __init__(self, tape: _Tape) -> None:
        self._tape = tape
        path = files.counts_path(tape.folder)
        counts = np.frombuffer(path.read_bytes(), dtype="<u8") if path.exists() else np.zeros(0, dtype="<u8")
        self._counts: list[int] = counts[: len(tape.streams)].tolist()
        self._next: list[int | None] = [None] * len(self._counts)
        self._chunks: dict[int, tuple[int, Seqs]] = {}
        self._faulty: set[int] = set()

    def check(self) -> None:
        tape = self._tape
        if len(self._counts) < len(tape.streams):
            self._error(
                files.counts_path(tape.folder),
                f"counts of {counted(len(tape.streams), 'stream')}",
                f"{len(self._counts)}",
            )
            return
        for first, path in tape.kept():
            self._check_segment(first, path)
        for stream_id, position in enumerate(self._next):
            if stream_id not in self._faulty:
                self._check_count(stream_id, position or 0)

    def _check_segment(self, first: int, path: Path) -> None:
        try:
            ids = np.frombuffer(files.map_existing(path), dtype=DTYPE)["stream"][: self._tape.end_of(first) - first]
        except FileNotFoundError:
            return  # retention has taken it meanwhile
        if first in self._tape.damaged:
            self._next = [None] * len(
                self._counts
            )  # which stream a broken record was of, nobody knows: find the place anew
            return
        order = np.argsort(ids, kind="stable")
        found, starts = np.unique(ids[order], return_index=True)
        for stream_id, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            if stream_id < len(self._counts) and stream_id not in self._faulty:
                self._check_stream(stream_id, first, (rows + first).astype("<u8"))

    def _check_stream(self, stream_id: int, first: int, seqs: Seqs) -> None:
        position = self._next[stream_id]
        if position is None:
            position = self._first_entry_at(stream_id, first)
        for chunk_start in range(0, len(seqs), files.INDEX_ENTRIES):
            part = seqs[chunk_start : chunk_start + files.INDEX_ENTRIES]
            entries = self._entries(stream_id, position, len(part))
            same = len(entries)
            wrong = np.flatnonzero(entries != part[:same])
            if len(wrong):
                at = int(wrong[0])
                self._fault(stream_id, position + at, f"seq {int(part[at])}", f"seq {int(entries[at])}")
                return
            if same < len(part):
                self._fault(stream_id, position + same, f"seq {int(part[same])}", "no entry")
                return
            position += same
        self._next[stream_id] = position

    def _check_count(self, stream_id: int, position: int) -> None:
        """Entries behind the last record are those of records that are not published (yet)."""
        count = self._counts[stream_id]
        if self._next[stream_id] is None:
            position = self._first_entry_at(stream_id, self._tape.count)
        left = self._entries(stream_id, position, count - position) if position < count else np.zeros(0, dtype="<u8")
        early = np.flatnonzero(left < self._tape.count)
        if len(early):
            at = int(early[0])
            expected = f"no entry below seq {self._tape.count} behind the stream's last record"
            self._fault(stream_id, position + at, expected, f"seq {int(left[at])}")
        elif len(left) and self._tape.is_closed:
            expected = f"a count above seq {int(left[-1])}, which {self._tape.streams[stream_id].name} has"
            self._tape.report(files.head_path(self._tape.folder), expected, str(self._tape.count))

    def _first_entry_at(self, stream_id: int, seq: int) -> int:
        low, high = self._tape.boundary.of(stream_id), self._counts[stream_id]
        while low < high:
            middle = (low + high) // 2
            entry = self._entries(stream_id, middle, 1)
            if len(entry) and int(entry[0]) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def _entries(self, stream_id: int, position: int, length: int) -> Seqs:
        """Entries from a position on; fewer where the count or a missing chunk ends them."""
        length = max(0, min(length, self._counts[stream_id] - position))
        parts: list[Seqs] = []
        while length > 0:
            chunk, within = divmod(position, files.INDEX_ENTRIES)
            entries = self._chunk(stream_id, chunk)[within : within + length]
            if not len(entries):
                break
            parts.append(entries)
            position, length = position + len(entries), length - len(entries)
        return np.concatenate(parts) if parts else np.zeros(0, dtype="<u8")

    def _chunk(self, stream_id: int, chunk: int) -> Seqs:
        known = self._chunks.get(stream_id)
        if known is None or known[0] != chunk:
            path = files.index_path(self._tape.folder, stream_id, chunk)
            raw = files.map_existing(path) if path.exists() and path.stat().st_size else b""
            known = self._chunks[stream_id] = (chunk, np.frombuffer(raw, dtype="<u8"))
        return known[1]

    def _fault(self, stream_id: int, entry: int, expected: str, found: str) -> None:
        self._faulty.add(stream_id)
        chunk, within = divmod(entry, files.INDEX_ENTRIES)
        path = files.index_path(self._tape.folder, stream_id, chunk)
        name = self._tape.streams[stream_id].name
        self._error(path, f"entry {entry} of {name} at offset {within * 8}: {expected}", found)

    def _error(self, path: Path, expected: str, found: str) -> None:
        self._tape.findings.append(error(CHECK, path, expected, found, _NO_WRITER))


def path_first(path: Path) -> int:
    """The first seq of a segment, from its name."""
    return int(path.stem[4:])
