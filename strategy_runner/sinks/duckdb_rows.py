"""Decisions as columns of numpy arrays, the form DuckDB takes fastest without pandas or pyarrow.

Measured for 10,000 rows of 30 columns on 2 cores: registered numpy arrays 0.39 s, the Appender 0.5-0.8 s, list
parameters with unnest 1.1 s, one JSON document 15 s.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import ModelVote, SignalBody
from strategy_runner.sinks.received_body import BodyRefused

Columns = dict[str, npt.NDArray[np.generic]]
Entry = tuple[Decision, SignalBody]

_INT64 = 2**63


def check_storable(decision: Decision, body: SignalBody) -> None:
    """DuckDB's BIGINT holds 64 bits and a Python int any number of them. Raises BodyRefused."""
    envelope, cause = decision.envelope, body.cause
    numbers = [decision.decided_ns, decision.age_ns, decision.limit_ns, envelope.n, envelope.seq, envelope.epoch]
    numbers += [envelope.received_ns, envelope.recorded_ns]
    numbers += [cause.ordinal, cause.event_ns]
    for vote in body.models:
        numbers += [vote.ordinal, vote.event_ns]
    if max(numbers) >= _INT64 or min(numbers) < -_INT64:
        raise BodyRefused(f"expected whole numbers of 64 bits, found {max(numbers, key=abs)}")


def signal_columns(entries: Sequence[Entry]) -> Columns:
    """One row for each decided signal, under the names INSERT_SIGNALS reads."""
    decisions = [decision for decision, _ in entries]
    bodies = [body for _, body in entries]
    envelopes = [decision.envelope for decision in decisions]
    causes = [body.cause for body in bodies]
    return {
        "number": _whole([decision.number for decision in decisions]),
        "signal_id": _text([decision.signal_id for decision in decisions]),
        "client": _text([body.client for body in bodies]),
        "strategy": _text([body.strategy for body in bodies]),
        "symbol": _text([body.symbol for body in bodies]),
        "venue": _text([body.venue for body in bodies]),
        "timeframe": _text([body.timeframe for body in bodies]),
        "action": _text([body.action for body in bodies]),
        "size": _real([body.size for body in bodies]),
        "entry_price": _real([body.entry_price for body in bodies]),
        "stop_loss": _real([body.stop_loss for body in bodies]),
        "take_profit": _real([body.take_profit for body in bodies]),
        "confidence": _real([body.confidence for body in bodies]),
        "strength": _real([body.strength for body in bodies]),
        "strategy_type": _text([body.strategy_type for body in bodies]),
        "verdict": _text([decision.verdict for decision in decisions]),
        "reason": _text([decision.reason for decision in decisions]),
        "refused_by": _text([_refused_by(decision, body) for decision, body in entries]),
        "event_ns": _whole([cause.event_ns for cause in causes]),
        "received_ns": _whole([envelope.received_ns for envelope in envelopes]),
        "recorded_ns": _whole([envelope.recorded_ns for envelope in envelopes]),
        "decided_ns": _whole([decision.decided_ns for decision in decisions]),
        "age_ns": _whole([decision.age_ns for decision in decisions]),
        "limit_ns": _whole([decision.limit_ns for decision in decisions]),
        "cause_stream": _text([cause.stream for cause in causes]),
        "cause_ordinal": _whole([cause.ordinal for cause in causes]),
        "seq": _whole([envelope.seq for envelope in envelopes]),
        "epoch": _whole([envelope.epoch for envelope in envelopes]),
        "mode": _text([envelope.mode for envelope in envelopes]),
        "generation": _text([envelope.generation for envelope in envelopes]),
        "n": _whole([envelope.n for envelope in envelopes]),
        "reasons": _text([msgspec.json.encode(body.reasons).decode() for body in bodies]),
        "body": _text([decision.body.decode() for decision in decisions]),
    }


def model_columns(entries: Sequence[Entry]) -> Columns:
    """One row for each model's vote, under the names INSERT_MODELS reads; {} if no model voted."""
    votes: list[tuple[Decision, ModelVote]] = [(decision, vote) for decision, body in entries for vote in body.models]
    if not votes:
        return {}
    return {
        "number": _whole([decision.number for decision, _ in votes]),
        "signal_id": _text([decision.signal_id for decision, _ in votes]),
        "model": _text([vote.model for _, vote in votes]),
        "score": _real([vote.score for _, vote in votes]),
        "confidence": _real([vote.confidence for _, vote in votes]),
        "weight": _real([vote.weight for _, vote in votes]),
        "stream": _text([vote.stream for _, vote in votes]),
        "ordinal": _whole([vote.ordinal for _, vote in votes]),
        "event_ns": _whole([vote.event_ns for _, vote in votes]),
    }


def _refused_by(decision: Decision, body: SignalBody) -> str:
    if decision.verdict == "accepted":
        return ""
    return "router" if body.refusal is None else "worker"


def _text(values: list[str]) -> npt.NDArray[np.generic]:
    return np.array(values, dtype=np.object_)


def _whole(values: list[int]) -> npt.NDArray[np.generic]:
    return np.array(values, dtype=np.int64)


def _real(values: Sequence[float | None]) -> npt.NDArray[np.generic]:
    """float64 with None masked: DuckDB makes a masked value NULL."""
    array = np.array(values, dtype=np.float64)
    return np.ma.array(array, mask=np.isnan(array))
