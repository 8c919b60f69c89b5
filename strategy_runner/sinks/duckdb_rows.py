"""Decisions as columns of numpy arrays, the form DuckDB takes fastest without pandas or pyarrow.

What a body says is not among them: DuckDB reads it out of the body's own text, and needs no interpreter for that
(INSERT_SIGNALS). Other threads of the router wait for whoever has the interpreter, and a column of Python objects has it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody
from strategy_runner.sinks.received_body import BodyRefused

Columns = dict[str, npt.NDArray[np.generic]]

_INT64 = 2**63
_NO_MODELS = b'"models":[]'  # in canonical bytes only as this field: within a text its quotes have backslashes


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


def columns(decisions: Sequence[Decision]) -> Columns:
    """One row for each decision, under the names that the INSERTs read. Raises OverflowError for a number of more than 64
    bits, UnicodeDecodeError for a body that is no text."""
    envelopes = [decision.envelope for decision in decisions]
    return {
        "number": _whole([decision.number for decision in decisions]),
        "signal_id": _text([decision.signal_id for decision in decisions]),
        "verdict": _text([decision.verdict for decision in decisions]),
        "reason": _text([decision.reason for decision in decisions]),
        "decided_ns": _whole([decision.decided_ns for decision in decisions]),
        "age_ns": _whole([decision.age_ns for decision in decisions]),
        "limit_ns": _whole([decision.limit_ns for decision in decisions]),
        "received_ns": _whole([envelope.received_ns for envelope in envelopes]),
        "recorded_ns": _whole([envelope.recorded_ns for envelope in envelopes]),
        "seq": _whole([envelope.seq for envelope in envelopes]),
        "epoch": _whole([envelope.epoch for envelope in envelopes]),
        "mode": _text([envelope.mode for envelope in envelopes]),
        "generation": _text([envelope.generation for envelope in envelopes]),
        "n": _whole([envelope.n for envelope in envelopes]),
        "body": _text([decision.body.decode() for decision in decisions]),
        "has_models": np.array([_NO_MODELS not in decision.body for decision in decisions], dtype=np.bool_),
    }


def _text(values: list[str]) -> npt.NDArray[np.generic]:
    return np.array(values, dtype=np.object_)


def _whole(values: list[int]) -> npt.NDArray[np.generic]:
    return np.array(values, dtype=np.int64)
