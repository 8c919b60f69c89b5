"""Reading a tape: single records by seq, a stream's entries by ordinal, whole segments as numpy arrays."""

from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import CODEC, DTYPE, SIZE, Record
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import LogReader, read_log

_UNPACK = CODEC.unpack_from


class TapeReader:
    """Read-only view of a tape. Maps only the segments and index chunks it is asked for, and keeps the last of each."""

    def __init__(self, folder: Path) -> None:
        """Raises NotRunningError if there is no tape, VersionMismatchError."""
        self.folder = folder
        self.head = Head(files.head_path(folder))
        self._segment_records = self.head.segment_records
        self._counts = memoryview(files.map_existing(files.counts_path(folder))).cast("Q")
        self._names = LogReader(files.names_path(folder))
        self.streams: list[Stream] = []
        self._ids: dict[Stream, int] = {}
        self._view = memoryview(b"")
        self._base = -1
        self._end = -1
        self._chunks: dict[int, tuple[int, memoryview]] = {}

    def find(self, stream: Stream) -> int | None:
        """The id of a stream, or None if the feed does not carry it (yet)."""
        if stream not in self._ids:
            for _, payload in self._names.read():
                found = Stream.parse(payload.decode())
                self._ids[found] = len(self.streams)
                self.streams.append(found)
        return self._ids.get(stream)

    def cuts(self) -> list[tuple[int, int]]:
        """(epoch, seq) of every power cut: records from seq on, of epochs below, are lost, and others may have their seqs."""
        return [(epoch, seq) for epoch, seq in map(files.CUT.unpack, read_log(files.cuts_path(self.folder)))]

    def entries(self, stream_id: int) -> int:
        """How many records the stream has; those at or above a `head.count` read before may be more."""
        return self._counts[stream_id]

    def seqs(self, stream_id: int, start: int, stop: int) -> list[int]:
        """The seqs of a stream's records with ordinals start to stop - 1; fewer if they cross an index chunk."""
        chunk, within = divmod(start, files.INDEX_ENTRIES)
        cached = self._chunks.get(stream_id)
        if cached is None or cached[0] != chunk:
            mapped = memoryview(files.map_existing(files.index_path(self.folder, stream_id, chunk))).cast("Q")
            cached = self._chunks[stream_id] = (chunk, mapped)
        return cached[1][within : within + min(stop - start, files.INDEX_ENTRIES - within)].tolist()

    def first_ordinal_at(self, stream_id: int, seq: int) -> int:
        """The ordinal of the stream's first record with a seq of at least `seq` (binary search)."""
        low, high = 0, self.entries(stream_id)
        while low < high:
            middle = (low + high) // 2
            if self.seqs(stream_id, middle, middle + 1)[0] < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def fields(
        self, seq: int
    ) -> tuple[int, int, int, int, int, int, int, int, float, float, float, float, float, float]:
        """The fields of one published record, in the order of Record. Raises CorruptRecordError naming segment and seq."""
        if not self._base <= seq < self._end:
            self._map_segment(seq)
        view = self._view
        at = (seq - self._base) * SIZE
        fields = _UNPACK(view, at)
        if crc32(view[at + 4 : at + SIZE], seq & 0xFFFFFFFF) != fields[0]:
            path = files.segment_path(self.folder, self._base)
            raise CorruptRecordError(f"{path}: seq {seq}: expected crc {fields[0]:#010x}, found other bytes")
        return fields

    def raw(self, seq: int) -> bytes:
        """The 80 bytes of one published record."""
        self.fields(seq)
        at = (seq - self._base) * SIZE
        return bytes(self._view[at : at + SIZE])

    def first_received_at(self, received_ns: int) -> int:
        """The first kept seq that the feed received at or after a moment, to the segment: older segments lie below it."""
        for first, _ in files.segments(self.folder):
            if first >= self.head.count or self.record(first).received_ns >= received_ns:
                return max(0, first - int(self._segment_records))
        return max(0, int(self.head.count - self._segment_records))

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

    def _map_segment(self, seq: int) -> None:
        first = seq - seq % self._segment_records
        try:
            mapped = files.map_existing(files.segment_path(self.folder, first))
        except FileNotFoundError:
            raise CorruptRecordError(
                f"{self.folder}: seq {seq}: expected its segment, found none (the tape begins at {self.head.first})"
            ) from None
        self._view, self._base, self._end = memoryview(mapped), first, first + self._segment_records
