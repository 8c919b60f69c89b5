"""The one writer of a tape: append records, then publish them all with one store.

Order of stores: record, index entry, counts, head.count. A reader that has seen head.count therefore finds everything
below it; what a killed writer had appended but not published was seen by nobody and is written anew.

A new segment or index chunk that finds no space is made from the reserve, so that what is under way can be completed; whoever
writes then waits until `reserve` can be made again.
"""

import contextlib
import mmap
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError, DiskFullError, naming
from strategy_runner.model.counted import counted
from strategy_runner.model.record import CODEC, SIZE
from strategy_runner.model.stream import Stream
from strategy_runner.small_files import paths_in, sync_path
from strategy_runner.tape import files
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.head import Head, create_head
from strategy_runner.tape.kept import Kept, read_kept, write_kept
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.tape.remains import Remains, whole_segment
from strategy_runner.tape.reserve import Reserve

# A record in two steps, since its crc is over the rest: the rest as bytes, then both into the segment at once. What is the same
# in each record of a stream (id, epoch, kind, flags) is one number; v5 is 0.
_REST = struct.Struct("<IqqQ5d8x")
_EPOCH_BIT, _KIND_BIT = 32, 48
_WHOLE = struct.Struct(f"<I{_REST.size}s")
assert CODEC.format == "<IIqqIHBB6d"
assert _WHOLE.size == SIZE
_PACK_REST, _PACK_WHOLE_INTO = _REST.pack, _WHOLE.pack_into


class TapeWriter:
    """Opens a tape for writing, recovering it if its last writer was killed. One process at a time (the feed holds a lock)."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_records: int,
        reserve_bytes: int = 0,
        ends_group: Callable[[Stream], bool] = lambda stream: True,
    ) -> None:
        """`reserve_bytes` are held back beside one segment; 0 holds nothing back. Where records were lost, the tape is cut
        further until its last record is of a stream that `ends_group`: what a lost record had caused goes with it.

        Raises CorruptRecordError, DiskFullError, VersionMismatchError, OSError.
        """
        self.folder = folder
        self._segment_fd = -1
        self._unsynced: list[int] = []
        self._sync_lock = threading.Lock()
        (folder / "streams").mkdir(parents=True, exist_ok=True)
        fd, counts = files.map_preallocated(files.counts_path(folder), files.STREAMS_MAX * 8)
        os.close(fd)
        self._counts = memoryview(counts).cast("Q")
        has_head = files.head_path(folder).exists()
        power_was_cut = has_head and Head(files.head_path(folder)).boot not in (0, this_boot())
        if not power_was_cut:
            self._refuse_lost_names()
        self._names = AppendLog(files.names_path(folder))
        if not has_head:
            create_head(files.head_path(folder), segment_records)  # the last of the files: a reader waits for it
        self.head = Head(files.head_path(folder), writable=True)
        self._segment_records = self.head.segment_records
        self._remains = Remains(folder, self.head)
        self._kept = read_kept(files.kept_path(folder))
        self.head.first = max(self.head.first, self._kept.first)
        self._remove_left_chunks()
        self._ends_group = ends_group
        self.streams = [Stream.parse(payload.decode()) for payload in read_log(files.names_path(folder))]
        self._ids = {stream: i for i, stream in enumerate(self.streams)}
        self.head.streams = len(self.streams)
        self._indexes: list[memoryview] = []
        self._entries: list[int] = []
        self._segment: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._base = -1
        self._segment_bytes = files.segment_bytes(self._segment_records)
        self._at = self._segment_bytes  # where in the segment the next record goes; its end while none is open
        self._make_next_at = self._segment_bytes // 2  # once per segment: readers map the next one before they need it
        self.reserve = Reserve(folder, reserve_bytes and reserve_bytes + self._segment_bytes)
        self.reserve.make()
        self._touched: dict[int, int] = {}
        self.received_ns = 0
        self.seq = self._recover_from_power_cut() if power_was_cut else self._recover()
        self._remains.check_epoch(self.seq)
        self.head.epoch += 1
        if self.head.boot != this_boot():
            self.head.clock_offset_ns = 0  # of another boot's monotonic clock
        self.head.boot = this_boot()
        self._sync_head()
        self.epoch = self.head.epoch & 0xFFFF
        self._marks = [self._mark(stream) for stream in self.streams]
        self._last_event_ns = self.head.event_ns

    def stream_id(self, stream: Stream) -> int:
        """The id of a stream, a new one if it is new. Raises DiskFullError."""
        known = self._ids.get(stream)
        if known is not None:
            return known
        stream_id = len(self.streams)
        assert stream_id < files.STREAMS_MAX, f"at most {files.STREAMS_MAX} streams"
        index = self._map_index(stream_id, 0)
        try:
            self._names.append(stream.name.encode())
        except OSError as error:
            if not files.is_full(error):
                raise
            raise DiskFullError(f"{self._names.path}: expected space for a stream's name: {error.strerror}") from error
        self._names.sync()  # a record that outlives a power cut must find the name of its stream
        self._indexes.append(index)
        self._entries.append(0)
        self.streams.append(stream)
        self._marks.append(self._mark(stream))
        self._ids[stream] = stream_id
        self.head.streams = len(self.streams)
        return stream_id

    def append(
        self,
        stream_id: int,
        event_ns: int,
        v0: float,
        v1: float,
        v2: float,
        v3: float,
        v4: float,
    ) -> None:
        """Writes one record with the seq `self.seq`; nobody sees it before `publish`.

        Raises DiskFullError if the reserve was not enough; then nothing has changed.
        """
        seq = self.seq
        if self._at == self._segment_bytes:
            self._open_segment(seq)
        entry = self._entries[stream_id]
        within = entry % files.INDEX_ENTRIES
        if within == 0 and entry:
            self._indexes[stream_id] = self._map_index(stream_id, entry // files.INDEX_ENTRIES)
        at = self._at
        rest = _PACK_REST(
            stream_id,
            event_ns,
            self.received_ns,
            self._marks[stream_id],
            v0,
            v1,
            v2,
            v3,
            v4,
        )
        _PACK_WHOLE_INTO(self._view, at, crc32(rest, seq), rest)  # of the seed crc32 takes the lower 32 bits
        self._at = at + SIZE
        self._indexes[stream_id][within] = seq
        self._entries[stream_id] = entry + 1
        if stream_id not in self._touched:
            self._touched[stream_id] = seq
        self.seq = seq + 1
        self._last_event_ns = event_ns

    def append_aside(self, stream_id: int, event_ns: int, values: tuple[float, float, float, float]) -> None:
        """As `append`, for a record whose time is not the market's: the tape's event time stays where it is."""
        market_ns = self._last_event_ns
        self.append(stream_id, event_ns, *values, float("nan"))
        self._last_event_ns = market_ns

    def publish(self) -> dict[int, int]:
        """Makes everything appended visible; returns {stream id: first seq} of the streams touched."""
        touched = self._touched
        if touched:
            counts = self._counts
            entries = self._entries
            for stream_id in touched:
                counts[stream_id] = entries[stream_id]
            self.head.event_ns = self._last_event_ns
            self.head.count = self.seq
            self._touched = {}
            if self._at > self._make_next_at:
                self._make_next_at = self._segment_bytes
                self._make_segment(self._base + self._segment_records)
        return touched

    def make_durable(self) -> int:
        """Syncs what is published and advances the durable mark; returns it. May block; call it from a thread of its own.

        An OSError here is final: the pages may be marked clean although they never reached the disk.
        """
        target = self.head.count
        if target <= self.head.durable:
            return target
        with self._sync_lock:
            unsynced, self._unsynced = self._unsynced, []
            if self._segment_fd >= 0:
                unsynced.append(os.dup(self._segment_fd))
        for fd in unsynced:
            with naming(self.folder):
                os.fdatasync(fd)
            os.close(fd)
        self.head.durable = target
        return target

    def remove_before(self, seq: int) -> int:
        """Deletes whole segments below `seq`, and what only they need of the indexes; returns how many segments.

        The current segment always stays. Raises OSError, with nothing deleted, if it cannot note where the tape begins then.
        """
        limit = min(seq, self.head.durable, self._base if self._base >= 0 else self.seq)
        gone = [(first, path) for first, path in files.segments(self.folder) if first + self._segment_records <= limit]
        if not gone:
            return 0
        kept = self._kept_from(gone[-1][0] + self._segment_records)
        write_kept(files.kept_path(self.folder), kept)
        before, self._kept = self._kept, kept
        for first, path in gone:
            self.head.first = max(self.head.first, first + self._segment_records)
            path.unlink()
        for stream_id in range(len(self.streams)):
            for chunk in range(before.of(stream_id) // files.INDEX_ENTRIES, kept.of(stream_id) // files.INDEX_ENTRIES):
                files.index_path(self.folder, stream_id, chunk).unlink(missing_ok=True)
        return len(gone)

    def close(self) -> None:
        self._names.close()
        self._close_segments()

    def __del__(self) -> None:
        self._close_segments()  # as a log gives its descriptor back

    def _mark(self, stream: Stream) -> int:
        return int(stream.kind) << _KIND_BIT | self.epoch << _EPOCH_BIT

    # -- opening ---------------------------------------------------------------------------------------------------------

    def _close_segments(self) -> None:
        with self._sync_lock:
            for fd in [*self._unsynced, self._segment_fd]:
                if fd >= 0:
                    os.close(fd)
            self._unsynced, self._segment_fd = [], -1

    def _open_segment(self, seq: int) -> None:
        first = seq - seq % self._segment_records
        fd, segment = self._allocate(files.segment_path(self.folder, first), self._segment_bytes)
        with self._sync_lock:
            if self._segment_fd >= 0:
                self._unsynced.append(self._segment_fd)
            self._segment_fd = fd
        self._segment, self._view, self._base = segment, memoryview(segment), first
        self._at = (seq - first) * SIZE
        self._make_next_at = self._segment_bytes // 2

    def _make_segment(self, first: int) -> None:
        """Ahead of time, for readers to map. Nobody needs it yet, so a full disk is met when somebody does.

        Under its own name from the start: a sync of what it holds then brings the name to the disk too.
        """
        if self.reserve.is_held:  # else what is left of the disk is for what is under way
            with contextlib.suppress(DiskFullError):
                fd, _ = files.map_preallocated(files.segment_path(self.folder, first), self._segment_bytes)
                os.close(fd)

    def _map_index(self, stream_id: int, chunk: int) -> memoryview:
        path = files.index_path(self.folder, stream_id, chunk)
        fd, index = self._allocate(path, files.INDEX_ENTRIES * 8)
        os.close(fd)
        return memoryview(index).cast("Q")

    def _allocate(self, path: Path, size: int) -> tuple[int, mmap.mmap]:
        try:
            return files.map_preallocated(path, size)
        except DiskFullError:
            if not self.reserve.release():
                raise
            return files.map_preallocated(path, size)

    def _refuse_lost_names(self) -> None:
        """Before the log is opened for writing, which takes a damaged end of it for a torn one and cuts it off."""
        path = files.names_path(self.folder)
        named = sum(1 for _ in read_log(path))
        if named < files.STREAMS_MAX and self._counts[named]:
            raise CorruptRecordError(
                f"{path}: expected the name of stream {named}, of which there are {counted(self._counts[named], 'record')}, "
                f"found {counted(named, 'whole name')}"
            )

    def _remove_left_chunks(self) -> None:
        """Those that a killed writer had no time to remove: retention begins behind them, and would never come by again."""
        for path in paths_in(self.folder / "streams", suffix=".idx"):
            stream_id, chunk = map(int, path.stem.split("-"))
            if chunk < self._kept.of(stream_id) // files.INDEX_ENTRIES:
                path.unlink()

    def _sync_head(self) -> None:
        """So that after a power cut no head is found that is older than a record: one with an epoch that was given before, or
        of no boot, which would pass for a tape that needs no recovery."""
        for path in (files.head_path(self.folder), self.folder):
            sync_path(path)

    def _recover_from_power_cut(self) -> int:
        """After a reboot nothing that was not synced can be trusted, so only the records are: the next seq is the first that
        is not whole, and the indexes are made from the records again. What was published above it is noted as lost.

        Raises CorruptRecordError for damage below the durable mark.
        """
        count = self._remains.last_whole_record(self._remains.end(), self._is_group_end)
        self._note_cut(count)
        self.head.count = count
        self._reindex(count)
        self.head.durable = count  # it was read from the disk; the mark on the page may be older than what was let out
        return self._recover()

    def _note_cut(self, count: int) -> None:
        with contextlib.closing(AppendLog(files.cuts_path(self.folder))) as cuts:
            cuts.append(files.CUT.pack(self.head.epoch + 1, count))
            cuts.sync()

    def _reindex(self, count: int) -> None:
        """Every stream's index from the records that are kept; ordinals go on from those that retention took.

        Raises CorruptRecordError for a damaged record: in the index of a wrong stream it would be missed in its own.
        """
        entries = [self._kept.of(stream_id) for stream_id in range(len(self.streams))]
        for stream_id, entry in enumerate(entries):
            # entries of removed records are never read but in a search: any numbers that ascend will do
            begin = entry - entry % files.INDEX_ENTRIES
            self._write_index(stream_id, begin, np.arange(begin, entry, dtype=np.uint64))
        for first, path in files.segments(self.folder):
            stop = min(count - first, self._segment_records)
            if stop <= 0 or first < self._kept.first:
                continue
            of_records = whole_segment(path, first, stop)["stream"]
            for stream_id in np.unique(of_records).tolist():
                if stream_id >= len(self.streams):
                    seq = first + int(np.argmax(of_records == stream_id))
                    raise CorruptRecordError(
                        f"{files.names_path(self.folder)}: expected the name of stream {stream_id}, which seq {seq} of {path} "
                        f"has, found {counted(len(self.streams), 'name')}"
                    )
                seqs = (np.flatnonzero(of_records == stream_id) + first).astype("<u8")
                self._write_index(stream_id, entries[stream_id], seqs)
                entries[stream_id] += len(seqs)
        for stream_id, length in enumerate(entries):
            self._counts[stream_id] = length
        self._counts[len(entries) :] = memoryview(bytes(8 * (files.STREAMS_MAX - len(entries)))).cast("Q")

    def _write_index(self, stream_id: int, entry: int, seqs: "npt.NDArray[np.uint64]") -> None:
        while len(seqs):
            chunk, within = divmod(entry, files.INDEX_ENTRIES)
            part = seqs[: files.INDEX_ENTRIES - within]
            np.frombuffer(self._map_index(stream_id, chunk), dtype="<u8")[within : within + len(part)] = part
            entry, seqs = entry + len(part), seqs[len(part) :]

    def _kept_from(self, seq: int) -> Kept:
        """What is to be noted before the records below a seq are removed."""
        below = []
        for stream_id, entries in enumerate(self._entries):
            low, high = self._kept.of(stream_id), entries
            while low < high:
                middle = (low + high) // 2
                if self._index_entry(stream_id, middle) < seq:
                    low = middle + 1
                else:
                    high = middle
            below.append(low)
        return Kept(seq, tuple(below))

    def _recover(self) -> int:
        """Cuts what was never published off the indexes, checks the records above the durable mark, returns the next seq."""
        published = self.head.count
        count = self._remains.last_whole_record(published, self._is_group_end)
        if count < published:
            self._note_cut(count)
            self.head.count = count
        self._cut_indexes(count)
        if sum(self._entries) != count:  # every seq is in one index: a count or an entry is damaged
            self._reindex(count)
            self._cut_indexes(count)
        if sum(self._entries) != count:
            path = files.counts_path(self.folder)
            raise CorruptRecordError(f"{path}: expected {count} entries in all indexes, found {sum(self._entries)}")
        for stream_id, entries in enumerate(self._entries):
            self._indexes.append(self._map_index(stream_id, entries // files.INDEX_ENTRIES))  # the next entry's
        if count % self._segment_records:
            self._open_segment(count)
        else:
            self._make_segment(count)
        self._unsynced += self._sealed_above_the_mark()
        return count

    def _is_group_end(self, stream_id: int) -> bool:
        return self._ends_group(self.streams[stream_id])

    def _cut_indexes(self, count: int) -> None:
        """Takes the entries of what was not published off the ends. A count that cannot be right is cut too, and found out."""
        self._entries = []
        for stream_id in range(len(self.streams)):
            kept = self._kept.of(stream_id)
            entries = min(max(self._counts[stream_id], kept), kept + max(0, count - self._kept.first) + 1)
            while entries > kept and self._index_entry(stream_id, entries - 1) >= count:
                entries -= 1
            self._counts[stream_id] = entries
            self._entries.append(entries)

    def _sealed_above_the_mark(self) -> list[int]:
        """Descriptors of the sealed segments that a killed writer had published but not synced: the mark must wait for them."""
        unsynced = []
        for first, path in files.segments(self.folder):
            end = first + self._segment_records
            if self.head.durable < end <= self.head.count:
                unsynced.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return unsynced

    def _index_entry(self, stream_id: int, entry: int) -> int:
        """The seq of an entry; 0, which is no seq of a later entry, where the chunk is missing."""
        try:
            index = files.map_existing(files.index_path(self.folder, stream_id, entry // files.INDEX_ENTRIES))
        except FileNotFoundError:
            return 0
        return int.from_bytes(index[entry % files.INDEX_ENTRIES * 8 :][:8], "little")
