"""A framed log read to its end, with a word on how it ends: whole, torn, or damaged, and at which offset."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

from strategy_runner.errors import CorruptRecordError, VersionMismatchError
from strategy_runner.tape.logs import MAGIC, PAYLOAD_BYTES_MAX, START, LogReader, begin_of

_FRAME = struct.Struct("<II")  # length and crc, as in tape/logs.py
_LOOKS, _LOOK_INTERVAL_S = 5, 0.01


class Frames:
    """Frames of a log. After the iteration `damage` is "" or what is broken, `torn` what a killed writer may have left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.torn = ""
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(offset, payload) of every whole frame."""
        reader = LogReader(self.path)
        try:
            for end, payload in reader.read_to_end():
                yield begin_of(end, payload), payload
                self.count += 1
            if self.path.exists():
                self._judge(reader)
        except (CorruptRecordError, VersionMismatchError) as fault:
            self.damage = str(fault).removeprefix(f"{self.path}: ")
        finally:
            reader.close()

    def _judge(self, reader: LogReader) -> None:
        with self.path.open("rb") as file:
            header = file.read(START)
        if len(header) == START and not header.startswith(MAGIC):
            self.torn = "offset 0: no header and no whole frame"  # else the reader would have refused it
            return
        if len(header) == START and any(header[12:]):
            self.damage = f"offset 12: expected zeros in the header, found {header[12:].hex()}"
        self._judge_end(reader)

    def _judge_end(self, reader: LogReader) -> None:
        """A writer in the middle of a write is given a moment. A frame that is all there and wrong was not torn by a kill."""
        for _ in range(_LOOKS):
            size = self.path.stat().st_size
            if size <= max(reader.offset, START):
                return
            before = reader.offset
            for _ in reader.read():
                return  # it has been completed; what came since is for the next look
            assert reader.offset == before
            time.sleep(_LOOK_INTERVAL_S)
        with self.path.open("rb") as file:
            file.seek(reader.offset)
            head = file.read(_FRAME.size)
        left = size - reader.offset
        length = _FRAME.unpack(head)[0] if len(head) == _FRAME.size else 0
        if 0 < length <= PAYLOAD_BYTES_MAX and _FRAME.size + length <= left:
            self.damage = f"offset {reader.offset}: expected a frame that matches its crc, found other bytes"
        else:
            self.torn = f"offset {reader.offset}: {left} bytes of a frame that is not whole"
