"""The momentum rider goes with a move, for a fixed number of bars."""

from math import nan

import pytest

from strategy_runner.strategies.momentum_rider import MomentumRider
from strategy_runner.strategies.testing import bars, run


def actions(*closes: float, **params: float) -> list[str]:
    return [proposal.action for proposal in run(MomentumRider, bars(*closes), **params)]


def test_it_buys_a_rise_and_sells_a_fall_of_the_threshold() -> None:
    assert actions(100.0, 100.0, 101.0, lookback_bars=2, threshold=0.01) == ["buy"]
    assert actions(100.0, 100.0, 99.0, lookback_bars=2, threshold=0.01) == ["sell"]


def test_it_leaves_a_smaller_move_alone() -> None:
    assert actions(100.0, 100.0, 100.99, 99.01, lookback_bars=2, threshold=0.01) == []


def test_it_closes_exactly_so_many_bars_after_the_entry() -> None:
    closes = [100.0, 102.0, 102.0, 102.0, 102.0]
    assert actions(*closes[:4], lookback_bars=1, threshold=0.01, exit_after_bars=3) == ["buy"]
    assert actions(*closes, lookback_bars=1, threshold=0.01, exit_after_bars=3) == ["buy", "close"]


def test_the_count_of_bars_held_starts_anew_with_each_entry() -> None:
    closes = [100.0, 102.0, 102.0, 102.0, 104.0, 104.0, 104.0]
    assert actions(*closes[:6], lookback_bars=1, threshold=0.01, exit_after_bars=2) == ["buy", "close", "buy"]
    assert actions(*closes, lookback_bars=1, threshold=0.01, exit_after_bars=2) == ["buy", "close", "buy", "close"]


def test_the_reason_tells_the_move_and_the_strength_is_at_most_one() -> None:
    (proposal,) = run(MomentumRider, bars(100.0, 150.0), lookback_bars=1, threshold=0.01)
    assert proposal.reasons == ("close moved +50.0000% in 1 bars, threshold 1.0000%",)
    assert proposal.strength == 1.0
    (proposal,) = run(MomentumRider, bars(100.0, 98.5), lookback_bars=1, threshold=0.01)
    assert proposal.strength == pytest.approx(0.5)


@pytest.mark.parametrize("missing", [nan, 0.0, -1.0])
def test_a_price_that_allows_no_return_is_passed_by_but_counts_as_time_held(missing: float) -> None:
    assert actions(100.0, missing, 100.0, lookback_bars=1, threshold=0.01) == []
    held = actions(100.0, 102.0, missing, missing, lookback_bars=1, threshold=0.01, exit_after_bars=2)
    assert held == ["buy", "close"]
