"""Consumers: programs without the tape's files, to which the feed sends the records of the topics they subscribed to.

How they are sent, and how a gap is asked for, says bus/frames.py.
"""

import logging
from collections.abc import Mapping, Sequence

from strategy_runner.bus.frames import REPAIR_RECORDS_MAX, FramePublisher, seq_bytes
from strategy_runner.errors import CorruptRecordError
from strategy_runner.tape.reader import TapeReader

log = logging.getLogger(__name__)


class Consumers:
    """All of them, as one. Nobody waits for a consumer."""

    def __init__(self, frames: FramePublisher, reader: TapeReader) -> None:
        self._frames = frames
        self._reader = reader
        self._damage = ""  # that a consumer met last

    @property
    def are_there(self) -> bool:
        return self._frames.wanted

    def turn(self) -> int:
        """Hears who wants what, and answers one request. Returns the work done."""
        return self._frames.turn(self._pairs)

    def send(self, touched: Mapping[int, int], topics: Sequence[bytes]) -> None:
        """What was published: `touched` is the first new seq of each stream, by id, `topics` the topics of all."""
        for stream_id, first in touched.items():
            if self._frames.wants(topics[stream_id]):
                self._send(stream_id, first, topics[stream_id])

    def beat(self) -> None:
        if self._frames.wanted:
            self._frames.beat(self._reader.head.count, self._reader.head.epoch)

    def _send(self, stream_id: int, first: int, topic: bytes) -> None:
        reader = self._reader
        position = reader.first_ordinal_at(stream_id, first)
        entries = reader.entries(stream_id)
        while position < entries:
            seqs = reader.seqs(stream_id, position, entries)
            pairs = [part for seq in seqs for part in (seq_bytes(seq), reader.raw(seq))]
            self._frames.send(topic, pairs)
            position += len(seqs)

    def _pairs(self, first: int, last: int) -> list[bytes]:
        head = self._reader.head
        start = max(first, head.first)
        pairs: list[bytes] = []
        try:
            for seq in range(start, min(last + 1, head.count, start + REPAIR_RECORDS_MAX)):
                pairs += (seq_bytes(seq), self._reader.raw(seq))
        except CorruptRecordError as error:
            if str(error) != self._damage:  # who asks for it again and again fills no log
                self._damage = str(error)
                log.error(
                    "a consumer asked for records %d to %d and got those before a damaged one: %s", first, last, error
                )
        return pairs
