"""Several models become one opinion of a bar, once all have spoken, and never by guessing."""

import pickle
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.config.spec import ModelSpec
from strategy_runner.model.event import Prediction
from strategy_runner.predictions.aggregation import (
    COMBINED,
    FAULTS_KEPT_MAX,
    LATE,
    MISSING,
    NOT_FINITE,
    OUT_OF_RANGE,
    REPEATED,
    UNKNOWN_MODEL,
    Aggregator,
    Combined,
    Fault,
)


def model(name: str, weight: float = 1.0, threshold: float = 0.5, window: int = 3) -> ModelSpec:
    return ModelSpec(id=name, confidence_threshold=threshold, lookback_window=window, weight=weight)


def said(
    name: str, event_ns: int, score: float = 0.5, confidence: float = 0.5, symbol: str = "BTC-USD"
) -> tuple[Prediction, str, int]:
    """A prediction with its stream, and its time as its ordinal."""
    return Prediction(symbol, name, "1m", event_ns, score, confidence), f"{symbol}/prediction.{name}.1m", event_ns


def add(aggregator: Aggregator, *predictions: tuple[Prediction, str, int]) -> list[Combined | None]:
    return [aggregator.add(*prediction) for prediction in predictions]


def test_one_model_speaks_for_itself() -> None:
    prediction, stream, ordinal = said("m", 1, score=-0.3, confidence=0.7)
    combined = Aggregator([model("m", weight=3.0, threshold=0.6)]).add(prediction, stream, ordinal)
    assert combined is not None
    assert (combined.prediction, combined.threshold) == (prediction, 0.6)
    (vote,) = combined.votes
    assert (vote.model, vote.score, vote.confidence, vote.weight) == ("m", -0.3, 0.7, 3.0)
    assert (vote.stream, vote.ordinal, vote.event_ns) == ("BTC-USD/prediction.m.1m", 1, 1)


def test_several_models_combine_by_weight_when_the_last_has_spoken() -> None:
    aggregator = Aggregator([model("a", weight=3.0, threshold=0.8), model("b", weight=1.0, threshold=0.4)])
    first, second = add(
        aggregator, said("b", 1, score=-1.0, confidence=0.125), said("a", 1, score=1.0, confidence=0.625)
    )
    assert first is None
    assert second is not None
    assert second.prediction == Prediction("BTC-USD", COMBINED, "1m", 1, 0.5, 0.5)
    assert second.threshold == pytest.approx(0.7)
    assert [vote.model for vote in second.votes] == ["a", "b"], "in configured order, whoever spoke first"


def test_a_model_that_missed_a_bar_is_named_when_a_later_bar_comes() -> None:
    aggregator = Aggregator([model("a"), model("b"), model("c")])
    assert add(aggregator, said("a", 1), said("b", 2), said("a", 2)) == [None, None, None]
    assert aggregator.take_faults() == (Fault("b", "BTC-USD", 1, MISSING), Fault("c", "BTC-USD", 1, MISSING))
    assert aggregator.take_faults() == ()
    assert aggregator.counts == {("b", MISSING): 1, ("c", MISSING): 1}
    assert aggregator.add(*said("c", 2)) is not None


def test_a_bar_that_every_model_spoke_of_leaves_no_fault() -> None:
    aggregator = Aggregator([model("a"), model("b")])
    add(aggregator, said("a", 1), said("b", 1), said("a", 2), said("b", 2))
    assert aggregator.take_faults() == ()


def test_a_bar_of_which_no_model_spoke_is_found_if_bars_are_told() -> None:
    aggregator = Aggregator([model("a")])
    for event_ns in (1, 2, 2, 3):
        aggregator.advance("BTC-USD", event_ns)
        if event_ns != 2:
            assert aggregator.add(*said("a", event_ns)) is not None
    assert aggregator.take_faults() == (Fault("a", "BTC-USD", 2, MISSING),)


@pytest.mark.parametrize(
    ("score", "confidence", "reason"),
    [
        (nan, 0.5, NOT_FINITE),
        (0.5, nan, NOT_FINITE),
        (inf, 0.5, NOT_FINITE),
        (0.5, -inf, NOT_FINITE),
        (1.01, 0.5, OUT_OF_RANGE),
        (-1.01, 0.5, OUT_OF_RANGE),
        (0.5, 1.01, OUT_OF_RANGE),
        (0.5, -0.01, OUT_OF_RANGE),
    ],
)
def test_a_prediction_that_is_no_prediction_is_refused_by_name_and_never_combined(
    score: float, confidence: float, reason: str
) -> None:
    aggregator = Aggregator([model("a"), model("b")])
    assert add(aggregator, said("a", 1), said("b", 1, score, confidence)) == [None, None]
    assert aggregator.take_faults() == (Fault("b", "BTC-USD", 1, reason),)
    assert aggregator.latest("b", "BTC-USD") == ()


def test_a_refused_prediction_of_a_later_bar_does_not_end_the_present_one() -> None:
    aggregator = Aggregator([model("a"), model("b")])
    assert add(aggregator, said("a", 1), said("b", 2, nan))[1] is None
    assert aggregator.add(*said("b", 1)) is not None


def test_late_repeated_and_unknown_predictions_are_refused() -> None:
    aggregator = Aggregator([model("a"), model("b")])
    refused = add(aggregator, said("a", 2), said("b", 1), said("a", 2, score=-1.0), said("x", 2))
    assert refused == [None] * 4
    assert [fault.reason for fault in aggregator.take_faults()] == [LATE, REPEATED, UNKNOWN_MODEL]
    combined = aggregator.add(*said("b", 2))
    assert combined is not None
    assert combined.votes[0].score == 0.5, "the first word of a model stands"


def test_symbols_are_combined_each_by_itself() -> None:
    aggregator = Aggregator([model("a"), model("b")])
    assert add(aggregator, said("a", 1), said("b", 1, symbol="ETH-USD")) == [None, None]
    assert aggregator.add(*said("b", 1)) is not None
    assert aggregator.take_faults() == ()


def test_the_latest_predictions_of_the_lookback_window_are_kept() -> None:
    aggregator = Aggregator([model("a", window=2)])
    add(aggregator, *(said("a", event_ns) for event_ns in (1, 2, 3)))
    assert [prediction.event_ns for prediction in aggregator.latest("a", "BTC-USD")] == [2, 3]


def test_faults_nobody_takes_have_a_limit_and_counts_do_not() -> None:
    aggregator = Aggregator([model("a")])
    add(aggregator, *(said("a", event_ns, nan) for event_ns in range(FAULTS_KEPT_MAX + 10)))
    assert len(aggregator.take_faults()) == FAULTS_KEPT_MAX
    assert aggregator.counts["a", NOT_FINITE] == FAULTS_KEPT_MAX + 10


SCORES = st.floats(-1.0, 1.0)
SHARES = st.floats(0.0, 1.0)
WEIGHTS = st.floats(1e-300, 1e300) | st.just(1.5e308)


@given(st.lists(st.tuples(SCORES, SHARES, SHARES, WEIGHTS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_combination_stays_within_its_votes_whatever_the_order(votes: list[tuple[float, ...]], order: object) -> None:
    models = [model(f"m{number}", weight, threshold) for number, (_, _, threshold, weight) in enumerate(votes)]
    words = [said(f"m{number}", 1, score, confidence) for number, (score, confidence, _, _) in enumerate(votes)]
    in_order = [word for word in add(Aggregator(models), *words) if word]
    order.shuffle(words)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = [word for word in add(Aggregator(models), *words) if word]
    assert shuffled == in_order
    (combined,) = in_order
    scores, confidences, thresholds, _ = zip(*votes, strict=True)
    assert min(scores) <= combined.prediction.score <= max(scores)
    assert min(confidences) <= combined.prediction.confidence <= max(confidences)
    assert min(thresholds) <= combined.threshold <= max(thresholds)


WORDS = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 6), st.sampled_from([0.5, -0.25, nan]))


@given(st.lists(WORDS, max_size=30), st.integers(0, 30))
def test_a_restored_aggregator_goes_on_as_if_nothing_had_happened(
    words: list[tuple[str, int, float]], cut: int
) -> None:
    uncut, restored = (Aggregator([model("a", 2.0), model("b")]) for _ in range(2))
    for number, word in enumerate(words):
        if number == cut:
            restored = pickle.loads(pickle.dumps(restored))
        assert restored.add(*said(*word)) == uncut.add(*said(*word))
    assert restored.take_faults() == uncut.take_faults()
    assert restored.counts == uncut.counts
