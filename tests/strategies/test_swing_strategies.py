"""The swing strategies want both: an extreme of the price and models that expect the turn, of the same bar."""

from math import nan

import pytest

from strategy_runner.model.event import Bar, Event, Prediction
from strategy_runner.strategies.interface import Proposal
from strategy_runner.strategies.swing_high import SwingHigh
from strategy_runner.strategies.swing_low import SwingLow
from strategy_runner.strategies.testing import bars, run


def told(closes: list[float], scores: dict[int, float], confidence: float = 0.75) -> list[Event]:
    """Bars, each followed by the prediction of its number, as the tape has them."""
    events: list[Event] = []
    for number, bar in enumerate(bars(*closes)):
        events.append(bar)
        if number in scores:
            events.append(Prediction("TEST", "turn_model", "1m", bar.event_ns, scores[number], confidence))
    return events


def actions(proposals: list[Proposal]) -> list[str]:
    return [proposal.action for proposal in proposals]


def test_a_swing_high_that_the_model_confirms_is_sold() -> None:
    (proposal,) = run(SwingHigh, told([10.0, 11.0, 12.0], {2: -0.5}), lookback_bars=3)
    assert proposal.action == "sell"
    assert proposal.reasons == ("high 12 is the highest of 3 bars", "turn_model expects a fall: score -0.500")
    assert (proposal.confidence, proposal.strength) == (0.75, 0.5)


def test_a_swing_low_that_the_model_confirms_is_bought() -> None:
    (proposal,) = run(SwingLow, told([12.0, 11.0, 10.0], {2: 0.5}), lookback_bars=3)
    assert proposal.action == "buy"
    assert proposal.reasons == ("low 10 is the lowest of 3 bars", "turn_model expects a rise: score 0.500")
    assert (proposal.confidence, proposal.strength) == (0.75, 0.5)


@pytest.mark.parametrize("score", [0.0, 0.5, nan])
def test_without_a_confirming_score_nothing_happens(score: float) -> None:
    assert run(SwingHigh, told([10.0, 11.0, 12.0], {2: score}), lookback_bars=3) == []
    assert run(SwingLow, told([12.0, 11.0, 10.0], {2: -score}), lookback_bars=3) == []


def test_without_a_swing_a_sure_model_changes_nothing() -> None:
    assert run(SwingHigh, told([10.0, 12.0, 12.0, 11.0], {2: -1.0, 3: -1.0}), lookback_bars=2) == []
    assert run(SwingLow, told([12.0, 10.0, 10.0, 11.0], {2: 1.0, 3: 1.0}), lookback_bars=2) == []


def test_a_prediction_of_an_earlier_bar_confirms_nothing() -> None:
    first, second, third = bars(10.0, 11.0, 12.0)
    late = Prediction("TEST", "turn_model", "1m", second.event_ns, -1.0, 1.0)
    assert run(SwingHigh, [first, second, third, late], lookback_bars=2) == []


def test_no_swing_is_seen_before_lookback_bars_are_there() -> None:
    assert run(SwingHigh, told([10.0, 11.0, 12.0], {2: -1.0}), lookback_bars=4) == []


def test_it_closes_exactly_so_many_bars_after_the_entry_and_may_enter_on_the_same_bar_again() -> None:
    scores = dict.fromkeys(range(7), -1.0)
    rising = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]
    assert actions(run(SwingHigh, told(rising[:3], scores), lookback_bars=2, exit_after_bars=2)) == ["sell"]
    proposals = run(SwingHigh, told(rising, scores), lookback_bars=2, exit_after_bars=2)
    assert actions(proposals) == ["sell", "close", "sell", "close", "sell"]
    falling = [-price for price in rising]
    mirrored = run(SwingLow, told(falling, dict.fromkeys(range(7), 1.0)), lookback_bars=2, exit_after_bars=2)
    assert actions(mirrored) == ["buy", "close", "buy", "close", "buy"]


def test_a_missing_high_does_not_hide_a_later_swing() -> None:
    hole = [Bar("TEST", "1m", 1, 10.0, nan, 10.0, 10.0, 1.0)]
    assert actions(run(SwingHigh, [*hole, *told([10.0, 11.0, 12.0], {2: -1.0})], lookback_bars=3)) == ["sell"]
