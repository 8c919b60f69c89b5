"""Recorded history made up for tests: seeded random walks of trades and quotes, in the layout of a history folder."""

from pathlib import Path

import duckdb
import numpy as np

from strategy_runner.model.timeframe import timeframe_ns

START_NS = 1_767_571_200_000_000_000  # 2026-01-05T00:00:00Z
SECOND_NS = 1_000_000_000


def write_market(history: Path, symbol: str, *, seed: int, seconds: int, per_second: int) -> None:
    """Trades and quotes of one symbol, `per_second` of each, at irregular times."""
    luck = np.random.default_rng(seed)
    rows = seconds * per_second
    price = 100.0 * np.exp(np.cumsum(luck.normal(0.0, 2e-4, rows))).round(6)
    trades = {
        "ts": _times(luck, seconds, rows),
        "price": price.round(2),
        "size": luck.integers(1, 50, rows) / 10.0,
        "side": luck.choice(np.array(["buy", "sell", ""]), rows).astype(object),
    }
    quotes = {
        "ts": _times(luck, seconds, rows),
        "bid": (price - 0.01).round(2),
        "ask": (price + 0.01).round(2),
        "bid_size": luck.integers(1, 9, rows) * 1.0,
        "ask_size": luck.integers(1, 9, rows) * 1.0,
    }
    _write(history / "trades" / f"{symbol}.parquet", trades)
    _write(history / "quotes" / f"{symbol}.parquet", quotes)


def write_bars(history: Path, symbol: str, timeframe: str, *, bars: int) -> None:
    """Bars of one symbol and nothing else of it, so that all is made of them."""
    price = 100.0 + np.sin(np.arange(bars) / 7.0).round(2)
    ts = START_NS + np.arange(1, bars + 1) * timeframe_ns(timeframe)
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), price)
    _write(history / f"bars_{timeframe}" / f"{symbol}.parquet", {"ts": ts, **columns})


def _times(luck: np.random.Generator, seconds: int, rows: int) -> np.ndarray:
    return START_NS + np.sort(luck.integers(0, seconds * SECOND_NS, rows))


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as engine:
        engine.register("columns", columns)
        engine.execute(f"COPY (SELECT * FROM columns) TO '{path}' (FORMAT parquet)")
