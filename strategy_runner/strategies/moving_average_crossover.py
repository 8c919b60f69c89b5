"""Moving average crossover: be long while the fast mean of closes stands above the slow one, else be flat.

Flat and fast above slow: buy. Long and fast below slow: close; equal means change nothing.
The idea: Brock, Lakonishok, LeBaron, "Simple Technical Trading Rules", Journal of Finance 47 (1992).
"""

from math import fsum, nan
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from strategy_runner.model.event import Bar
from strategy_runner.strategies.indicators import NOISE, strength
from strategy_runner.strategies.interface import Bars, Candidates, Inputs, Params, Strategy

FULL_STRENGTH = 0.01  # means this fraction of the price apart are a signal of strength 1


class MovingAverageCrossoverParams(Params, frozen=True):
    fast: Annotated[int, Meta(ge=1, le=10_000)] = 20
    slow: Annotated[int, Meta(ge=2, le=10_000)] = 50

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast: expected less than slow ({self.slow}), found {self.fast}")


class MovingAverageCrossover(Strategy):
    Params = MovingAverageCrossoverParams
    inputs = Inputs(bars=True)
    params: MovingAverageCrossoverParams

    def on_start(self) -> None:
        self._fast, self._slow = self.params.fast, self.params.slow
        self._fast_bars, self._slow_bars = (
            float(self._fast),
            float(self._slow),
        )  # float times float is Python's fast path
        self._closes = [0.0] * self._slow  # a ring; `_at` is the oldest close and the place of the next one
        self._at = 0
        self._gap = (
            nan  # (fast mean - slow mean) * fast * slow; NaN, that no comparison holds for, until the ring is full
        )

    def on_bar(self, bar: Bar) -> None:
        # The path of every bar, kept under half a microsecond: one list, one index, one rolling number.
        close = bar.close
        if close - close != 0.0:  # NaN or infinite: a missing price must not enter the means
            return
        closes, at = self._closes, self._at
        gap = self._gap + self._slow_bars * (close - closes[at - self._fast]) - self._fast_bars * (close - closes[at])
        closes[at] = close
        at += 1
        if at == self._slow:
            at, gap = 0, self._gap_afresh()
        self._at = at
        self._gap = gap
        if gap > 0.0:
            if self.position == 0.0:
                self._speak()
        elif gap < 0.0 and self.position > 0.0:
            self._speak()

    def _gap_afresh(self) -> float:
        """The gap from the closes themselves, once every `slow` bars: rounding cannot add up."""
        return self._slow * fsum(self._closes[-self._fast :]) - self._fast * fsum(self._closes)

    def on_bars(self, bars: Bars) -> Candidates:
        """Every gap is made by the same additions in the same order as in `on_bar`, so that not one bit of it differs."""
        finite = np.isfinite(bars.close)
        known = None if finite.all() else np.flatnonzero(finite)  # a missing price must not enter the means
        closes = bars.close if known is None else bars.close[known]
        seen = np.concatenate((self._closes[self._at :], self._closes[: self._at], closes))
        gaps = self._gaps(seen)
        self._keep(seen, gaps)
        rises, falls = gaps > 0.0, gaps < 0.0
        if known is not None:
            rises, falls = _spread(rises, known, len(finite)), _spread(falls, known, len(finite))

        def speak(at: int) -> None:
            newest = (at if known is None else int(known.searchsorted(at))) + 1
            window = seen[newest : newest + self._slow].tolist()
            self._compare(window[-self._fast :], window)

        return Candidates(speak, flat=rises, long=falls)

    def _gaps(self, seen: "npt.NDArray[np.float64]") -> "npt.NDArray[np.float64]":
        """The gap behind each of the closes in `seen`, which begins with the `slow` closes before them."""
        fast, slow, begun, count = self._fast, self._slow, self._at, len(seen) - self._slow
        rounds = -(-(begun + count) // slow)  # of the ring, each of which begins with a gap afresh
        steps = np.zeros((rounds, 2 * slow + 1))
        closes = seen[slow:]
        with np.errstate(over="ignore", invalid="ignore"):
            for column, bars, before in (
                (1, self._slow_bars, seen[slow - fast : -fast]),
                (2, -self._fast_bars, seen[:-slow]),
            ):
                padded = np.zeros(rounds * slow)
                padded[begun : begun + count] = bars * (closes - before)
                steps[:, column::2] = padded.reshape(rounds, slow)
            afresh = [
                slow * fsum(window[-fast:]) - fast * fsum(window)
                for end in range(slow - begun, count + 1, slow)
                for window in (seen[end : end + slow].tolist(),)
            ]
            steps[0, 0] = self._gap
            steps[1:, 0] = afresh[: rounds - 1]
            gaps = np.add.accumulate(steps, axis=1)[:, 2::2]
        gaps[: len(afresh), -1] = afresh
        return gaps.reshape(-1)[begun : begun + count]

    def _keep(self, seen: "npt.NDArray[np.float64]", gaps: "npt.NDArray[np.float64]") -> None:
        if len(gaps):
            self._at = at = (self._at + len(gaps)) % self._slow
            self._closes = np.roll(seen[-self._slow :], at).tolist()
            self._gap = float(gaps[-1])

    def _speak(self) -> None:
        at, closes = self._at, self._closes
        self._compare(
            closes[at - self._fast : at] if at >= self._fast else closes[at - self._fast :] + closes[:at], closes
        )

    def _compare(self, newest: list[float], closes: list[float]) -> None:
        fast, slow = fsum(newest) / self._fast, fsum(closes) / self._slow
        if abs(fast - slow) <= NOISE * abs(slow):  # equal, but for rounding
            return
        if fast > slow:
            wish = strength(fast - slow, FULL_STRENGTH * abs(slow))
            self.buy(f"fast {fast:.10g} is above slow {slow:.10g}", strength=wish)
        else:
            self.close(f"fast {fast:.10g} is below slow {slow:.10g}")


def _spread(mask: "npt.NDArray[np.bool_]", places: "npt.NDArray[np.intp]", count: int) -> "npt.NDArray[np.bool_]":
    spread = np.zeros(count, dtype=np.bool_)
    spread[places] = mask
    return spread
