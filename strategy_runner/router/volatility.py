"""Volatility as sizing needs it: of a year's returns, measured over the last bars. Pure.

Realised variance (T. Andersen et al., Modeling and Forecasting Realized Volatility, Econometrica 71(2), 2003): the sum of
squared log returns, over the time that they took, so that nights and weekends count as they do in the bars.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite, log, sqrt

BARS = 100
BARS_MIN = 20
_YEAR_NS = 365.25 * 86_400e9


def yearly_volatility(closes: Sequence[tuple[int, float]]) -> float | None:
    """A fraction of the price; None for too few bars, for one that is no price, and where no price moved."""
    if len(closes) < BARS_MIN or not all(isfinite(price) and price > 0 for _, price in closes):
        return None
    elapsed_ns = closes[-1][0] - closes[0][0]
    variance = sum(log(after / before) ** 2 for (_, before), (_, after) in pairwise(closes))
    return sqrt(variance * _YEAR_NS / elapsed_ns) if elapsed_ns > 0 and variance > 0 else None
