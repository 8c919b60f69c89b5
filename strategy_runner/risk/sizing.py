"""Position sizing: how much to buy or sell of a symbol when a signal names no size. Never more than was decided: rounding is
down to the instrument's lot.

One pure function for whoever knows the equity: the router, or a worker that fills its own orders. Worth is in the client's
currency; `rate` is what one unit of the instrument's currency is worth in it.
"""

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal

import msgspec

from strategy_runner.config.schema import SizingConfig
from strategy_runner.model.instrument import Instrument, decimal_of

NOT_FINITE = "sizing_not_finite"
NO_EQUITY = "sizing_without_equity"
NO_STOP = "sizing_without_stop"
NO_VOLATILITY = "sizing_without_volatility"
NO_EDGE = "sizing_without_edge"
BELOW_LOT = "size_below_lot"
TOO_MANY_LOTS = "size_beyond_counting"
REASONS: dict[str, str] = {
    NOT_FINITE: "a price, rate, size, stop, volatility or the equity that the size rests on is NaN, infinite, or not positive",
    NO_EQUITY: "the size rests on equity, and that is not known or not positive",
    NO_STOP: "`fixed_risk` needs a stop loss, away from the entry price",
    NO_VOLATILITY: "`volatility_target` needs a volatility, and there are not enough prices for one yet",
    NO_EDGE: "by `win_rate` and `payoff` the Kelly bet is nothing",
    BELOW_LOT: "the size is less than one lot of the instrument",
    TOO_MANY_LOTS: "the size has more lots than can be counted exactly",
}
_DIGITS_MAX = 25


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What a size is made from. `size` is the strategy's configured one, `price` what the entry is likely to be filled at,
    `volatility` the standard deviation of a year's returns as a fraction of the price; None is not known."""

    size: Decimal
    price: Decimal
    rate: Decimal = Decimal(1)
    equity: Decimal | None = None
    stop: Decimal | None = None
    volatility: Decimal | None = None


class Sized(msgspec.Struct, frozen=True):
    """A quantity, or the name of why there is none."""

    quantity: Decimal | None
    refusal: str | None


def size_of(sizing: SizingConfig, basis: Basis, instrument: Instrument) -> Sized:
    """The quantity of an entry, on the lot grid."""
    for number in (basis.size, basis.price, basis.rate, basis.stop, basis.volatility):
        if number is not None and not (number.is_finite() and number > 0):
            return _none(NOT_FINITE)
    if basis.equity is not None and not basis.equity.is_finite():
        return _none(NOT_FINITE)
    if sizing.kind != "fixed" and (basis.equity is None or basis.equity <= 0):
        return _none(NO_EQUITY)
    exact = _KINDS[sizing.kind](sizing, basis, instrument)
    if isinstance(exact, str):
        return _none(exact)
    if exact.adjusted() - instrument.lot_size.adjusted() > _DIGITS_MAX:
        return _none(TOO_MANY_LOTS)
    quantity = (exact / instrument.lot_size).quantize(Decimal(1), rounding=ROUND_DOWN) * instrument.lot_size
    return _none(BELOW_LOT) if quantity <= 0 else Sized(quantity, None)


def _fixed(_sizing: SizingConfig, basis: Basis, _instrument: Instrument) -> Decimal | str:
    """The configured size."""
    return basis.size


def _equity_fraction(sizing: SizingConfig, basis: Basis, instrument: Instrument) -> Decimal | str:
    """Fixed fractional position: worth = fraction x equity (R. Vince, Portfolio Management Formulas, 1990, chapter 1)."""
    return _given(sizing.fraction) * _affordable(basis, instrument)


def _volatility_target(sizing: SizingConfig, basis: Basis, instrument: Instrument) -> Decimal | str:
    """Worth = equity x target / volatility, both yearly (A. Moreira and T. Muir, Volatility-Managed Portfolios, Journal of
    Finance 72(4), 2017), at most `max_fraction` of equity."""
    if basis.volatility is None:
        return NO_VOLATILITY
    fraction = min(_given(sizing.target_volatility) / basis.volatility, _given(sizing.max_fraction))
    return fraction * _affordable(basis, instrument)


def _fixed_risk(sizing: SizingConfig, basis: Basis, instrument: Instrument) -> Decimal | str:
    """Quantity = fraction x equity / loss of one unit at the stop (V. Tharp, Trade Your Way to Financial Freedom, 1998, chapter
    12, percent risk model), at most `max_fraction` of equity in worth: a stop close by must not buy without end."""
    if basis.stop is None or basis.stop == basis.price:
        return NO_STOP
    assert basis.equity is not None
    loss = abs(basis.price - basis.stop) * instrument.multiplier * basis.rate
    return min(
        _given(sizing.fraction) * basis.equity / loss,
        _given(sizing.max_fraction) * _affordable(basis, instrument),
    )


def _kelly(sizing: SizingConfig, basis: Basis, instrument: Instrument) -> Decimal | str:
    """f* = p - (1 - p) / b with p the win rate and b the payoff (J. L. Kelly, A New Interpretation of Information Rate, 1956;
    E. O. Thorp, The Kelly Criterion, 2006), times `fraction`, at most `max_fraction`."""
    wins = _given(sizing.win_rate)
    best = wins - (1 - wins) / _given(sizing.payoff)
    if best <= 0:
        return NO_EDGE
    return min(_given(sizing.fraction) * best, _given(sizing.max_fraction)) * _affordable(basis, instrument)


def _affordable(basis: Basis, instrument: Instrument) -> Decimal:
    """What the whole equity would buy."""
    assert basis.equity is not None, "asked before"
    return basis.equity / (basis.price * instrument.multiplier * basis.rate)


def _given(parameter: float | None) -> Decimal:
    assert parameter is not None, "config/risk_rules.py asks for what a kind needs"
    return decimal_of(parameter)


def _none(reason: str) -> Sized:
    return Sized(None, reason)


_KINDS: dict[str, Callable[[SizingConfig, Basis, Instrument], Decimal | str]] = {
    "fixed": _fixed,
    "equity_fraction": _equity_fraction,
    "volatility_target": _volatility_target,
    "fixed_risk": _fixed_risk,
    "kelly": _kelly,
}
