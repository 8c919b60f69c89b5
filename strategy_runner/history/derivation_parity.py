"""Parity of derivation: the bars, predictions and clock ticks on a tape against what its raw records give again.

Where the raw records of a symbol are not on the tape (nobody reads them), its predictions are made again from its bars.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.feed.derive import ALWAYS_KNOWN, Derivation
from strategy_runner.model.counted import counted
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.predictions.mock_model import WINDOW_BARS, MockModel
from strategy_runner.tape.reader import TapeReader

DERIVED = (Kind.BAR, Kind.PREDICTION, Kind.CLOCK)
NAN = float("nan")
READ_ENTRIES = 4096
_pack = struct.Struct("<5d").pack


class DerivationParity(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol. `base` is what it was made from again, "" if nothing is on the tape to make it from.

    `records` were compared. `first_difference` names seq, stream and ordinal, what was made and what the tape holds.
    """

    symbol: str
    base: str
    records: int = 0
    first_difference: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        return not self.first_difference


class _Entry(NamedTuple):
    """A record of the tape."""

    seq: int
    stream: Stream
    ordinal: int
    event_ns: int
    values: tuple[float, ...]


class _Made(NamedTuple):
    """A record made again; `others` is a prediction as other seeds make it. It may differ if not `verified`: then what it rests
    on may lie before the tape."""

    stream: Stream
    event_ns: int
    values: tuple[float, ...]
    verified: bool
    others: tuple[tuple[float, ...], ...] = ()


def compare_derivation(tape: Path, symbol: str, base: Stream, *, seeds: Sequence[int]) -> DerivationParity:
    """`base` is the series that drives the symbol, `seeds` what the mock model's were. Raises NotRunningError without a tape."""
    reader = TapeReader(tape)
    on_tape = {s: _id(reader, s) for s in _streams_of(reader, symbol) if reader.entries(_id(reader, s))}
    derived = [s for s in on_tape if s.kind in DERIVED and s != base]
    predicted = [s for s in derived if s.kind is Kind.PREDICTION]
    if not derived:
        return DerivationParity(symbol=symbol, base="", notes=("nothing derived is on the tape",))
    if base in on_tape:
        return _from_raw(reader, on_tape, base, derived, seeds)
    note = f"{base.name} is not on the tape: bars and clock are taken as recorded"
    with_bars = [s for s in predicted if bars(symbol, s.timeframe) in on_tape]
    if not with_bars:
        return DerivationParity(symbol=symbol, base="", notes=(note, "nothing was made again"))
    return _from_bars(reader, on_tape, with_bars, seeds, note)


# -- from raw records --------------------------------------------------------------------------------------------------


def _from_raw(
    reader: TapeReader, on_tape: Mapping[Stream, int], base: Stream, derived: list[Stream], seeds: Sequence[int]
) -> DerivationParity:
    first_ordinal = reader.first_ordinal_at(on_tape[base], reader.head.first)
    if first_ordinal >= reader.entries(on_tape[base]):
        return DerivationParity(symbol=base.symbol, base=base.name, notes=("no raw record is kept",))
    first_seq = reader.seqs(on_tape[base], first_ordinal, first_ordinal + 1)[0]
    last_seq = _last_seq(reader, on_tape[base])
    begins = _begins(reader, on_tape, [base, *derived], first_seq)
    models = _Models(begins, seeds)
    # bars that a model listens to are made although nobody else wants them
    wanted = {*derived, base, *(bars(base.symbol, s.timeframe) for s in derived if s.kind is Kind.PREDICTION)}
    made: list[_Made] = []
    raw_ns = reader.record(first_seq).event_ns

    def emit(stream: Stream, event_ns: int, *values: float) -> None:
        verified, others = True, list[tuple[float, ...]]()
        if stream.kind is Kind.BAR:
            models.note_close(stream.timeframe, values[3])
            whole = stream == base or event_ns - timeframe_ns(stream.timeframe) >= raw_ns
            verified = whole and event_ns > begins.get(stream, _Begin(0, 0)).event_ns
        elif stream.kind is Kind.PREDICTION:
            if stream not in begins or event_ns < begins[stream].event_ns:
                return
            (values, *others), verified = models.predict(stream, event_ns)
        if stream in begins and event_ns >= begins[stream].event_ns:
            made.append(_Made(stream, event_ns, values, verified, tuple(others)))

    # what the feed knew before is not on the tape: all bars are made, and those that it did not give are passed over above
    handles = {stream: stream for stream in sorted(wanted)}
    derivation = Derivation(base, handles, emit=emit, seed=seeds[0], known_ns=ALWAYS_KNOWN)

    def remade() -> Iterator[_Made]:
        for entry in _entries(reader, on_tape, [base], first_seq, last_seq):
            _apply(derivation, entry)
            yield from made
            made.clear()

    recorded = _entries(reader, on_tape, [base, *derived], first_seq, last_seq)
    return _compared(base.symbol, base.name, recorded, remade(), seeds)


def _apply(derivation: Derivation, entry: _Entry) -> None:
    v0, v1, v2, v3, v4 = entry.values
    if entry.stream.kind is Kind.TRADE:
        derivation.trade(entry.event_ns, v0, v1, v2)
    elif entry.stream.kind is Kind.QUOTE:
        derivation.quote(entry.event_ns, v0, v1, v2, v3)
    else:
        derivation.bar(entry.event_ns, v0, v1, v2, v3, v4)


# -- from bars ---------------------------------------------------------------------------------------------------------


def _from_bars(
    reader: TapeReader, on_tape: Mapping[Stream, int], predicted: list[Stream], seeds: Sequence[int], note: str
) -> DerivationParity:
    """Timeframe by timeframe: each bar, and behind it what its models said, in the order of their names."""
    symbol, notes = predicted[0].symbol, [note]
    records = 0
    for timeframe in sorted({stream.timeframe for stream in predicted}):
        source = bars(symbol, timeframe)
        speaking = sorted((s for s in predicted if s.timeframe == timeframe), key=lambda s: s.model)
        ordinal = reader.first_ordinal_at(on_tape[source], reader.head.first)
        if ordinal >= reader.entries(on_tape[source]):
            continue
        first_seq = reader.seqs(on_tape[source], ordinal, ordinal + 1)[0]
        begins = _begins(reader, on_tape, [source, *speaking], first_seq)
        last_seq = _last_seq(reader, on_tape[source])
        found = _compared(
            symbol,
            source.name,
            _entries(reader, on_tape, [source, *speaking], first_seq, last_seq),
            _remade_from_bars(reader, on_tape, source, speaking, _Models(begins, seeds), begins, first_seq, last_seq),
            seeds,
        )
        records += found.records
        notes += [one for one in found.notes if one not in notes]
        if found.first_difference:
            return msgspec.structs.replace(found, records=records, notes=tuple(notes))
    return DerivationParity(symbol=symbol, base=f"{symbol}/bar", records=records, notes=tuple(notes))


def _remade_from_bars(
    reader: TapeReader,
    on_tape: Mapping[Stream, int],
    source: Stream,
    speaking: list[Stream],
    models: "_Models",
    begins: Mapping[Stream, "_Begin"],
    first_seq: int,
    last_seq: int,
) -> Iterator[_Made]:
    for entry in _entries(reader, on_tape, [source], first_seq, last_seq):
        yield _Made(source, entry.event_ns, entry.values, True)
        models.note_close(source.timeframe, entry.values[3])
        for stream in speaking:
            if stream in begins and entry.event_ns >= begins[stream].event_ns:
                (values, *others), verified = models.predict(stream, entry.event_ns)
                yield _Made(stream, entry.event_ns, values, verified, tuple(others))


# -- both --------------------------------------------------------------------------------------------------------------


class _Begin(NamedTuple):
    """A stream's first record that is compared."""

    ordinal: int
    event_ns: int


class _Models:
    """The mock models of a symbol, each born with the first prediction of its stream, as in the feed, and one for each seed."""

    def __init__(self, begins: Mapping[Stream, _Begin], seeds: Sequence[int]) -> None:
        self._begins = begins
        self._models = {
            stream: [MockModel(seed, stream.model, stream.symbol, stream.timeframe) for seed in seeds]
            for stream in begins
            if stream.kind is Kind.PREDICTION
        }
        self._spoken = dict.fromkeys(self._models, 0)
        self._closes: dict[str, float] = {}

    def note_close(self, timeframe: str, close: float) -> None:
        self._closes[timeframe] = close

    def predict(self, stream: Stream, event_ns: int) -> tuple[list[tuple[float, ...]], bool]:
        """Values by seed, and whether the model remembers all that it did then: not before its window is full again."""
        close = self._closes[stream.timeframe]
        said: list[tuple[float, ...]] = [
            (*model.predict(event_ns, close), NAN, NAN, NAN) for model in self._models[stream]
        ]
        self._spoken[stream] += 1
        remembers = self._begins[stream].ordinal == 0 or self._spoken[stream] >= WINDOW_BARS
        return said, remembers


def _compared(
    symbol: str, base: str, recorded: Iterator[_Entry], remade: Iterator[_Made], seeds: Sequence[int]
) -> DerivationParity:
    """A prediction is what any of the seeds makes."""
    records, unverified = 0, 0
    spoke: set[int] = set()
    first = ""
    try:
        for entry in recorded:
            made = next(remade, None)
            if made is None or (made.stream, made.event_ns) != (entry.stream, entry.event_ns):
                what = "nothing" if made is None else f"{made.stream.name} at {made.event_ns} {_shown(made.values)}"
                first = f"{_place(entry)}: expected {what}, found {entry.event_ns} {_shown(entry.values)}"
            elif (seed := _seed_of(entry, made, seeds)) is None:
                if made.verified:
                    with_what = f" (models.seed {_listed(seeds)})" if entry.stream.kind is Kind.PREDICTION else ""
                    first = f"{_place(entry)}: expected {_shown(made.values)}{with_what}, found {_shown(entry.values)}"
                unverified += 1
            elif entry.stream.kind is Kind.PREDICTION:
                spoke.add(seed)
            if first:
                break
            records += 1
        else:
            # behind the last raw record nothing is looked at, so both end with it
            left = next(remade, None)
            if left is not None and left.stream.name == base:
                first = f"{left.stream.name} at {left.event_ns}: expected on the tape, found nothing"
    except CorruptRecordError as error:
        first = str(error)
    notes = []
    if unverified:
        notes.append(f"made of what is not on the tape, and not compared: {counted(unverified, 'record')}")
    if len(spoke) > 1:
        notes.append(
            f"models.seed was changed while this was recorded: its predictions are those of {_listed(sorted(spoke))}"
        )
    return DerivationParity(symbol=symbol, base=base, records=records, first_difference=first, notes=tuple(notes))


def _seed_of(entry: _Entry, made: _Made, seeds: Sequence[int]) -> int | None:
    """The seed with which a record is the same again, the first for one that rests on none; None if it differs."""
    found = _pack(*entry.values)
    if _pack(*made.values) == found:
        return seeds[0]
    return next((seed for seed, values in zip(seeds[1:], made.others, strict=False) if _pack(*values) == found), None)


def _listed(seeds: Sequence[int]) -> str:
    return " and ".join(map(str, seeds))


def _entries(
    reader: TapeReader, on_tape: Mapping[Stream, int], streams: list[Stream], first_seq: int, last_seq: int
) -> Iterator[_Entry]:
    """The records of some streams from `first_seq` to `last_seq`, in order."""

    def of(stream: Stream) -> Iterator[tuple[int, Stream, int]]:
        stream_id = on_tape[stream]
        ordinal = reader.first_ordinal_at(stream_id, first_seq)
        while seqs := reader.seqs(stream_id, ordinal, min(reader.entries(stream_id), ordinal + READ_ENTRIES)):
            for seq in seqs:
                if seq > last_seq:
                    return
                yield seq, stream, ordinal
                ordinal += 1
            if ordinal >= reader.entries(stream_id):
                return

    for seq, stream, ordinal in merge(*map(of, streams)):
        fields = reader.fields(seq)
        yield _Entry(seq, stream, ordinal, fields[2], fields[8:13])


def _begins(
    reader: TapeReader, on_tape: Mapping[Stream, int], streams: list[Stream], first_seq: int
) -> dict[Stream, _Begin]:
    found = {}
    for stream in streams:
        ordinal = reader.first_ordinal_at(on_tape[stream], first_seq)
        if ordinal < reader.entries(on_tape[stream]):
            seq = reader.seqs(on_tape[stream], ordinal, ordinal + 1)[0]
            found[stream] = _Begin(ordinal, reader.record(seq).event_ns)
    return found


def _last_seq(reader: TapeReader, stream_id: int) -> int:
    entries = reader.entries(stream_id)
    return reader.seqs(stream_id, entries - 1, entries)[0]


def _streams_of(reader: TapeReader, symbol: str) -> list[Stream]:
    reader.find(Stream("", Kind.CLOCK, "1s"))  # reads all names
    return [stream for stream in reader.streams if stream.symbol == symbol]


def _id(reader: TapeReader, stream: Stream) -> int:
    found = reader.find(stream)
    assert found is not None, stream
    return found


def _place(entry: _Entry) -> str:
    return f"seq {entry.seq}: {entry.stream.name} ordinal {entry.ordinal}"


_shown: Callable[[tuple[float, ...]], list[float]] = list


def symbols_on(tape: Path) -> list[str]:
    """Every symbol that the tape carries, sorted."""
    reader = TapeReader(tape)
    reader.find(Stream("", Kind.CLOCK, "1s"))
    return sorted({stream.symbol for stream in reader.streams} - {""})
