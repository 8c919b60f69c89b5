"""historical: bars and trades a second through the whole worker, beside a bare Python loop of the same rule.

The worker is the one that `backtest` runs: it reads Parquet, checks its quality, makes an event of each row, calls the
strategy for each, judges and logs its signals. The bare loop has its columns in memory and counts. Both must find the same
orders.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from benchmarks.bare import Ema, Sma
from benchmarks.common import Figure, Sample, Settings, figure, rate
from benchmarks.homes import CLIENT, bench_home, run_command
from benchmarks.market import SYMBOL, Floats, write_bars, write_trades
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError

NAME = "historical"
_SMA = 'id = "sma"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"\nparams = { fast = 20, slow = 50 }'
_EMA = 'id = "ema"\nstrategy = "ema_trades"\ntimeframe = "1m"'
_AGAINST = "bare Python loop of the same rule"


class _Ran(msgspec.Struct, frozen=True):
    """One run of `backtest`: the worker's own time, and that of the whole command."""

    worker_s: float
    command_s: float
    orders: int


def run(settings: Settings) -> Iterator[Figure]:
    rows = settings.rows
    with bench_home([SYMBOL], [_SMA]) as home:
        closes = write_bars(home.root / "history", rows)
        bare, ran = _alternate(settings, home, lambda: _bare_bars(closes))
        worker = Sample.of(rows / one.worker_s for one in ran)
        yield figure(settings, NAME, "SMA 20/50 through the worker", "bars/s", worker, bare, _AGAINST)
        command, alone = Sample.of(one.command_s for one in ran), Sample.of(one.worker_s for one in ran)
        yield figure(settings, NAME, "whole backtest command", "s", command, alone, "its worker alone")
    with _ema_home() as home:
        prices = write_trades(home.root / "history", rows)
        bare, ran = _alternate(settings, home, lambda: _bare_trades(prices))
        worker = Sample.of(rows / one.worker_s for one in ran)
        yield figure(settings, NAME, "EMA 100 through the worker", "trades/s", worker, bare, _AGAINST)


def worker_bars(settings: Settings) -> Sample:
    """Bars a second of SMA 20/50 through the worker."""
    with bench_home([SYMBOL], [_SMA]) as home:
        write_bars(home.root / "history", settings.rows)
        return Sample.of(settings.rows / _backtest(home).worker_s for _ in range(settings.runs))


def worker_trades(settings: Settings) -> Sample:
    """Trades a second of EMA 100 through the worker."""
    with _ema_home() as home:
        write_trades(home.root / "history", settings.rows)
        return Sample.of(settings.rows / _backtest(home).worker_s for _ in range(settings.runs))


@contextmanager
def _ema_home() -> Iterator[Home]:
    with bench_home([SYMBOL], [_EMA], own=["ema_trades"]) as home:
        yield home


def _alternate(settings: Settings, home: Home, bare: Callable[[], tuple[float, int]]) -> tuple[Sample, list[_Ran]]:
    """Events a second of the bare loop, and runs of the worker, in turn. Raises StrategyRunnerError if orders differ."""
    rates, ran = [], []
    for _ in range(settings.runs):
        bare_rate, orders = bare()
        rates.append(bare_rate)
        ran.append(_backtest(home))
        if ran[-1].orders != orders:
            raise StrategyRunnerError(f"{NAME}: expected {orders} signals as in the bare loop, found {ran[-1].orders}")
    return Sample.of(rates), ran


def _backtest(home: Home) -> _Ran:
    begun = time.perf_counter()
    out = run_command(home, "backtest", CLIENT, "--history", str(home.root / "history"), "-o", "json")
    (result,) = json.loads(out)
    return _Ran(result["seconds"], time.perf_counter() - begun, result["signals"] - result["refusals"])


def _bare_bars(closes: Floats) -> tuple[float, int]:
    strategy, ts, values = Sma(), list(range(len(closes))), closes.tolist()

    def loop() -> None:
        on_bar = strategy.on_bar
        for at, close in zip(ts, values, strict=True):
            on_bar(at, close)

    return rate(len(values), loop), strategy.orders


def _bare_trades(prices: Floats) -> tuple[float, int]:
    strategy, ts, values = Ema(float(prices[0])), list(range(len(prices))), prices.tolist()

    def loop() -> None:
        on_trade = strategy.on_trade
        for at, price in zip(ts, values, strict=True):
            on_trade(at, price, 1.0)

    return rate(len(values), loop), strategy.orders
