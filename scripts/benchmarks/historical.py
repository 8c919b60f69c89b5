"""historical: bars and trades a second through the whole worker, beside a bare Python loop of the same rule.

The worker is the one that `backtest` runs: it reads Parquet, checks its quality, makes an event of each row, calls the
strategy for each, judges and logs its signals, makes an order of each, lets it meet the next record, and keeps the account.
The bare loop has its columns in memory and counts. Both must find the same orders.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec
import numpy as np

from benchmarks.bare import Ema, Sma
from benchmarks.common import Figure, Sample, Settings, figure, rate, talk
from benchmarks.homes import CLIENT, bench_home, run_command
from benchmarks.market import SYMBOL, Floats, write_bars, write_trades
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.history.reader import CHUNK_ROWS
from strategy_runner.strategies.interface import Bars
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover

NAME = "historical"
_SMA = 'id = "sma"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"\nparams = { fast = 20, slow = 50 }'
_PROTECTED = f"{_SMA}\nstop_loss_fraction = 0.02\ntake_profit_fraction = 0.05"
_EMA = 'id = "ema"\nstrategy = "ema_trades"\ntimeframe = "1m"'
_AGAINST = "bare Python loop of the same rule"


class _Ran(msgspec.Struct, frozen=True):
    """One run of `backtest`: the worker's own time, and that of the whole command."""

    worker_s: float
    command_s: float
    orders: int


def run(settings: Settings) -> Iterator[Figure]:
    rows = settings.rows
    with _home(_SMA) as home:
        closes = write_bars(home.root / "history", rows)
        bare, ran = _alternate(settings, home, lambda: _bare_bars(closes))
        yield figure(settings, NAME, "SMA 20/50 with paper fills", "bars/s", _rates(rows, ran), bare, _AGAINST)
        free = _rates(rows, ran)
        command, alone = Sample.of(one.command_s for one in ran), Sample.of(one.worker_s for one in ran)
        yield figure(settings, NAME, "whole backtest command", "s", command, alone, "its worker alone")
        bare, ran = _alternate(settings, home, lambda: _bare_bars(closes), "--vectorised")
        yield figure(
            settings, NAME, "SMA 20/50 with paper fills, bars at once", "bars/s", _rates(rows, ran), bare, _AGAINST
        )
        alone = Sample.of(_rule_alone(closes) for _ in range(settings.runs))
        yield figure(settings, NAME, "SMA 20/50, on_bars alone", "bars/s", alone, bare, _AGAINST)
    with _home(_PROTECTED) as home:
        write_bars(home.root / "history", rows)
        protected = _rates(rows, [_backtest(home) for _ in range(settings.runs)])
        name = "SMA 20/50 with paper fills, stop loss and take profit"
        yield figure(settings, NAME, name, "bars/s", protected, free, "the same without stop loss and take profit")
    yield from _compiled(settings, closes)
    with bench_home([SYMBOL], [_SMA]) as home:
        write_bars(home.root / "history", rows)
        bare, ran = _alternate(settings, home, lambda: _bare_bars(closes))
        yield figure(settings, NAME, "SMA 20/50 without orders", "bars/s", _rates(rows, ran), bare, _AGAINST)
        bare, ran = _alternate(settings, home, lambda: _bare_bars(closes), "--vectorised")
        yield figure(
            settings, NAME, "SMA 20/50 without orders, bars at once", "bars/s", _rates(rows, ran), bare, _AGAINST
        )
    with _home(_EMA, own=["ema_trades"]) as home:
        prices = write_trades(home.root / "history", rows)
        bare, ran = _alternate(settings, home, lambda: _bare_trades(prices))
        yield figure(settings, NAME, "EMA 100 with paper fills", "trades/s", _rates(rows, ran), bare, _AGAINST)


def worker_bars(settings: Settings, *words: str) -> Sample:
    """Bars a second of SMA 20/50 through the worker, with paper fills."""
    with _home(_SMA) as home:
        write_bars(home.root / "history", settings.rows)
        return _rates(settings.rows, [_backtest(home, *words) for _ in range(settings.runs)])


def worker_trades(settings: Settings) -> Sample:
    """Trades a second of EMA 100 through the worker, with paper fills."""
    with _home(_EMA, own=["ema_trades"]) as home:
        write_trades(home.root / "history", settings.rows)
        return _rates(settings.rows, [_backtest(home) for _ in range(settings.runs)])


def rule_alone(settings: Settings) -> Sample:
    """Bars a second of the strategy's `on_bars` and nothing else, columns in memory."""
    with _home(_SMA) as home:
        closes = write_bars(home.root / "history", settings.rows)
    return Sample.of(_rule_alone(closes) for _ in range(settings.runs))


def _home(strategy: str, own: Sequence[str] = ()) -> AbstractContextManager[Home]:
    return bench_home([SYMBOL], [strategy], own=own, routes=["oms"])


def _rates(rows: int, ran: "list[_Ran]") -> Sample:
    return Sample.of(rows / one.worker_s for one in ran)


def _alternate(
    settings: Settings, home: Home, bare: Callable[[], tuple[float, int]], *words: str
) -> tuple[Sample, list[_Ran]]:
    """Events a second of the bare loop, and runs of the worker, in turn. Raises StrategyRunnerError if orders differ."""
    rates, ran = [], []
    for _ in range(settings.runs):
        bare_rate, orders = bare()
        rates.append(bare_rate)
        ran.append(_backtest(home, *words))
        if ran[-1].orders != orders:
            raise StrategyRunnerError(f"{NAME}: expected {orders} signals as in the bare loop, found {ran[-1].orders}")
    return Sample.of(rates), ran


def _backtest(home: Home, *words: str) -> _Ran:
    begun = time.perf_counter()
    out = run_command(home, "backtest", CLIENT, "--history", str(home.root / "history"), "-o", "json", *words)
    (result,) = json.loads(out)
    return _Ran(result["seconds"], time.perf_counter() - begun, result["signals"] - result["refusals"])


def _bare_bars(closes: Floats) -> tuple[float, int]:
    strategy, ts, values = Sma(), list(range(len(closes))), closes.tolist()

    def loop() -> None:
        on_bar = strategy.on_bar
        for at, close in zip(ts, values, strict=True):
            on_bar(at, close)

    return rate(len(values), loop), strategy.orders


def _rule_alone(closes: Floats) -> float:
    strategy = MovingAverageCrossover(MovingAverageCrossover.Params(), symbol=SYMBOL, timeframe="1m")
    strategy.on_start()
    bars = Bars(np.arange(len(closes)), closes, closes, closes, closes, closes)

    def run() -> None:
        for begin in range(0, len(closes), CHUNK_ROWS):
            strategy.on_bars(bars.part(begin, begin + CHUNK_ROWS))

    return rate(len(closes), run)


def _compiled(settings: Settings, closes: Floats) -> Iterator[Figure]:
    """A rule that numpy cannot make at once."""
    try:
        from benchmarks.compiled_ema import CompiledEma, follow
    except ImportError:
        talk(f"  {NAME}: no numba here; the extra [numba] brings it")
        return
    strategy = CompiledEma(CompiledEma.Params(), symbol=SYMBOL, timeframe="1m")
    strategy.on_start()
    bars = Bars(np.arange(len(closes)), closes, closes, closes, closes, closes)
    strategy.on_bars(bars.part(0, 1))  # compiles
    values, above, below = closes.tolist(), [False] * len(closes), [False] * len(closes)

    def at_once() -> None:
        for begin in range(0, len(closes), CHUNK_ROWS):
            strategy.on_bars(bars.part(begin, begin + CHUNK_ROWS))

    ours, theirs = [], []
    for _ in range(settings.runs):
        ours.append(rate(len(closes), at_once))
        theirs.append(rate(len(closes), lambda: follow.py_func(values, float("nan"), above, below)))
    against = "the same function, not compiled"
    yield figure(
        settings, NAME, "EMA 100 compiled, on_bars alone", "bars/s", Sample.of(ours), Sample.of(theirs), against
    )


def _bare_trades(prices: Floats) -> tuple[float, int]:
    strategy, ts, values = Ema(float(prices[0])), list(range(len(prices))), prices.tolist()

    def loop() -> None:
        on_trade = strategy.on_trade
        for at, price in zip(ts, values, strict=True):
            on_trade(at, price, 1.0)

    return rate(len(values), loop), strategy.orders
