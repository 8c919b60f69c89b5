"""The market side of the paper OMS: reads the streams of some symbols from the tape, in the order of seq, to the durable mark.

What a power cut could still take is not read, so nothing that was filled can rest on a record that is lost. A symbol is
filled from its trades and quotes, and only where the tape has neither from its finest bars: bars made of the same trades
would tell everything a second time.
"""

from collections.abc import Callable
from typing import Any

from strategy_runner.model.event import Bar, Funding, Quote, Trade
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, quotes, trades
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.oms.fill_model import MarketEvent
from strategy_runner.tape.reader import TapeReader

TURN_RECORDS_MAX = 2048

Tick = tuple[int, MarketEvent | Funding]


class MarketTail:
    """`seq` is the next record of the tape; every record of the watched symbols below it was given out. `streams` are read."""

    def __init__(self, reader: TapeReader, seq: int) -> None:
        self._reader = reader
        self.seq = max(seq, reader.head.first)
        self.streams: set[str] = set()
        self._symbols: set[str] = set()
        self._known = 0
        self._positions: dict[int, int] = {}
        self._makers: dict[int, Callable[..., Any]] = {}

    def watch(self, symbols: set[str]) -> None:
        """The symbols to read from `seq` on."""
        reader = self._reader
        self._known = len(reader.streams)  # before it is looked for: one that comes meanwhile is not known
        self._symbols = symbols
        wanted: dict[int, Stream] = {}
        for symbol in sorted(symbols):
            for stream in _fill_streams(reader, symbol):
                found = reader.find(stream)
                if found is not None:
                    wanted[found] = stream
        for stream_id in self._positions.keys() - wanted.keys():
            del self._positions[stream_id], self._makers[stream_id]
        for stream_id in wanted.keys() - self._positions.keys():
            self._positions[stream_id] = reader.first_ordinal_at(stream_id, self.seq)
            self._makers[stream_id] = _maker(wanted[stream_id])
        self.streams = {stream.name for stream in wanted.values()}

    def gather(self) -> list[Tick]:
        """The next events, about TURN_RECORDS_MAX of them at most. Raises CorruptRecordError."""
        reader = self._reader
        limit = reader.head.durable
        if limit <= self.seq:
            return []
        if len(reader.all_streams()) > self._known:  # or the first records of a new stream would be passed over
            self.watch(self._symbols)
        batch: list[tuple[int, int]] = []
        for stream_id, position in self._positions.items():
            entries = reader.entries(stream_id)
            if entries <= position:
                continue
            seqs = reader.seqs(stream_id, position, min(entries, position + TURN_RECORDS_MAX))
            reader.refuse_beyond(stream_id, seqs)
            if position + len(seqs) < entries:
                limit = min(limit, seqs[-1] + 1)
            batch.extend((seq, stream_id) for seq in seqs)
        batch = sorted(pair for pair in batch if pair[0] < limit)
        ticks: list[Tick] = []
        for seq, stream_id in batch:
            fields = reader.fields(seq)
            ticks.append((seq, self._makers[stream_id](fields[2], *fields[8:13])))
            self._positions[stream_id] += 1
        self.seq = limit
        return ticks


def _fill_streams(reader: TapeReader, symbol: str) -> list[Stream]:
    """The streams that orders of a symbol are filled from, and its funding."""
    chosen = [stream for stream in (trades(symbol), quotes(symbol)) if reader.find(stream) is not None]
    funding = Stream(symbol, Kind.FUNDING)
    reader.find(funding)  # a stream that is unknown makes the reader look for new ones
    if not chosen:
        bars = [stream for stream in reader.streams if stream.symbol == symbol and stream.kind is Kind.BAR]
        chosen = sorted(bars, key=lambda stream: timeframe_ns(stream.timeframe))[:1]
    return [*chosen, funding]


def _maker(stream: Stream) -> Callable[..., MarketEvent | Funding]:
    """Makes the event of a record from its event time and v0 to v4."""
    symbol, timeframe = stream.symbol, stream.timeframe
    match stream.kind:
        case Kind.TRADE:
            return lambda event_ns, v0, v1, v2, v3, v4: Trade(symbol, event_ns, v0, v1, v2)
        case Kind.QUOTE:
            return lambda event_ns, v0, v1, v2, v3, v4: Quote(symbol, event_ns, v0, v1, v2, v3)
        case Kind.BAR:
            return lambda event_ns, v0, v1, v2, v3, v4: Bar(symbol, timeframe, event_ns, v0, v1, v2, v3, v4)
        case _:
            assert stream.kind is Kind.FUNDING, stream
            return lambda event_ns, v0, v1, v2, v3, v4: Funding(symbol, event_ns, v0)
