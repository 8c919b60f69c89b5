"""Re-derivation: after a kill, what the source's records cause is made again from the checkpoint to the tape's end.

Each record made is compared with the tape's, and a difference stops the feed. A source that rewinds gives its records again,
and completes the last group where a power cut tore it. Of a live source the tape itself holds the raw records; they bring the
derivations to where the tape ends. What the feed noted by itself (wall clock, steps of it, gaps of a live source, private
entries) is no derivation's, and is stepped over.
"""

import logging
from collections.abc import Callable, Iterable

from strategy_runner.errors import DivergenceError
from strategy_runner.feed.derive import Derivation
from strategy_runner.feed.pace import FOREVER_NS
from strategy_runner.feed.sources.interface import Raw, Source
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

log = logging.getLogger(__name__)

Fields = tuple[int, int, int, int, int, int, int, int, float, float, float, float, float, float]


class Rederivation:
    """From seq `first` to the end of the tape. `emit` is for the derivations meanwhile, `on_noted` sees what is stepped over."""

    def __init__(
        self,
        writer: TapeWriter,
        reader: TapeReader,
        source: Source,
        *,
        first: int,
        on_noted: Callable[[Stream, Fields], None],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._source = source
        self._on_noted = on_noted
        self._first = self._at = first
        self._count = writer.seq

    def run(self, derive: Callable[[list[Raw]], None], derivations: Iterable[Derivation]) -> None:
        """`derive` hands rows to the derivations. Raises DivergenceError, CorruptRecordError."""
        if self._first == self._count:
            return
        involved = list(derivations)
        for derivation in involved:
            derivation.emit = self.emit
        if self._source.rewinds:
            self._from_source(derive)
        else:
            self._from_tape(derive)
        self._writer.publish()
        for derivation in involved:
            derivation.emit = self._writer.append
        log.info("made %d records again after seq %d, all equal", self._count - self._first, self._first)
        if self._at > self._count:
            log.info("wrote the %d records again that the last group lacked", self._at - self._count)

    def emit(self, handle: int, event_ns: int, v0: float, v1: float, v2: float, v3: float, v4: float) -> None:
        """A record made again: compared, or written where the tape ends before it."""
        values = (v0, v1, v2, v3, v4)
        self._step_over_notes()
        if self._at >= self._count:
            self._writer.append(handle, event_ns, *values)
            self._at += 1
            return
        fields = self._reader.fields(self._at)
        found = (handle, event_ns, *(repr(value) for value in values))
        expected = (fields[1], fields[2], *(repr(value) for value in fields[8:13]))
        if found != expected:
            raise DivergenceError(f"{self._writer.folder}: seq {self._at}: expected {expected}, found {found}")
        self._at += 1

    def _from_source(self, derive: Callable[[list[Raw]], None]) -> None:
        while True:
            self._step_over_notes()
            if self._at >= self._count:
                return
            rows = self._source.take(1, FOREVER_NS)
            if not rows:
                raise DivergenceError(
                    f"{self._writer.folder}: seq {self._at}: the tape holds more than its source gives"
                )
            derive(rows)

    def _from_tape(self, derive: Callable[[list[Raw]], None]) -> None:
        ends_group = group_end(self._source)
        for seq in range(self._first, self._count):
            fields = self._reader.fields(seq)
            stream = self._writer.streams[fields[1]]
            if seq >= self._at and not self._is_noted(stream) and ends_group(stream):
                derive([_raw(stream, fields)])
                if self._at <= seq:
                    raise DivergenceError(
                        f"{self._writer.folder}: seq {seq}: expected {stream.name} to be made again, found nothing made of it"
                    )
        self._step_over_notes()
        if self._at < self._count:
            raise DivergenceError(
                f"{self._writer.folder}: seq {self._at}: the tape holds more than its raw records give"
            )

    def _step_over_notes(self) -> None:
        while self._at < self._count:
            fields = self._reader.fields(self._at)
            stream = self._writer.streams[fields[1]]
            if not self._is_noted(stream):
                return
            self._on_noted(stream, fields)
            self._at += 1

    def _is_noted(self, stream: Stream) -> bool:
        return not stream.symbol or (stream.kind is Kind.GAP and not self._source.rewinds)


def group_end(source: Source) -> Callable[[Stream], bool]:
    """Whether a tape may end with a record of a stream: a group, what one raw record causes, is whole up to the raw record.

    What is left out behind it is made again from the raw record; derived records whose raw record is lost have no cause.
    """

    def ends_group(stream: Stream) -> bool:
        if not stream.symbol or stream.kind in (Kind.TRADE, Kind.QUOTE, Kind.GAP):
            return True
        return stream == source.base(stream.symbol)

    return ends_group


def _raw(stream: Stream, fields: Fields) -> Raw:
    v0, v1, v2, v3, v4 = fields[8:13]
    return stream.symbol, int(stream.kind), fields[2], v0, v1, v2, v3, v4
