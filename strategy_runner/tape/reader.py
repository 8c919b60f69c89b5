"""Reading a tape: single records by seq, a stream's entries by ordinal, whole segments as numpy arrays."""

import mmap
import os
from bisect import bisect_left
from contextlib import suppress
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import CODEC, DTYPE, SIZE, WORDS, Record, crcs_hold
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.kept import read_kept
from strategy_runner.tape.logs import LogReader, read_log

_UNPACK = CODEC.unpack_from
_WHOLE = np.dtype(f"V{SIZE}")
_NO_CHUNK = -1, memoryview(b"")  # none has it
_WINDOW = 16_384  # records: 1.3 MB
_MADV_POPULATE_READ = 22  # madvise(2); the module mmap has no name for it
_NO_SEGMENT = memoryview(b"")
_FEW = 64  # entries, which are compared faster without numpy


class TapeReader:
    """Read-only view of a tape. Maps only the segments and index chunks it is asked for, and keeps the last of each.

    `counts` is, by stream, how many records it has; those at or above a `head.count` read before may be more.
    """

    def __init__(self, folder: Path) -> None:
        """Raises NotRunningError if there is no tape, VersionMismatchError, CorruptRecordError."""
        self.folder = folder
        self.head = Head(files.head_path(folder))
        self._segment_records = self.head.segment_records
        published = self.head.count  # before the counts, which are written first
        self.counts = memoryview(files.map_existing(files.counts_path(folder))).cast("Q")
        indexed = sum(self.counts[: self.head.streams])
        if indexed < published:  # streams of the last moment; all of the counts, since that takes a page for each 512
            indexed = int(np.asarray(self.counts).sum())
        if indexed < published:
            raise CorruptRecordError(
                f"{files.counts_path(folder)}: expected at least {published} entries in all indexes, found {indexed}"
            )
        self._names = LogReader(files.names_path(folder))
        self.streams: list[Stream] = []
        self._ids: dict[Stream, int] = {}
        self._view = memoryview(b"")
        self._base = -1
        self._end = -1  # the segment's, or the next of our moments in it
        self._last, self._next = _NO_SEGMENT, _NO_SEGMENT  # the segments before and behind, while they are mapped
        self._chunks: dict[int, tuple[int, memoryview]] = {}

    def find(self, stream: Stream) -> int | None:
        """The id of a stream, or None if the feed does not carry it (yet)."""
        if stream not in self._ids and self.has_new_streams():
            self.all_streams()
            if stream not in self._ids and self.counts[len(self.streams)]:
                self._refuse_lost_names()
        return self._ids.get(stream)

    def has_new_streams(self) -> bool:
        """Whether the feed may carry streams whose names have not been read, told without a look into their file."""
        known = len(self.streams)
        return not known or self.head.streams != known or bool(self.counts[known])

    def get_ready(self, seq: int) -> None:
        """Maps what will be read from a seq on, where it is there already."""
        with suppress(CorruptRecordError):
            self._map_segment(seq)

    def close(self) -> None:
        """Lets the files go; nothing can be read any more."""
        self._names.close()
        self._view, self._base, self._end = memoryview(b""), -1, -1
        self._last, self._next = _NO_SEGMENT, _NO_SEGMENT
        self._chunks.clear()

    def all_streams(self) -> list[Stream]:
        """Every stream the feed carries by now; the place of each is its id."""
        for _, payload in self._names.read():
            found = Stream.parse(payload.decode())
            self._ids[found] = len(self.streams)
            self.streams.append(found)
        return self.streams

    def cuts(self) -> list[tuple[int, int]]:
        """(epoch, seq) of every power cut: records from seq on, of epochs below, are lost, and others may have their seqs."""
        return [(epoch, seq) for epoch, seq in map(files.CUT.unpack, read_log(files.cuts_path(self.folder)))]

    def entries(self, stream_id: int) -> int:
        """How many records the stream has, of `counts`."""
        return self.counts[stream_id]

    def seqs(self, stream_id: int, start: int, stop: int) -> list[int]:
        """As `entries_between`, as a list."""
        seqs: list[int] = self.entries_between(stream_id, start, stop).tolist()
        return seqs

    def entries_between(self, stream_id: int, start: int, stop: int) -> memoryview:
        """The seqs of a stream's records with ordinals start to stop - 1, in place; fewer if they cross an index chunk.

        Raises CorruptRecordError if retention has taken them, and where they do not ascend, the entries before and behind
        included. An entry that was damaged and still ascends names another stream's record: whoever reads it says which stream
        it must be of (`fields`). Both together let no record be left out or taken for another.
        """
        counted = self.counts[stream_id]  # before the entry behind is looked at: it may be written meanwhile
        chunk, within = divmod(start, files.INDEX_ENTRIES)
        end = within + min(stop - start, files.INDEX_ENTRIES - within)
        mapped = self._chunk(stream_id, chunk)
        entries = mapped[within:end]
        behind = mapped[end] if end < files.INDEX_ENTRIES else self._entry(stream_id, (chunk + 1) * files.INDEX_ENTRIES)
        before = mapped[within - 1] if within else self._entry(stream_id, start - 1)
        if not _ascend(before, entries, behind if start + len(entries) < counted else None):
            raise CorruptRecordError(
                f"{files.index_path(self.folder, stream_id, chunk)}: entries {start} to {start + len(entries)}: expected seqs "
                f"that ascend, found others"
            )
        return entries

    def refuse_below(self, seq: int, stream_id: int, seqs: memoryview) -> None:
        """For who has read a stream up to `seq` and is given more of it: raises CorruptRecordError if it should have had that."""
        if seqs[0] < seq:
            raise CorruptRecordError(
                f"{files.counts_path(self.folder)}: seq {seqs[0]}: expected it in the index of stream {stream_id} when seq "
                f"{seq} was published, found it later"
            )

    def refuse_beyond(self, stream_id: int, seqs: "memoryview | list[int]") -> None:
        """For who was given the newest of a stream: raises CorruptRecordError if its last entry names no record of the tape.

        The writer counts entries just before it publishes their records. So an entry may lie beyond what is published while more
        is counted than that, and at no other time.
        """
        count = self.head.count
        if seqs[-1] >= count and int(np.asarray(self.counts).sum()) == count == self.head.count:
            raise CorruptRecordError(
                f"{self.folder / 'streams'}/{stream_id}-*.idx: expected a last entry below {count}, found seq {seqs[-1]}"
            )

    def first_ordinal_at(self, stream_id: int, seq: int) -> int:
        """The ordinal of the stream's first record that is kept and has a seq of at least `seq` (binary search).

        Raises CorruptRecordError where the index is damaged.
        """
        entries = self.entries(stream_id)
        low, high = 0, entries
        while low < high:
            middle = (low + high) // 2
            entry = self._entry(stream_id, middle)
            if entry is None:
                low = self._behind_removed(stream_id, middle)
            elif entry < seq:
                low = middle + 1
            else:
                high = middle
        self._check_around(stream_id, low, entries)
        return low

    def fields(
        self, seq: int, stream_id: int | None = None
    ) -> tuple[int, int, int, int, int, int, int, int, float, float, float, float, float, float]:
        """The fields of one published record, in the order of Record.

        Raises CorruptRecordError naming segment and seq, also if it is not of the stream whose index named it.
        """
        if not self._base <= seq < self._end:
            self._map_segment(seq)
        view = self._view
        at = (seq - self._base) * SIZE
        fields = _UNPACK(view, at)
        if crc32(view[at + 4 : at + SIZE], seq & 0xFFFFFFFF) != fields[0]:
            path = files.segment_path(self.folder, self._base)
            raise CorruptRecordError(f"{path}: seq {seq}: expected crc {fields[0]:#010x}, found other bytes")
        if stream_id is not None and fields[1] != stream_id:
            path = self.folder / "streams" / f"{stream_id}-*.idx"
            raise CorruptRecordError(
                f"{path}: seq {seq}: expected a record of stream {stream_id}, found one of {fields[1]}"
            )
        return fields

    def new_ones(
        self, stream_id: int, start: int, stop: int, low: int, high: int
    ) -> list[tuple[int, tuple[Any, ...]]] | None:
        """Seq and fields of a stream's newest records, few, with ordinals start to stop - 1: for who was rung for them and read
        up to `low` of `high`.

        None if anything is not as it nearly always is, be it damage or another segment: then `entries_between`, `refuse_below`,
        `refuse_beyond` and `fields` tell.
        """
        chunk, entries = self._chunks.get(stream_id, _NO_CHUNK)
        first, last = start - chunk * files.INDEX_ENTRIES, stop - chunk * files.INDEX_ENTRIES
        if not 0 < first < last <= files.INDEX_ENTRIES:
            return None
        found, before, base, end = [], entries[first - 1], self._base, self._end
        for seq in entries[first:last]:
            if not (low <= seq < high and before < seq and base <= seq < end):
                return None
            fields = self._sound(seq, stream_id)
            if fields is None:
                return None
            found.append((seq, fields))
            before = seq
        return found

    def rows(self, seqs: "memoryview | list[int]", stream_id: int) -> "npt.NDArray[np.void] | None":
        """As `fields`, for the records of many seqs, which ascend: an array of DTYPE with those in the segment of the first.

        None if one of them is damaged, or not of the stream: who then reads them one by one has all before it.
        """
        if not self._base <= seqs[0] < self._end:
            self._map_segment(seqs[0])
        end = self._base + self._segment_records
        if seqs[-1] >= end:
            seqs = seqs[: bisect_left(seqs, end)]
        exact = np.asarray(seqs, dtype=np.int64)
        if seqs[-1] + 1 - seqs[0] == len(seqs):
            at = (seqs[0] - self._base) * SIZE
            whole = np.frombuffer(self._view[at : at + len(seqs) * SIZE], dtype=_WHOLE)
        else:
            whole = np.frombuffer(self._view, dtype=_WHOLE, count=self._segment_records)[exact - self._base]
        words = whole.view(WORDS)
        if (words[:, 1] != stream_id).any() or not crcs_hold(words, exact):
            return None
        return whole.view(DTYPE)

    def few(self, seqs: "memoryview | list[int]", stream_id: int) -> "list[tuple[Any, ...]] | None":
        """As `rows`, for so few records that numpy would cost more: the fields of each."""
        if not self._base <= seqs[0] < self._end:
            self._map_segment(seqs[0])
        found, end = [], self._base + self._segment_records
        for seq in seqs:
            if seq >= end:
                break
            fields = self._sound(seq, stream_id)
            if fields is None:
                return None
            found.append(fields)
        return found

    def _sound(self, seq: int, stream_id: int) -> tuple[Any, ...] | None:
        """The fields of a record in the mapped segment; None if it is damaged, or not of the stream: `fields` says which."""
        view, at = self._view, (seq - self._base) * SIZE
        fields = _UNPACK(view, at)
        if fields[1] != stream_id or crc32(view[at + 4 : at + SIZE], seq & 0xFFFFFFFF) != fields[0]:
            return None
        return fields

    def raw(self, seq: int) -> bytes:
        """The 80 bytes of one published record."""
        self.fields(seq)
        at = (seq - self._base) * SIZE
        return bytes(self._view[at : at + SIZE])

    def first_received_at(self, received_ns: int) -> int:
        """The first kept seq that the feed received at or after a moment, to the segment: older segments lie below it.

        A segment whose first record is damaged begins nobody knows when; those below it count as old only if a later one does.
        """
        found = 0
        for first, _ in files.segments(self.folder):
            if first >= self.head.count:
                break
            try:
                begin_ns = self.record(first).received_ns
            except CorruptRecordError:
                continue  # perhaps nobody needs the record any more; who does says so
            if begin_ns >= received_ns:
                break
            found = first
        return max(0, min(found, int(self.head.count - self._segment_records)))

    def record(self, seq: int) -> Record:
        return Record(*self.fields(seq))

    def arrays(self, start: int, stop: int) -> "list[tuple[int, npt.NDArray[np.void]]]":
        """(first seq, structured array without a copy) for each segment that holds records of [start, stop)."""
        found = []
        for first, path in files.segments(self.folder):
            low, high = max(first, start), min(first + self._segment_records, stop, self.head.count)
            if low < high:
                array = np.frombuffer(files.map_existing(path), dtype=DTYPE)
                found.append((low, array[low - first : high - first]))
        return found

    def _chunk(self, stream_id: int, chunk: int) -> memoryview:
        cached = self._chunks.get(stream_id)
        if cached is None or cached[0] != chunk:
            path = files.index_path(self.folder, stream_id, chunk)
            try:
                mapped = memoryview(files.map_existing(path)).cast("Q")
            except FileNotFoundError:
                raise CorruptRecordError(
                    f"{path}: expected entries of kept records, found no file (the tape begins at {self.head.first})"
                ) from None
            cached = self._chunks[stream_id] = (chunk, mapped)
        return cached[1]

    def _entry(self, stream_id: int, ordinal: int) -> int | None:
        """One entry of an index; None where there is none (any more)."""
        if not 0 <= ordinal < self.counts[stream_id]:
            return None
        chunk, within = divmod(ordinal, files.INDEX_ENTRIES)
        cached = self._chunks.get(stream_id)
        if cached is not None and cached[0] == chunk:
            return int(cached[1][within])
        try:
            mapped = files.map_existing(files.index_path(self.folder, stream_id, chunk))
        except FileNotFoundError:
            return None
        return int(memoryview(mapped).cast("Q")[within])

    def _behind_removed(self, stream_id: int, ordinal: int) -> int:
        """The first ordinal behind those that retention has taken, for one whose chunk is missing."""
        kept = read_kept(files.kept_path(self.folder)).of(stream_id)
        if ordinal >= kept:
            path = files.index_path(self.folder, stream_id, ordinal // files.INDEX_ENTRIES)
            raise CorruptRecordError(f"{path}: expected the entry of ordinal {ordinal}, found no file")
        return kept

    def _check_around(self, stream_id: int, ordinal: int, entries: int) -> None:
        """A damaged entry can lead a search astray, and then stands where it ends."""
        for at in (ordinal - 1, ordinal):
            if 0 <= at < entries and self._entry(stream_id, at) is not None:
                seq = self.seqs(stream_id, at, at + 1)[0]
                try:
                    if self.head.first <= seq < self.head.count:
                        self.fields(seq, stream_id)
                except CorruptRecordError:
                    if seq >= self.head.first:  # else retention has taken it meanwhile
                        raise

    def _refuse_lost_names(self) -> None:
        if self.counts[len(self.all_streams())]:  # read again: the next one may have been named since
            raise CorruptRecordError(
                f"{files.names_path(self.folder)}: expected the name of stream {len(self.streams)}, which has records, found none"
            )

    def _map_segment(self, seq: int) -> None:
        """For a seq that lies outside of what is mapped, or beyond the next of our moments to map more.

        To map a file, to unmap it and to find a page of it takes locks that all its readers share. Thousands of them come to the
        next page or the next segment together, and who waits for a lock needs a turn of a full host to take it. So each does
        both ahead of time, at moments of its own: a window of pages at a time, and the next segment, which the writer has made
        by then, at the last such moment in this one.
        """
        records = self._segment_records
        first = seq - seq % records
        if first != self._base:
            follows = first == self._base + records and self._next is not _NO_SEGMENT
            self._last, self._view = (self._view, self._next) if follows else (_NO_SEGMENT, self._mapped(seq))
            self._base, self._next = first, _NO_SEGMENT
        else:
            self._last = _NO_SEGMENT
        moment = int(own_part() * _WINDOW)
        end = first + moment + (seq - first - moment) // _WINDOW * _WINDOW + _WINDOW
        if end >= first + records:
            end = first + records
            with suppress(CorruptRecordError):  # there is none yet: it is mapped when it must be
                self._next = self._mapped(end)
                _find_pages(self._next, 0, moment)
        _forget_pages(self._view, seq - first)
        _find_pages(self._view, seq - first, end - first)
        self._end = end

    def _mapped(self, seq: int) -> memoryview:
        """The segment with this seq. Raises CorruptRecordError, also for one that is still being made."""
        path = files.segment_path(self.folder, seq - seq % self._segment_records)
        size = files.segment_bytes(self._segment_records)
        try:
            mapped: mmap.mmap | bytes = files.map_existing(path)
        except FileNotFoundError:
            raise CorruptRecordError(
                f"{self.folder}: seq {seq}: expected its segment, found none (the tape begins at {self.head.first})"
            ) from None
        except ValueError:  # an empty file cannot be mapped
            mapped = b""
        if len(mapped) < size:
            raise CorruptRecordError(f"{path}: expected {size} bytes, found {len(mapped)}")
        return memoryview(mapped)


def own_part() -> float:
    """From 0 to 1, evenly spread over processes that were born one after the other (multiples of the golden ratio)."""
    return os.getpid() * 0.6180339887 % 1


def _find_pages(segment: memoryview, start: int, stop: int) -> None:
    """Has the pages of some records in the page table, where the kernel can (Linux 5.14)."""
    begin = start * SIZE // mmap.PAGESIZE * mmap.PAGESIZE
    with suppress(OSError):
        _map_of(segment).madvise(_MADV_POPULATE_READ, begin, stop * SIZE - begin)


def _forget_pages(segment: memoryview, stop: int) -> None:
    """Has those of the records below one out of it: else that is done when the process ends, perhaps with thousands of others."""
    end = stop * SIZE // mmap.PAGESIZE * mmap.PAGESIZE
    if end:
        _map_of(segment).madvise(mmap.MADV_DONTNEED, 0, end)


def _map_of(segment: memoryview) -> mmap.mmap:
    mapped = segment.obj
    assert isinstance(mapped, mmap.mmap)
    return mapped


def _ascend(before: int | None, entries: memoryview, behind: int | None) -> bool:
    if not entries:
        return True
    if (before is not None and before >= entries[0]) or (behind is not None and behind <= entries[-1]):
        return False
    if len(entries) <= _FEW:
        seqs = entries.tolist()
        return all(map(lt, seqs, islice(seqs, 1, None)))
    array = np.asarray(entries)
    return bool((array[1:] > array[:-1]).all())
