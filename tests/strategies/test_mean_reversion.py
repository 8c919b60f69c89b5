"""Mean reversion goes against a price far from its mean, and out when it is back."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.mean_reversion import MeanReversion
from strategy_runner.strategies.testing import bars, run

CALM = [100.0, 101.0, 100.0, 101.0, 100.0, 101.0, 100.0, 101.0]


def actions(*closes: float, **params: float) -> list[str]:
    return [proposal.action for proposal in run(MeanReversion, bars(*closes), **params)]


def test_it_buys_far_below_the_mean_and_closes_back_at_it() -> None:
    assert actions(*CALM, 96.0, window=9, entry_z=2.0) == ["buy"]
    assert actions(*CALM, 96.0, 100.5, window=9, entry_z=2.0) == ["buy", "close"]


def test_it_sells_far_above_the_mean_and_closes_back_at_it() -> None:
    assert actions(*CALM, 105.0, 100.5, window=9, entry_z=2.0) == ["sell", "close"]


def test_a_price_that_shot_past_the_mean_closes_too() -> None:
    assert actions(*CALM, 96.0, 110.0, window=9, entry_z=2.0, exit_z=0.1)[:2] == ["buy", "close"]


def test_it_keeps_quiet_until_the_window_is_full() -> None:
    assert actions(*CALM, 90.0, window=10, entry_z=2.0) == []


@given(st.floats(-1e6, 1e6))
def test_a_flat_window_asks_for_nothing(price: float) -> None:
    assert actions(*[price] * 30, window=5, entry_z=1.0) == []


def test_a_position_is_closed_in_a_market_that_has_gone_flat() -> None:
    assert actions(*CALM, 96.0, *[96.0] * 9, window=9, entry_z=2.0) == ["buy", "close"]


def test_the_reason_holds_the_numbers_it_decided_on() -> None:
    (proposal,) = run(MeanReversion, bars(*CALM, 96.0), window=9, entry_z=2.0)
    assert proposal.reasons == ("z-score -2.683 is beyond 2: close 96, mean 100",)
    assert proposal.strength == pytest.approx(2.683 / 4, abs=1e-3)


def test_a_missing_close_is_left_out_of_the_window() -> None:
    assert actions(*CALM, nan, 96.0, window=9, entry_z=2.0) == ["buy"]


def test_params_that_could_never_trade_or_never_hold_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"params\.exit_z: expected less than entry_z \(2\.0\), found 3\.0"):
        run(MeanReversion, [], exit_z=3.0)
    with pytest.raises(
        ConfigurationError, match=r"params\.entry_z: expected less than 2\.000, the largest z-score 5 bars"
    ):
        run(MeanReversion, [], window=5)
