"""The market as a router must know it: the feed's clock, how long the feed has been silent, and each symbol.

Ages are told by the feed's clock (tape/head.py), which no setting of the wall clock moves.
"""

from math import isfinite
from pathlib import Path

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import bars
from strategy_runner.tape.reader import TapeReader

_EVENT_NS, _KIND, _VALUES, _CLOSE = 2, 6, 8, 11  # places in a record
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
            seq = self._newest_seq(stream_id, count)
            if seq >= reader.head.first:
                newest_ns = max(newest_ns, self._received_ns(seq))
        return max(0, self.clock_ns() - newest_ns)

    def price(self, symbol: str) -> float | None:
        """The last of a symbol: of a trade, of a quote its middle, of a bar its close. None if there is none that is a number."""
        newest = self._newest(symbol)
        if newest is None:
            return None
        kind, values = newest
        price = (values[0] + values[1]) / 2 if kind == Kind.QUOTE else values[3] if kind == Kind.BAR else values[0]
        return price if isfinite(price) and price > 0 else None

    def closes(self, symbol: str, timeframe: str, count: int) -> list[tuple[int, float]]:
        """(event time, close) of the last so many bars, the oldest first; fewer where the tape has no more."""
        reader = self._reader
        stream_id = reader.find(bars(symbol, timeframe))
        if stream_id is None:
            return []
        end = reader.first_ordinal_at(stream_id, reader.head.count)
        begin = max(end - count, reader.first_ordinal_at(stream_id, reader.head.first))
        found: list[tuple[int, float]] = []
        while begin + len(found) < end:
            for seq in reader.seqs(stream_id, begin + len(found), end):
                fields = reader.fields(seq, stream_id)
                found.append((int(fields[_EVENT_NS]), fields[_CLOSE]))
        return found

    def _newest(self, symbol: str) -> tuple[int, tuple[float, ...]] | None:
        """(kind, values) of the symbol's newest trade, quote or bar."""
        reader, count = self._reader, self._reader.head.count
        streams = self._streams_of(symbol) if count else []
        newest = max((self._newest_seq(stream_id, count) for stream_id in streams), default=-1)
        if newest < reader.head.first:
            return None
        fields = reader.fields(newest)
        return int(fields[_KIND]), fields[_VALUES:]

    def _newest_seq(self, stream_id: int, count: int) -> int:
        """Of a stream's last record below `count`; -1 if there is none, or retention has taken it with its index."""
        reader = self._reader
        ordinal = reader.first_ordinal_at(stream_id, count) - 1
        try:
            return reader.seqs(stream_id, ordinal, ordinal + 1)[0] if ordinal >= 0 else -1
        except CorruptRecordError:
            if ordinal >= reader.first_ordinal_at(stream_id, reader.head.first):
                raise
            return -1

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
