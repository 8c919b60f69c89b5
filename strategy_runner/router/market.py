"""The market as a router must know it: the feed's clock, how long the feed has been silent, and each symbol.

Ages are told by the feed's clock (tape/head.py), which no setting of the wall clock moves.
"""

from pathlib import Path

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import Kind
from strategy_runner.tape.reader import TapeReader

_MARKET_DATA = frozenset({Kind.TRADE, Kind.QUOTE, Kind.BAR})


class Market:
    """A tape, looked at from outside."""

    def __init__(self, folder: Path) -> None:
        """Raises NotRunningError if there is no tape, VersionMismatchError."""
        self._reader = TapeReader(folder)
        self._streams: dict[str, list[int]] = {}
        self._known = 0

    def durable(self) -> int:
        """How many records a power cut cannot take."""
        return self._reader.head.durable

    def clock_ns(self) -> int:
        return self._reader.head.clock_ns()

    def event_ns(self) -> int:
        """How far tape time has come."""
        return self._reader.head.event_ns

    def feed_silence_ns(self) -> int:
        """How long the feed has not beaten."""
        head = self._reader.head
        return max(0, head.clock_ns() - head.beat_ns)

    def silence_ns(self, symbol: str) -> int | None:
        """How long ago a symbol's newest trade, quote or bar was received; None if the tape carries none of them.

        Where the tape's first record is newer, as long as that one tells.
        """
        reader, streams = self._reader, self._streams_of(symbol)
        count = reader.head.count
        if not streams or not count:
            return None
        newest_ns = self._received_ns(reader.head.first)
        for stream_id in streams:
            ordinal = reader.first_ordinal_at(stream_id, count) - 1
            if ordinal < 0:
                continue
            seq = reader.seqs(stream_id, ordinal, ordinal + 1)[0]
            if seq >= reader.head.first:
                newest_ns = max(newest_ns, self._received_ns(seq))
        return max(0, self.clock_ns() - newest_ns)

    def _received_ns(self, seq: int) -> int:
        """0 for a record that is gone: retention may take it between two looks."""
        try:
            return self._reader.fields(seq)[3]
        except CorruptRecordError:
            if seq >= self._reader.head.first:
                raise
            return 0

    def _streams_of(self, symbol: str) -> list[int]:
        streams = self._reader.all_streams()
        for stream_id in range(self._known, len(streams)):
            stream = streams[stream_id]
            if stream.kind in _MARKET_DATA:
                self._streams.setdefault(stream.symbol, []).append(stream_id)
        self._known = len(streams)
        return self._streams.get(symbol, [])
