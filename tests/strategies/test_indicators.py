"""Rolling measures agree with the same measure taken of the whole window."""

import pickle
from fractions import Fraction
from math import isnan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.strategies.indicators import RollingMax, RollingMin, RollingMoments, strength

FINITE = st.floats(-1e6, 1e6)
SMALL = st.lists(st.sampled_from([0.0, 0.25, 1.0, -1.0, 7.5, 1e9]) | FINITE, max_size=60)


@given(SMALL, st.integers(1, 12))
def test_rolling_extremes_are_those_of_the_window(values: list[float], window: int) -> None:
    highest, lowest = RollingMax(window), RollingMin(window)
    assert isnan(highest.value) and isnan(lowest.value)
    for count, value in enumerate(values, 1):
        highest.add(value)
        lowest.add(value)
        held = values[max(0, count - window) : count]
        assert highest.value == max(held)
        assert lowest.value == min(held)
        assert highest.full == lowest.full == (count >= window)


@given(SMALL, st.integers(2, 12))
def test_rolling_moments_are_those_of_the_window(values: list[float], window: int) -> None:
    moments = RollingMoments(window)
    for count, value in enumerate(values, 1):
        moments.add(value)
        assert moments.full == (count >= window)
        if not moments.full:
            continue
        held = [Fraction(number) for number in values[count - window : count]]
        mean = sum(held) / window
        deviation = sqrt(sum((number - mean) ** 2 for number in held) / window)
        scale = max(abs(float(number)) for number in held)
        assert moments.mean == pytest.approx(float(mean), rel=1e-9, abs=1e-9 * max(1.0, scale))
        assert moments.deviation == pytest.approx(deviation, rel=1e-6, abs=1e-6 * max(1.0, scale))
        assert (moments.deviation == 0.0) or len(set(held)) > 1


def test_a_deviation_survives_an_outlier_that_came_and_went() -> None:
    moments = RollingMoments(4)
    for number in range(1_000):
        moments.add(1e12 if number == 500 else 100.0 + number % 2)
        if number >= 504:
            assert moments.deviation == pytest.approx(0.5, rel=1e-9), number
    assert moments.mean == 100.5


@pytest.mark.parametrize(
    "before", [[0.3, 1e7], [1e6 + 2**-32, 1e6, 1e6 + 3 * 2**-33, 1e6, 1e6 + 2**-33, 1e6 + 3 * 2**-33]]
)
def test_an_equal_window_has_a_deviation_of_exactly_zero(before: list[float]) -> None:
    moments = RollingMoments(4)
    for value in (*before, 1e6, 1e6, 1e6, 1e6):
        moments.add(value)
    assert (moments.mean, moments.deviation) == (1e6, 0.0)


@given(st.lists(FINITE, min_size=1, max_size=40), st.integers(0, 39))
def test_restored_moments_go_on_bit_for_bit(values: list[float], cut: int) -> None:
    uncut, moments = RollingMoments(5), RollingMoments(5)
    for number, value in enumerate(values):
        if number == cut:
            moments = pickle.loads(pickle.dumps(moments))
        uncut.add(value)
        moments.add(value)
        assert vars(moments) == vars(uncut)


@given(st.floats(1e-12, 1e12), st.floats(0.0, 1e12))
def test_strength_lies_above_0_up_to_1(distance: float, full: float) -> None:
    assert 0.0 < strength(distance, full) <= 1.0
    assert strength(distance, 0.0) == 1.0
