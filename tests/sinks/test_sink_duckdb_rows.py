"""What DuckDB reads out of a body is what the body says, whatever it says."""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sink_decisions import CLIENT, body, decided

from strategy_runner.model.decision import Decision, Verdict
from strategy_runner.model.signal import Cause, ModelVote, SignalBody, decode_body
from strategy_runner.sinks.duckdb_sink import DuckDbSink

_INT64 = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)  # also quotes, NUL, and what needs four bytes
_REAL = st.floats(allow_nan=False, allow_infinity=False)
_MAYBE = st.none() | _REAL
_TIME = st.integers(0, 2**62)
_VOTES = st.lists(
    st.builds(
        ModelVote,
        model=_TEXT,
        score=_REAL,
        confidence=_REAL,
        weight=_REAL,
        stream=_TEXT,
        ordinal=_INT64,
        event_ns=_TIME,
    ),
    max_size=3,
)
_BODIES = st.builds(
    SignalBody,
    id=_TEXT,
    client=st.just(CLIENT),
    strategy=_TEXT,
    symbol=_TEXT,
    venue=_TEXT,
    timeframe=_TEXT,
    action=st.sampled_from(["buy", "sell", "close", "modify", "cancel"]),
    size=_MAYBE,
    entry_price=_MAYBE,
    stop_loss=_MAYBE,
    take_profit=_MAYBE,
    confidence=_MAYBE,
    strength=_MAYBE,
    strategy_type=_TEXT,
    models=_VOTES.map(tuple),
    cause=st.builds(Cause, stream=_TEXT, ordinal=_INT64, event_ns=_TIME, values=st.just((1.0, None))),
    reasons=st.lists(_TEXT | st.just('"models":[]'), max_size=3).map(tuple),
    refusal=st.none() | _TEXT,
    of=_TEXT,
)
_VERDICTS = st.sampled_from(["accepted", "refused", "expired"])
_SIGNALS = """SELECT client, strategy, symbol, venue, timeframe, action, size, entry_price, stop_loss, take_profit, confidence,
              strength, strategy_type, event_ns, epoch_us(event_time), cause_stream, cause_ordinal, reasons, refused_by, body
              FROM signals ORDER BY number"""
_MODELS = """SELECT number, model, score, confidence, weight, stream, ordinal, event_ns, epoch_us(event_time)
             FROM signal_models ORDER BY number, rowid"""


@settings(
    max_examples=10,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(_BODIES, _VERDICTS), min_size=1, max_size=20))
def test_a_row_says_what_the_body_says(tmp_path: Path, drawn: list[tuple[SignalBody, Verdict]]) -> None:
    decisions = [decided(one, number, verdict) for number, (one, verdict) in enumerate(drawn)]
    signals, models = _kept(tmp_path, decisions)
    bodies = [decode_body(decision.body) for decision in decisions]
    assert signals == [_row(one, decision) for one, decision in zip(bodies, decisions, strict=True)], (
        "compared by bits: 0.1 is 0.1 and nothing near it"
    )
    assert models == [
        (number, *msgspec.structs.astuple(vote), vote.event_ns // 1_000)
        for number, one in enumerate(bodies)
        for vote in one.models
    ]


def test_a_body_without_what_every_row_needs_is_a_dead_letter_and_the_rest_is_kept(tmp_path: Path) -> None:
    letters: list[int] = []
    whole = body(4)
    without = msgspec.json.decode(decided(whole, 1).body)
    del without["size"]
    unknown_score = msgspec.json.decode(decided(whole, 2).body)
    unknown_score["models"][0]["score"] = None
    bodies = [decided(whole, 0).body, msgspec.json.encode(without), msgspec.json.encode(unknown_score)]
    decisions = [msgspec.structs.replace(decided(whole, number), body=raw) for number, raw in enumerate(bodies)]
    sink = DuckDbSink(tmp_path / "client.duckdb", CLIENT, lambda letter: letters.append(letter.number))
    sink.write(decisions)
    assert letters == [1, 2]
    assert sink.query("SELECT number FROM signals", 9)[1] == [(0,)]
    assert sink.query("SELECT DISTINCT number FROM signal_models", 9)[1] == [(0,)]
    assert sink.cursor() == 3
    sink.close()


def _row(one: SignalBody, decision: Decision) -> tuple[Any, ...]:
    refused_by = "" if decision.verdict == "accepted" else "router" if one.refusal is None else "worker"
    said = (one.client, one.strategy, one.symbol, one.venue, one.timeframe, one.action, one.size, one.entry_price)
    more = (one.stop_loss, one.take_profit, one.confidence, one.strength, one.strategy_type)
    cause = (one.cause.event_ns, one.cause.event_ns // 1_000, one.cause.stream, one.cause.ordinal)
    return (*said, *more, *cause, list(one.reasons), refused_by, decision.body.decode())


def _kept(folder: Path, decisions: list[Decision]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    path = folder / "client.duckdb"
    path.unlink(missing_ok=True)
    sink = DuckDbSink(path, CLIENT, _never)
    sink.write(decisions)
    kept = sink.query(_SIGNALS, 99)[1], sink.query(_MODELS, 99)[1]
    sink.close()
    return kept


def _never(letter: object) -> None:
    raise AssertionError(letter)
