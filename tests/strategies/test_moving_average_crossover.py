"""The crossover decides on the means of its closes, exactly, whatever way it keeps them."""

from fractions import Fraction
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover
from strategy_runner.strategies.testing import bars, run

QUARTERS = st.integers(-400, 4000).map(lambda quarters: quarters / 4)


def expected_actions(closes: list[float], fast: int, slow: int) -> list[str]:
    """The rule in exact arithmetic, over all closes anew at every bar."""
    actions: list[str] = []
    held = False
    for end in range(slow, len(closes) + 1):
        exact = [Fraction(close) for close in closes[end - slow : end]]
        gap = sum(exact[-fast:]) / fast - sum(exact) / slow
        if gap > 0 and not held:
            actions.append("buy")
            held = True
        elif gap < 0 and held:
            actions.append("close")
            held = False
    return actions


@given(st.lists(QUARTERS, max_size=80), st.integers(1, 6), st.integers(1, 6))
def test_it_buys_and_closes_where_exact_means_say_so(closes: list[float], fast: int, more: int) -> None:
    proposals = run(MovingAverageCrossover, bars(*closes), fast=fast, slow=fast + more)
    assert [proposal.action for proposal in proposals] == expected_actions(closes, fast, fast + more)


@given(st.floats(0.01, 1e6), st.integers(1, 9), st.integers(1, 9))
def test_a_flat_market_asks_for_nothing_whatever_its_price(price: float, fast: int, more: int) -> None:
    assert run(MovingAverageCrossover, bars(*[price] * 60), fast=fast, slow=fast + more) == []


def test_the_first_decision_falls_on_the_bar_that_completes_the_slow_mean() -> None:
    assert run(MovingAverageCrossover, bars(1.0, 2.0, 3.0), fast=2, slow=4) == []
    assert [p.action for p in run(MovingAverageCrossover, bars(1.0, 2.0, 3.0, 4.0), fast=2, slow=4)] == ["buy"]


def test_the_reason_names_both_means_and_the_strength_grows_with_their_distance() -> None:
    (near,) = run(MovingAverageCrossover, bars(100.0, 100.0, 100.0, 101.0), fast=2, slow=4)
    assert near.reasons == ("fast 100.5 is above slow 100.25",)
    assert near.strength == pytest.approx(0.25 / (0.01 * 100.25))
    (far,) = run(MovingAverageCrossover, bars(100.0, 100.0, 100.0, 200.0), fast=2, slow=4)
    assert far.strength == 1.0


@pytest.mark.parametrize("missing", [nan, inf, -inf])
def test_a_missing_close_is_left_out_of_the_means(missing: float) -> None:
    with_gap = run(MovingAverageCrossover, bars(1.0, 2.0, missing, 3.0, 4.0, 1.0, 0.5), fast=2, slow=4)
    assert with_gap == run(MovingAverageCrossover, bars(1.0, 2.0, 3.0, 4.0, 1.0, 0.5), fast=2, slow=4)
    assert [proposal.action for proposal in with_gap] == ["buy", "close"]


@pytest.mark.parametrize("outlier", [1e17 / 3, -1e17 / 3])
@pytest.mark.parametrize("before", range(7))
def test_an_outlier_is_forgotten_two_windows_after_it(outlier: float, before: int) -> None:
    later = [0.1, 0.3, 0.2, 0.7, 0.5, 0.1, 0.1, 0.4, 0.6, 0.2, 0.3, 0.1, 0.7, 0.5]
    closes = [0.1] * before + [outlier, *later, *[0.1] * 7]
    for rise in (0.1, 0.2):
        proposals = run(MovingAverageCrossover, bars(*closes, rise), fast=3, slow=7)
        assert (proposals[-1:] == [] or proposals[-1].action == "close") == (rise == 0.1)


def test_fast_must_be_less_than_slow() -> None:
    with pytest.raises(ConfigurationError, match=r"params\.fast: expected less than slow \(50\), found 50"):
        run(MovingAverageCrossover, [], fast=50)
