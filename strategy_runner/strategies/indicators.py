"""Rolling measures that strategies share, each O(1) a value, deterministic, and whole in a pickle.

A value must be finite: the caller leaves out what is missing, for one NaN in a rolling sum would stay for ever.
"""

from collections import deque
from math import fsum, sqrt

# Two means closer than this fraction of their size differ by rounding alone, not by price
NOISE = 1e-12
# A sum of squares that fell below this fraction of its peak has lost too many digits to go on with
_DIGITS_LOST = 1e-4


def strength(distance: float, full: float) -> float:
    """Strength of a signal in (0, 1]: a `distance` above 0 measured against the one that counts as `full`."""
    return min(1.0, distance / full) if full > 0.0 else 1.0


class RollingMax:
    """The largest of the last `window` values: a deque of candidates, falling from left to right, each with its number.

    A value that a later one reaches can never be the largest again and leaves at once, so the first candidate is the
    answer and every value enters and leaves once. Source: Lemire, "Streaming Maximum-Minimum Filter" (2006).
    """

    def __init__(self, window: int) -> None:
        assert window >= 1
        self._window = window
        self._seen = 0
        self._candidates: deque[tuple[int, float]] = deque()

    @property
    def full(self) -> bool:
        return self._seen >= self._window

    @property
    def value(self) -> float:
        """The largest value; NaN before the first one."""
        return self._candidates[0][1] if self._candidates else float("nan")

    def add(self, value: float) -> None:
        candidates = self._candidates
        while candidates and candidates[-1][1] <= value:
            candidates.pop()
        candidates.append((self._seen, value))
        if candidates[0][0] <= self._seen - self._window:
            candidates.popleft()
        self._seen += 1


class RollingMin:
    """The smallest of the last `window` values: the largest of their negatives, since negation is exact."""

    def __init__(self, window: int) -> None:
        self._negatives = RollingMax(window)

    @property
    def full(self) -> bool:
        return self._negatives.full

    @property
    def value(self) -> float:
        """The smallest value; NaN before the first one."""
        return -self._negatives.value

    def add(self, value: float) -> None:
        self._negatives.add(-value)


class RollingMoments:
    """Mean and population standard deviation of the last `window` values.

    Method: Welford's update for a sliding window, which never subtracts two large sums: with x entering and y leaving,
    mean' = mean + (x - y) / n and m2' = m2 + (x - y) * (x - mean' + y - mean). What rounding it gathers is thrown away
    by a two-pass computation over the window every `window` values, and at once when m2 falls far below its peak (an
    outlier left, and took the digits with it). A window of equal values is known by counting, so its deviation is
    exactly 0. Source: Welford, Technometrics 4 (1962); Chan, Golub, LeVeque, American Statistician 37 (1983).
    """

    def __init__(self, window: int) -> None:
        assert window >= 2
        self._window = window
        self._values: deque[float] = deque(maxlen=window)
        self._mean = self._m2 = self._peak = 0.0
        self._until_fresh = window
        self._equal = 0

    @property
    def full(self) -> bool:
        return len(self._values) == self._window

    @property
    def mean(self) -> float:
        """Mean of the window. Asks for a full one."""
        assert self.full
        return self._mean

    @property
    def deviation(self) -> float:
        """Population standard deviation of the window, 0.0 only if all its values are equal. Asks for a full one."""
        assert self.full
        return sqrt(self._m2 / self._window)

    def add(self, value: float) -> None:
        values = self._values
        self._equal = self._equal + 1 if values and values[-1] == value else 1
        if self.full:
            self._slide(values[0], value)
        values.append(value)
        self._until_fresh -= 1
        flat = self._equal >= self._window
        if flat or self._until_fresh == 0 or self._m2 < self._peak * _DIGITS_LOST:
            self._compute_afresh()

    def _slide(self, leaving: float, entering: float) -> None:
        before, change = self._mean, entering - leaving
        self._mean += change / self._window
        self._m2 += change * (entering - self._mean + leaving - before)
        self._peak = max(self._peak, self._m2)

    def _compute_afresh(self) -> None:
        """Two passes over the window, or its one value."""
        self._until_fresh = self._window
        values = self._values
        if self._equal >= self._window:
            self._mean, self._m2 = values[0], 0.0
        else:
            self._mean = mean = fsum(values) / len(values)
            self._m2 = fsum((value - mean) ** 2 for value in values)
        self._peak = self._m2
