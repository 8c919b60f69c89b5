"""What a writer that was killed, or lost its power, has left of a tape: which of its records count. Nothing is changed here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import CODEC, DTYPE, SIZE, WORDS, crcs_hold, record_crc
from strategy_runner.tape import files
from strategy_runner.tape.head import Head

_EPOCH, _EPOCHS = slice(28, 30), 1 << 16  # of a record: its bytes, and how many there are
_CHECKED_AT_ONCE = 8_192  # records, when all of a segment are read


class Remains:
    """The segments in a tape's folder, under what its head says of them."""

    def __init__(self, folder: Path, head: Head) -> None:
        self._folder = folder
        self._head = head
        self._segment_records = head.segment_records

    def end(self) -> int:
        """The seq behind all records for which there is a segment."""
        return max((first + self._segment_records for first in self._segments()), default=0)

    def last_whole_record(self, count: int, ends_group: Callable[[int], bool]) -> int:
        """`count`, less the records above the durable mark that a power cut tore, and what they had caused: back to one whose
        stream id `ends_group`.

        Raises CorruptRecordError if the tape ends below its durable mark: that is damage, not a torn tail.
        """
        whole = self._first_torn_record(count)
        if whole < count:
            first = max(self._head.durable, self._head.first)
            while whole > first and not ends_group(CODEC.unpack(self._raw(whole - 1))[1]):
                whole -= 1
        return whole

    def check_epoch(self, seq: int) -> None:
        """A damaged epoch would be given twice. `seq` is the next one. Raises CorruptRecordError."""
        if seq == self._head.first:
            return
        raw, told = self._raw(seq - 1), self._head.epoch
        last = CODEC.unpack(raw)[5]
        if int.from_bytes(raw[:4], "little") != record_crc(seq - 1, raw):
            raise _damaged(self._path_of(seq - 1), seq - 1)
        if told <= 0xFFFF and last > told:
            path = files.head_path(self._folder)
            raise CorruptRecordError(
                f"{path}: expected an epoch of at least {last}, that of the last record, found {told}"
            )

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _first_torn_record(self, count: int) -> int:
        """The first above the mark that is not whole, or of an older epoch than the one before it. Raises CorruptRecordError."""
        durable = max(self._head.durable, self._head.first)
        if count < durable:
            raise CorruptRecordError(
                f"{files.head_path(self._folder)}: expected records up to the durable mark {durable}, found {count}"
            )
        paths = self._segments()
        epoch = self._epoch_of(durable - 1) if durable > self._head.first else None
        for first in range(durable - durable % self._segment_records, count, self._segment_records):
            path = paths.get(first)
            if path is None:
                if first < durable:
                    raise CorruptRecordError(f"{self._folder}: seq {first}: expected segment {first}, found none")
                return first
            segment = memoryview(files.map_existing(path))
            for seq in range(max(first, durable), min(first + self._segment_records, count)):
                raw = segment[(seq - first) * SIZE : (seq - first + 1) * SIZE]
                if int.from_bytes(raw[:4], "little") != record_crc(seq, raw):
                    return seq
                before, epoch = epoch, int.from_bytes(raw[_EPOCH], "little")
                if before is not None and (epoch - before) % _EPOCHS > _EPOCHS // 2:
                    return seq  # whole, and never published: a killed feed left it, and the next one wrote up to here
        return count

    def _segments(self) -> dict[int, Path]:
        """By first seq, but for those of which a power cut has left the name alone."""
        return {first: path for first, path in files.segments(self._folder) if path.stat().st_size}

    def _epoch_of(self, seq: int) -> int | None:
        """None where its segment is missing, which is found elsewhere."""
        try:
            return int.from_bytes(self._raw(seq)[_EPOCH], "little")
        except FileNotFoundError:
            return None

    def _raw(self, seq: int) -> memoryview:
        at = seq % self._segment_records * SIZE
        return memoryview(files.map_existing(self._path_of(seq)))[at : at + SIZE]

    def _path_of(self, seq: int) -> Path:
        return files.segment_path(self._folder, seq - seq % self._segment_records)


def whole_segment(path: Path, first: int, stop: int) -> "npt.NDArray[np.void]":
    """The first `stop` records of a segment, an array of DTYPE. Raises CorruptRecordError naming the first that is damaged."""
    mapped = files.map_existing(path)
    words = np.frombuffer(mapped, dtype=WORDS, count=stop)
    for at in range(0, stop, _CHECKED_AT_ONCE):
        some = words[at : at + _CHECKED_AT_ONCE]
        if not crcs_hold(some, np.arange(first + at, first + at + len(some))):
            seq = next(seq for seq, raw in enumerate(some, first + at) if int(raw[0]) != record_crc(seq, raw.tobytes()))
            raise _damaged(path, seq)
    return np.frombuffer(mapped, dtype=DTYPE, count=stop)


def _damaged(segment: Path, seq: int) -> CorruptRecordError:
    return CorruptRecordError(f"{segment}: seq {seq}: expected bytes that match their crc, found others")
