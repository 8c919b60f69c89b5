"""Position sizing: the formulas by numbers that can be checked by hand, and what they refuse."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from risk_desk import BTC, FUTURE

from strategy_runner.config.schema import SizingConfig
from strategy_runner.model.instrument import Instrument
from strategy_runner.risk.sizing import REASONS, Basis, size_of

EQUITY_FRACTION = SizingConfig(kind="equity_fraction", fraction=0.1)
VOLATILITY = SizingConfig(kind="volatility_target", target_volatility=0.2, max_fraction=1.0)
FIXED_RISK = SizingConfig(kind="fixed_risk", fraction=0.01, max_fraction=2.0)
KELLY = SizingConfig(kind="kelly", fraction=0.5, max_fraction=0.25, win_rate=0.6, payoff=1.5)
KINDS = (SizingConfig(), EQUITY_FRACTION, VOLATILITY, FIXED_RISK, KELLY)


def sized(sizing: SizingConfig, instrument: Instrument = BTC, **given: Any) -> str:
    exact = {name: None if value is None else Decimal(value) for name, value in given.items()}
    basis = Basis(**{"size": Decimal("0.5"), "price": Decimal(100), "equity": Decimal(10_000), **exact})  # type: ignore[arg-type]  # exact numbers
    found = size_of(sizing, basis, instrument)
    return found.refusal or str(found.quantity)


def test_fixed_is_the_strategys_size_on_the_lot_grid_and_needs_no_equity() -> None:
    assert sized(SizingConfig(), equity=None) == "0.500"
    assert sized(SizingConfig(), size="1.2349") == "1.234"


def test_a_fraction_of_equity_counts_price_multiplier_and_currency() -> None:
    assert sized(EQUITY_FRACTION) == "10.000"
    assert sized(EQUITY_FRACTION, FUTURE, equity="1000000", rate="1.25") == "32"


def test_a_volatility_target_buys_less_of_what_moves_more_and_never_more_than_its_cap() -> None:
    assert sized(VOLATILITY, volatility="0.8") == "25.000"
    assert sized(VOLATILITY, volatility="0.4") == "50.000"
    assert sized(VOLATILITY, volatility="0.01") == "100.000"
    assert sized(VOLATILITY) == "sizing_without_volatility"


def test_fixed_risk_loses_its_fraction_at_the_stop_whichever_side_that_is() -> None:
    assert sized(FIXED_RISK, stop="98") == "50.000"
    assert sized(FIXED_RISK, stop="102") == "50.000"
    assert sized(FIXED_RISK, stop="99.999") == "200.000"
    assert sized(FIXED_RISK) == "sizing_without_stop"
    assert sized(FIXED_RISK, stop="100") == "sizing_without_stop"


def test_kelly_takes_part_of_the_best_bet_and_never_more_than_its_cap() -> None:
    """f* = 0.6 - 0.4 / 1.5 = 1/3, of which a half."""
    assert sized(KELLY) == "16.666"
    assert sized(SizingConfig(kind="kelly", fraction=1.0, max_fraction=0.25, win_rate=0.6, payoff=1.5)) == "25.000"
    losing = SizingConfig(kind="kelly", fraction=0.5, max_fraction=0.25, win_rate=0.4, payoff=1.5)
    assert sized(losing) == "sizing_without_edge"


@pytest.mark.parametrize("sizing", KINDS[1:], ids=lambda sizing: sizing.kind)
@pytest.mark.parametrize("equity", [None, "0", "-5"])
def test_without_equity_nothing_is_sized_by_it(sizing: SizingConfig, equity: str | None) -> None:
    assert sized(sizing, equity=equity, stop="90", volatility="0.5") == "sizing_without_equity"


def test_less_than_a_lot_is_refused_and_not_rounded_up() -> None:
    assert sized(SizingConfig(), size="0.0009") == "size_below_lot"
    assert sized(EQUITY_FRACTION, FUTURE, equity="24999") == "size_below_lot"


def test_more_lots_than_can_be_counted_are_refused() -> None:
    assert sized(SizingConfig(), size="1e300") == "size_beyond_counting"
    assert sized(EQUITY_FRACTION, price="1e-300") == "size_beyond_counting"


NUMBERS = st.one_of(
    st.decimals(min_value="0.0001", max_value="1000000", places=4),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from([Decimal(0), Decimal("-1"), Decimal("sNaN"), Decimal("1e-400"), Decimal("1e400")]),
)


@given(st.sampled_from(KINDS), NUMBERS, NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
def test_whatever_it_is_given_a_size_is_on_the_grid_and_within_its_rule_or_refused_by_name(
    sizing: SizingConfig,
    size: Decimal,
    price: Decimal,
    rate: Decimal,
    equity: Decimal | None,
    stop: Decimal | None,
    volatility: Decimal | None,
) -> None:
    basis = Basis(size=size, price=price, rate=rate, equity=equity, stop=stop, volatility=volatility)
    found = size_of(sizing, basis, BTC)
    if found.quantity is None:
        assert found.refusal in REASONS
        return
    assert found.refusal is None
    assert found.quantity > 0
    assert found.quantity % BTC.lot_size == 0
    slack = Decimal("1.00000000000000000001")  # what 28 digits leave open
    worth = found.quantity * price * rate
    match sizing.kind:
        case "fixed":
            assert found.quantity <= size
        case "equity_fraction":
            assert equity is not None
            assert worth <= Decimal("0.1") * equity * slack
        case "fixed_risk":
            assert equity is not None
            assert stop is not None
            assert found.quantity * abs(price - stop) * rate <= Decimal("0.01") * equity * slack
        case _:
            assert equity is not None
            assert worth <= equity * slack
