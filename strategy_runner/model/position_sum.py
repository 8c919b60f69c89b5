"""A position as the sum of what signals asked for: floats, so a sum carries the error of its additions.

Three buys and three closes of 0.1 leave 3e-17. Nobody holds that, and nobody may be made to trade it.
"""

SUM_ERROR = 1e-12  # of the last change: above what a thousand steps up and down leave, and below what anybody trades


def moved(position: float, change: float) -> float:
    """The signed size after one more change; 0 if only the error of the sum is left."""
    after = position + change
    return 0.0 if abs(after) <= abs(change) * SUM_ERROR else after


def is_within(size: float, position: float) -> bool:
    """Whether a size is no more than a position, but for the error of its sum. One that is NaN holds nothing."""
    return size <= abs(position) * (1.0 + SUM_ERROR)
