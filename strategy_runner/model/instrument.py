"""An instrument: what is traded, in which steps of price and quantity, and in which currency.

Prices and sizes on the tape are float64; where they become orders they are rounded to tick and lot, and count exactly
(Decimal) from there on.
"""

from collections.abc import Callable
from decimal import Context, Decimal
from functools import lru_cache
from typing import Literal

import msgspec

AssetClass = Literal["crypto", "fx", "equity", "etf", "commodity", "index", "future", "option"]
_EXACT = Context(prec=700)  # the largest float64 is a number of 633 digits in steps of the smallest


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """`tick_size` and `lot_size` are the steps of price and quantity, `multiplier` what one unit of quantity is worth per
    unit of price, `currency` what prices are quoted and profits paid in, `margin_fraction` the share of the notional that
    a position binds (1: fully paid), `calendar` the asset class whose trading hours hold where they are not its own."""

    symbol: str
    asset_class: AssetClass
    currency: str
    tick_size: Decimal
    lot_size: Decimal
    multiplier: Decimal = Decimal(1)
    margin_fraction: Decimal = Decimal(1)
    calendar: AssetClass | None = None

    @property
    def hours(self) -> AssetClass:
        """The asset class whose trading hours hold, for model/session.py."""
        return self.calendar or self.asset_class

    def rounded_price(self, price: float | Decimal) -> Decimal:
        """The nearest price on the tick grid, half to even."""
        return _on_grid(price, self.tick_size, _EXACT.remainder_near)

    def rounded_quantity(self, quantity: float | Decimal) -> Decimal:
        """The largest quantity on the lot grid that is not above it: an order never asks for more than was decided."""
        return _on_grid(quantity, self.lot_size, _EXACT.remainder)


def decimal_of(number: float | Decimal) -> Decimal:
    """The number as it is written, not as its bits are: 0.1 is 0.1. Raises ValueError for NaN and infinity."""
    exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
    if not exact.is_finite():
        raise ValueError(f"expected a finite number, found {number}")
    return exact


@lru_cache(maxsize=4_096, typed=True)  # sizes are the same again and again
def _on_grid(number: float | Decimal, step: Decimal, beyond: Callable[[Decimal, Decimal], Decimal]) -> Decimal:
    """The number without what `beyond` finds it to lie beyond the grid. Exact for any finite number, however absurd."""
    exact = decimal_of(number)
    on_grid = _EXACT.subtract(exact, beyond(exact, step))
    return _EXACT.add(on_grid.normalize(_EXACT), Decimal(0))
