"""The grid of an instrument: prices and quantities come to lie on it exactly, however large or small they and its steps are."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.model.instrument import Instrument

D = Decimal
SMALLEST, LARGEST = 5e-324, 1.7976931348623157e308
anything = st.floats(min_value=SMALLEST, max_value=LARGEST) | st.floats(min_value=1e-9, max_value=1e9)


def instrument(step: float) -> Instrument:
    return Instrument(symbol="X", asset_class="crypto", currency="USD", tick_size=D(repr(step)), lot_size=D(repr(step)))


@pytest.mark.parametrize(
    ("number", "step", "price", "quantity"),
    [
        (100.126, 0.01, "100.13", "100.12"),
        (100.125, 0.01, "100.12", "100.12"),
        (100.135, 0.01, "100.14", "100.13"),
        (-100.125, 0.01, "-100.12", "-100.12"),
        (1234.0, 25.0, "1225", "1225"),
        (0.3, 0.1, "0.3", "0.3"),
        (1e-300, 0.01, "0", "0"),
        (1e30, 0.01, "1" + 30 * "0", "1" + 30 * "0"),
        (1e30, 9.0, 30 * "9", 30 * "9"),
        (1e-300, 1e-300, "1E-300", "1E-300"),
    ],
)
def test_a_price_is_rounded_half_to_even_and_a_quantity_down(
    number: float, step: float, price: str, quantity: str
) -> None:
    one = instrument(step)
    assert one.rounded_price(number) == D(price)
    assert one.rounded_quantity(number) == D(quantity)


@given(anything, anything)
def test_any_finite_number_comes_to_lie_on_any_grid(number: float, step: float) -> None:
    one, exact, size = instrument(step), Fraction(D(repr(number))), Fraction(D(repr(step)))
    quantity, price = one.rounded_quantity(number), one.rounded_price(number)
    assert Fraction(quantity) == exact // size * size
    assert Fraction(price) == round(exact / size) * size


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_place_on_a_grid(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        instrument(0.01).rounded_price(number)
