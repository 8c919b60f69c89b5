"""A generated market, the same as the one that other engines were measured with: seeded bars and trades.

Prices are multiples of 0.25, so that sums of them are exact and every engine must find the same orders.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter

SYMBOL = "BENCH"
_SEED = 20240117
_TICK = 0.25
_FIRST_PRICE = 4000.0
_START_NS = 1_577_836_800_000_000_000  # 2020-01-01
_MINUTE_NS = 60_000_000_000

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


def write_bars(folder: Path, rows: int) -> Floats:
    """One-minute bars of a geometric random walk, 0.05 % a minute; returns the closes."""
    rng = np.random.default_rng(_SEED)
    sigma = 0.0005
    close = _on_tick(_FIRST_PRICE * np.exp(np.cumsum(rng.standard_normal(rows) * sigma - sigma * sigma / 2)))
    open_ = np.concatenate([[_FIRST_PRICE], close[:-1]])
    above, below = (np.abs(rng.standard_normal(rows)) * sigma * close * 0.5 for _ in range(2))
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    high, low = np.maximum(_on_tick(top + above), top), np.minimum(_on_tick(bottom - below), bottom)
    volume = rng.integers(100, 10_000, rows).astype(np.float64)
    ts = _START_NS + np.arange(1, rows + 1, dtype=np.int64) * _MINUTE_NS
    _write(folder, "bars_1m", ts, (open_, high, low, close, volume))
    return close


def write_trades(folder: Path, rows: int, symbol: str = SYMBOL) -> Floats:
    """Trades 1 to 100 ms apart, each a tick up, a tick down or neither; returns the prices."""
    rng = np.random.default_rng(_SEED + 1)
    steps = rng.choice(np.array([-_TICK, 0.0, _TICK]), size=rows, p=[0.25, 0.5, 0.25])
    price = np.maximum(_FIRST_PRICE + np.cumsum(steps), _TICK)
    size = rng.integers(1, 100, rows).astype(np.float64)
    ts = _START_NS + np.cumsum(rng.integers(1_000_000, 100_000_000, rows))
    side = np.where(rng.integers(0, 2, rows) == 1, 1.0, -1.0)
    _write(folder, "trades", ts, (price, size, side), symbol)
    return price


def _on_tick(prices: Floats) -> Floats:
    rounded: Floats = np.maximum(np.round(prices / _TICK), 1.0) * _TICK
    return rounded


def _write(folder: Path, kind: str, ts: Times, values: Sequence[Floats], symbol: str = SYMBOL) -> None:
    with SeriesWriter(series_of(folder, kind, symbol)) as writer:
        writer.append(ts, values)
        writer.commit()
