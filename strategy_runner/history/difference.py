"""The difference between two signals: which fields differ, and which record on the tape first told them apart."""

from collections.abc import Iterator
from typing import Any

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.signal import Cause, ModelVote, SignalBody, decode_body
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader

_ABSENT = "nothing"


class FieldDifference(msgspec.Struct, frozen=True):
    """`path` is like size, cause.ordinal or models[0].score; the values are as JSON writes them."""

    path: str
    derived: str
    recorded: str


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a signal names. `seq` is its place on the tape, None if it is not kept; `word` is what there is to say."""

    stream: str
    ordinal: int
    seq: int | None
    word: str


def field_differences(derived: bytes, recorded: bytes) -> tuple[FieldDifference, ...]:
    """Of two canonical bodies. Bytes that are no body differ as a whole."""
    try:
        left, right = msgspec.json.decode(derived), msgspec.json.decode(recorded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return (FieldDifference("body", derived.decode(), recorded.decode(errors="replace")),)
    found = tuple(_walk("", left, right))
    return found or (FieldDifference("bytes", derived.decode(), recorded.decode(errors="replace")),)


def first_differing_input(tape: TapeReader, derived: bytes | None, recorded: bytes | None) -> InputRecord | None:
    """The first record that tells two bodies apart, else the cause; None if neither body can be read."""
    made, kept = _body(derived), _body(recorded)
    if made is not None and kept is not None:
        suspects = [_vote_apart(tape, made, kept), _off_the_tape(tape, kept), _causes_apart(tape, made, kept)]
        for suspect in suspects:
            if suspect is not None:
                return suspect
    one = made or kept
    if one is None:
        return None
    word = "the cause; no record that it names differs" if made and kept else "the cause"
    return _located(tape, one.cause.stream, one.cause.ordinal, word)


def _walk(path: str, left: Any, right: Any) -> Iterator[FieldDifference]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            yield from _walk(f"{path}.{key}" if path else key, left.get(key, ...), right.get(key, ...))
    elif isinstance(left, list) and isinstance(right, list):
        for index in range(max(len(left), len(right))):
            yield from _walk(f"{path}[{index}]", _at(left, index), _at(right, index))
    elif left != right or type(left) is not type(right):
        yield FieldDifference(path, _shown(left), _shown(right))


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else ...


def _shown(value: Any) -> str:
    return _ABSENT if value is ... else msgspec.json.encode(value).decode()


def _body(raw: bytes | None) -> SignalBody | None:
    try:
        return decode_body(raw) if raw is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _vote_apart(tape: TapeReader, made: SignalBody, kept: SignalBody) -> InputRecord | None:
    """The first prediction that the two do not share."""
    for index in range(max(len(made.models), len(kept.models))):
        left = made.models[index] if index < len(made.models) else None
        right = kept.models[index] if index < len(kept.models) else None
        if left != right:
            vote = left or right
            assert vote is not None
            word = f"prediction: derived {_said(left)}, recorded {_said(right)}"
            return _located(tape, vote.stream, vote.ordinal, word)
    return None


def _off_the_tape(tape: TapeReader, kept: SignalBody) -> InputRecord | None:
    """The recorded cause, if the tape holds another record in its place."""
    found = _on_tape(tape, kept.cause)
    if found is None or found == kept.cause:
        return None
    return _located(
        tape, kept.cause.stream, kept.cause.ordinal, f"the tape holds {_told(found)}, recorded was {_told(kept.cause)}"
    )


def _causes_apart(tape: TapeReader, made: SignalBody, kept: SignalBody) -> InputRecord | None:
    """The earlier of two causes: up to there the two agree."""
    if made.cause == kept.cause:
        return None
    places = [
        _located(tape, cause.stream, cause.ordinal, f"the cause as {word}: {_told(cause)}")
        for cause, word in ((made.cause, "derived"), (kept.cause, "recorded"))
    ]
    return min(places, key=lambda place: (place.seq is None, place.seq or 0))


def _said(vote: ModelVote | None) -> str:
    if vote is None:
        return _ABSENT
    return f"{vote.model} score {vote.score!r} confidence {vote.confidence!r} weight {vote.weight!r} at {vote.event_ns}"


def _told(cause: Cause) -> str:
    return f"{cause.stream} ordinal {cause.ordinal} at {cause.event_ns} {list(cause.values)}"


def _on_tape(tape: TapeReader, cause: Cause) -> Cause | None:
    """What the tape holds where a cause says that it stood; None if that is not kept."""
    seq = seq_of(tape, cause.stream, cause.ordinal)
    if seq is None:
        return None
    record = tape.record(seq)
    values = tuple(None if value != value else value for value in record[8:13])[: len(cause.values)]
    return Cause(stream=cause.stream, ordinal=cause.ordinal, event_ns=record.event_ns, values=values)


def _located(tape: TapeReader, stream: str, ordinal: int, word: str) -> InputRecord:
    return InputRecord(stream=stream, ordinal=ordinal, seq=seq_of(tape, stream, ordinal), word=word)


def seq_of(tape: TapeReader, stream: str, ordinal: int) -> int | None:
    """The seq of a stream's record, None if the tape does not keep it or its bytes are damaged."""
    try:
        stream_id = tape.find(Stream.parse(stream))
        if stream_id is None or not 0 <= ordinal < tape.entries(stream_id):
            return None
        seq = tape.seqs(stream_id, ordinal, ordinal + 1)[0]
        tape.fields(seq)
    except (ValueError, CorruptRecordError):
        return None
    return seq
