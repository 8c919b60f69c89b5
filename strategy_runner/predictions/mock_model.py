"""The mock model: a prediction for every bar, a pure function of the bars and a seed.

Score is the squashed drift of the last closes in units of their mean absolute change, with a little noise that depends on
seed, model, symbol and the bar's time alone. So the feed and historical mode publish the same predictions.
"""

import hashlib
import math
from itertools import pairwise

WINDOW_BARS = 8
_NOISE = 0.35


class MockModel:
    """One model on the bars of one symbol and timeframe. `closes` is all it remembers."""

    __slots__ = ("_key", "closes", "name")

    def __init__(self, seed: int, model: str, symbol: str, timeframe: str) -> None:
        self.name = model
        self._key = f"{seed}/{model}/{symbol}/{timeframe}/".encode()
        self.closes: list[float] = []

    def predict(self, event_ns: int, close: float) -> tuple[float, float]:
        """(score in [-1, 1], confidence in [0, 1]) for the bar that closed at `event_ns`."""
        closes = self.closes
        closes.append(close)
        if len(closes) > WINDOW_BARS:
            closes.pop(0)
        changes = [after - before for before, after in pairwise(closes)]
        size = sum(abs(change) for change in changes)
        drift = sum(changes) / size if size > 0 else 0.0
        draw = hashlib.blake2b(self._key + event_ns.to_bytes(8, "little", signed=True), digest_size=8).digest()
        noise = int.from_bytes(draw[:4], "little") / 2**31 - 1.0
        score = math.tanh(1.5 * drift + _NOISE * noise)
        doubt = int.from_bytes(draw[4:], "little") / 2**32
        return score, min(1.0, max(0.0, 0.5 + 0.5 * abs(score) - 0.1 * doubt))
