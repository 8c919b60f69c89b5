"""The one writer of a tape: append records, then publish them all with one store.

Order of stores: record, index entry, counts, head.count. A reader that has seen head.count therefore finds everything
below it; what a killed writer had appended but not published was seen by nobody and is written anew.
"""

import contextlib
import mmap
import os
import struct
import threading
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import CODEC, DTYPE, SIZE, record_crc
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.head import Head, create_head
from strategy_runner.tape.logs import AppendLog, read_log

# A record in two steps, since its crc is over the rest: the rest as bytes, then both into the segment at once.
_REST = struct.Struct("<IqqIHBB6d")
_WHOLE = struct.Struct(f"<I{_REST.size}s")
assert CODEC.format == f"<I{_REST.format[1:]}"
assert _WHOLE.size == SIZE
_PACK_REST, _PACK_WHOLE_INTO = _REST.pack, _WHOLE.pack_into


class TapeWriter:
    """Opens a tape for writing, recovering it if its last writer was killed. One process at a time (the feed holds a lock)."""

    def __init__(self, folder: Path, *, segment_records: int) -> None:
        """Raises CorruptRecordError, DiskFullError, VersionMismatchError."""
        (folder / "streams").mkdir(parents=True, exist_ok=True)
        _, counts = files.map_preallocated(files.counts_path(folder), files.STREAMS_MAX * 8)
        self._counts = memoryview(counts).cast("Q")
        self._names = AppendLog(files.names_path(folder))
        if not files.head_path(folder).exists():
            create_head(files.head_path(folder), segment_records)  # the last of the files: a reader waits for it
        self.folder = folder
        self.head = Head(files.head_path(folder), writable=True)
        self._segment_records = self.head.segment_records
        self.streams = [Stream.parse(payload.decode()) for payload in read_log(files.names_path(folder))]
        self._kinds = [int(stream.kind) for stream in self.streams]
        self._ids = {stream: i for i, stream in enumerate(self.streams)}
        self._indexes: list[memoryview] = []
        self._entries: list[int] = []
        self._segment_fd = -1
        self._segment: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._base = -1
        self._segment_bytes = files.segment_bytes(self._segment_records)
        self._at = self._segment_bytes  # where in the segment the next record goes; its end while none is open
        self._unsynced: list[int] = []
        self._sync_lock = threading.Lock()
        self._touched: dict[int, int] = {}
        self.received_ns = 0
        power_was_cut = self.head.boot not in (0, this_boot())
        self.seq = self._recover_from_power_cut() if power_was_cut else self._recover()
        self.head.epoch += 1
        self.head.boot = this_boot()
        self.epoch = self.head.epoch & 0xFFFF
        self._last_event_ns = self.head.event_ns

    def stream_id(self, stream: Stream) -> int:
        """The id of a stream, a new one if it is new."""
        known = self._ids.get(stream)
        if known is not None:
            return known
        stream_id = len(self.streams)
        assert stream_id < files.STREAMS_MAX, f"at most {files.STREAMS_MAX} streams"
        self._indexes.append(self._map_index(stream_id, 0))
        self._entries.append(0)
        self._names.append(stream.name.encode())
        self._names.sync()  # a record that outlives a power cut must find the name of its stream
        self.streams.append(stream)
        self._kinds.append(int(stream.kind))
        self._ids[stream] = stream_id
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
        """Writes one record with the seq `self.seq`; nobody sees it before `publish`. Raises DiskFullError."""
        seq = self.seq
        if self._at == self._segment_bytes:
            self._open_segment(seq)
        at = self._at
        rest = _PACK_REST(
            stream_id,
            event_ns,
            self.received_ns,
            0,
            self.epoch,
            self._kinds[stream_id],
            0,
            v0,
            v1,
            v2,
            v3,
            v4,
            0.0,
        )
        _PACK_WHOLE_INTO(self._view, at, crc32(rest, seq & 0xFFFFFFFF), rest)
        self._at = at + SIZE
        entry = self._entries[stream_id]
        within = entry % files.INDEX_ENTRIES
        if within == 0 and entry:
            self._indexes[stream_id] = self._map_index(stream_id, entry // files.INDEX_ENTRIES)
        self._indexes[stream_id][within] = seq
        self._entries[stream_id] = entry + 1
        if stream_id not in self._touched:
            self._touched[stream_id] = seq
        self.seq = seq + 1
        self._last_event_ns = event_ns

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
            os.fdatasync(fd)
            os.close(fd)
        self.head.durable = target
        return target

    def remove_before(self, seq: int) -> int:
        """Deletes whole segments below `seq` and returns how many. The current segment always stays."""
        removed = 0
        for first, path in files.segments(self.folder):
            end = first + self._segment_records
            if end > seq or end > self.head.durable or first == self._base:
                break
            self.head.first = end
            path.unlink()
            removed += 1
        return removed

    def close(self) -> None:
        self._names.close()
        with self._sync_lock:
            for fd in [*self._unsynced, self._segment_fd]:
                if fd >= 0:
                    os.close(fd)
            self._unsynced, self._segment_fd = [], -1

    # -- opening ---------------------------------------------------------------------------------------------------------

    def _open_segment(self, seq: int) -> None:
        first = seq - seq % self._segment_records
        fd, segment = files.map_preallocated(files.segment_path(self.folder, first), self._segment_bytes)
        with self._sync_lock:
            if self._segment_fd >= 0:
                self._unsynced.append(self._segment_fd)
            self._segment_fd = fd
        self._segment, self._view, self._base = segment, memoryview(segment), first
        self._at = (seq - first) * SIZE

    def _map_index(self, stream_id: int, chunk: int) -> memoryview:
        path = files.index_path(self.folder, stream_id, chunk)
        fd, index = files.map_preallocated(path, files.INDEX_ENTRIES * 8)
        os.close(fd)
        return memoryview(index).cast("Q")

    def _recover_from_power_cut(self) -> int:
        """After a reboot nothing that was not synced can be trusted, so only the records are: the next seq is the first that
        is not whole, and the indexes are made from the records again. What was published above it is noted as lost.

        Raises CorruptRecordError for damage below the durable mark.
        """
        count = self._last_whole_record(self._end_of_segments())
        self.head.count = count
        self._reindex(count)
        with contextlib.closing(AppendLog(files.cuts_path(self.folder))) as cuts:
            cuts.append(files.CUT.pack(self.head.epoch + 1, count))
            cuts.sync()
        return self._recover()

    def _end_of_segments(self) -> int:
        return max((first + self._segment_records for first, _ in files.segments(self.folder)), default=0)

    def _reindex(self, count: int) -> None:
        """Every stream's index from the records that are kept. Entries of segments that retention took stay as they are."""
        first_kept = min((first for first, _ in files.segments(self.folder)), default=0)
        entries = [self._entries_below(stream_id, first_kept) for stream_id in range(len(self.streams))]
        for first, path in files.segments(self.folder):
            stop = min(count - first, self._segment_records)
            if stop <= 0:
                break
            of_records = np.frombuffer(files.map_existing(path), dtype=DTYPE)["stream"][:stop]
            for stream_id in np.unique(of_records).tolist():
                seqs = (np.flatnonzero(of_records == stream_id) + first).astype("<u8")
                self._write_index(stream_id, entries[stream_id], seqs)
                entries[stream_id] += len(seqs)
        for stream_id, length in enumerate(entries):
            self._counts[stream_id] = length

    def _write_index(self, stream_id: int, entry: int, seqs: "npt.NDArray[np.uint64]") -> None:
        while len(seqs):
            chunk, within = divmod(entry, files.INDEX_ENTRIES)
            part = seqs[: files.INDEX_ENTRIES - within]
            np.frombuffer(self._map_index(stream_id, chunk), dtype="<u8")[within : within + len(part)] = part
            entry, seqs = entry + len(part), seqs[len(part) :]

    def _entries_below(self, stream_id: int, seq: int) -> int:
        """How many entries of a stream's index lie below a seq (binary search); 0 while nothing was removed."""
        low, high = 0, self._counts[stream_id] if seq else 0
        while low < high:
            middle = (low + high) // 2
            if self._index_entry(stream_id, middle) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def _recover(self) -> int:
        """Cuts what was never published off the indexes, checks the records above the durable mark, returns the next seq."""
        count = self._last_whole_record(self.head.count)
        for stream_id in range(len(self.streams)):
            entries = self._counts[stream_id]
            while entries and self._index_entry(stream_id, entries - 1) >= count:
                entries -= 1
            self._counts[stream_id] = entries
            self._entries.append(entries)
            self._indexes.append(self._map_index(stream_id, max(entries - 1, 0) // files.INDEX_ENTRIES))
        self.head.count = count
        if count % self._segment_records:
            self._open_segment(count)
        self._unsynced += self._sealed_above_the_mark()
        return count

    def _sealed_above_the_mark(self) -> list[int]:
        """Descriptors of the sealed segments that a killed writer had published but not synced: the mark must wait for them."""
        unsynced = []
        for first, path in files.segments(self.folder):
            end = first + self._segment_records
            if self.head.durable < end <= self.head.count:
                unsynced.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return unsynced

    def _index_entry(self, stream_id: int, entry: int) -> int:
        index = self._map_index(stream_id, entry // files.INDEX_ENTRIES)
        return index[entry % files.INDEX_ENTRIES]

    def _last_whole_record(self, count: int) -> int:
        """`count`, less the records above the durable mark that a power cut tore.

        Raises CorruptRecordError if the tape ends below its durable mark: that is damage, not a torn tail.
        """
        durable = self.head.durable
        paths = dict(files.segments(self.folder))
        for first in range(durable - durable % self._segment_records, count, self._segment_records):
            path = paths.get(first)
            if path is None:
                if first < durable:
                    raise CorruptRecordError(f"{self.folder}: seq {first}: expected segment {first}, found none")
                return first
            segment = memoryview(files.map_existing(path))
            for seq in range(max(first, durable), min(first + self._segment_records, count)):
                raw = segment[(seq - first) * SIZE : (seq - first + 1) * SIZE]
                if int.from_bytes(raw[:4], "little") != record_crc(seq, raw):
                    return seq
        return count
