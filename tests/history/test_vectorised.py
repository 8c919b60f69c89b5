"""Bars taken at once: the same bytes as one by one, or no run at all."""

import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oms.paper_build import X
from worker.build import START_NS, bodies_on_disk, short_folder, strategy, worker_spec

from strategy_runner.config.spec import PaperSpec, ProtectionSpec, ReplaySpec, WorkerSpec
from strategy_runner.errors import DivergenceError, StrategyError
from strategy_runner.history.backtest import Backtest
from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.event import Bar, Fill
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.strategies.interface import Bars, Candidates, Inputs, Strategy
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover
from strategy_runner.tape.status import StatusFile, read_status

FREE, DEAR = FillSettings(), FillSettings(slippage_ticks=1, fees=FeeSettings(taker=Decimal("0.001")))
LATE_AND_IN_PARTS = FillSettings(latency_ns=90_000_000_000, participation=0.004)
MINUTE_NS = 60_000_000_000
COUNT = 6_000


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with short_folder() as path:
        record(path, COUNT)
        yield path


def record(root: Path, count: int, seed: int = 1) -> None:
    """Prices with stretches that stand still, so that means are equal but for rounding; and rows that are not sound."""
    luck, close, rows = random.Random(seed), 100.0, []
    for n in range(count):
        opens = close
        close = opens if n // 150 % 4 == 3 else max(1.0, round(opens + luck.gauss(0, 0.05), 2))
        high, low = max(opens, close) + 0.01, min(opens, close) - 0.01
        rows.append((opens, high, low, float("nan") if n % 997 == 7 else close, luck.choice((50.0, 400.0))))
    ts = np.array([START_NS + n * MINUTE_NS for n in range(count)], dtype=np.int64)
    with SeriesWriter(series_of(root / "history", "bars_1m", "X")) as writer:
        writer.append(ts, [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)])
        writer.commit()


def spec_in(root: Path, name: str, **changes: Any) -> WorkerSpec:
    history = ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0)
    folder = root / name
    return worker_spec(
        root, **{"history": history, "mode": "historical", "folder": str(folder), "streams": ("X/bar.1m",), **changes}
    )


def run(root: Path, name: str, kind: type[Strategy], params: dict[str, Any] | None = None, **changes: Any) -> Backtest:
    spec = spec_in(root, name, **changes)
    one, twin = (strategy(kind, spec, **(params or {})) for _ in range(2))
    status = StatusFile(Path(spec.folder) / "status")
    made = Backtest(spec, one, status=status, twin=None if spec.checked_bars is None else twin)
    made.run(lambda: False)
    return made


def test_a_compiled_on_bars_says_the_same_as_its_on_bar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra [numba] is not installed")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from benchmarks.compiled_ema import CompiledEma

    run(root, "compiled one by one", CompiledEma)
    run(root, "compiled at once", CompiledEma, checked_bars=1_000)
    assert way(root, "compiled at once") == "bars at once, 1000 checked"
    assert len(bodies_on_disk(root / "compiled at once")) > 10
    assert bodies_on_disk(root / "compiled at once") == bodies_on_disk(root / "compiled one by one")


def way(root: Path, name: str) -> str:
    status = read_status(root / name / "status")
    assert status is not None
    return status.reason.partition("; ")[2]


def fills(root: Path, name: str) -> bytes:
    path = root / name / "fills.log"
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize(
    "changes",
    [
        {"protection": ProtectionSpec()},
        {"protection": ProtectionSpec(), "paper": PaperSpec(fills=FREE, instrument=X)},
        {"protection": ProtectionSpec(), "paper": PaperSpec(fills=LATE_AND_IN_PARTS, instrument=X)},
        {
            "protection": ProtectionSpec(stop_loss_fraction=0.002, take_profit_fraction=0.004),
            "paper": PaperSpec(fills=DEAR, instrument=X),
        },
    ],
    ids=["without orders", "filled", "in parts", "stopped out"],
)
@pytest.mark.parametrize("params", [{"fast": 3, "slow": 7}, {"fast": 20, "slow": 50}], ids=str)
def test_the_crossover_says_and_fills_the_same_at_once_as_one_by_one(
    root: Path, request: pytest.FixtureRequest, params: dict[str, Any], changes: dict[str, Any]
) -> None:
    name = str(abs(hash(request.node.name)))
    run(root, name + "one", MovingAverageCrossover, params, **changes)
    run(root, name + "all", MovingAverageCrossover, params, checked_bars=0, **changes)
    run(root, name + "both", MovingAverageCrossover, params, checked_bars=COUNT // 2, **changes)
    said = bodies_on_disk(root / (name + "one"))
    assert len(said) > 30
    assert bodies_on_disk(root / (name + "all")) == said == bodies_on_disk(root / (name + "both"))
    assert fills(root, name + "all") == fills(root, name + "one") == fills(root, name + "both")
    assert way(root, name + "both") == f"bars at once, {COUNT // 2} checked"
    assert way(root, name + "one") == "one by one"


class Every(Strategy):
    """Buys at every tenth close when flat, closes at the next tenth when long, and answers its fills; it warms up."""

    inputs = Inputs(bars=True, warmup_bars=25)

    def on_start(self) -> None:
        self._seen = 0

    def on_bar(self, bar: Bar) -> None:
        self._seen += 1
        if self._seen % 10 == 0:
            self._speak(bar.close)

    def on_bars(self, bars: Bars) -> Candidates:
        tenth = (self._seen + 1 + np.arange(len(bars.close))) % 10 == 0
        self._seen += len(bars.close)
        return Candidates(lambda at: self._speak(float(bars.close[at])), flat=tenth, long=tenth)

    def on_fill(self, fill: Fill) -> None:
        if fill.size > 0 and int(fill.price * 100) % 3 == 0:
            self.close("answer")

    def _speak(self, close: float) -> None:
        if self.position:
            self.close(f"at {close}, {self.now_ns}")
        else:
            self.buy(f"at {close}, {self.now_ns}")


class Forgetful(Every):
    """Does not keep between two calls what it has seen."""

    def on_bars(self, bars: Bars) -> Candidates:
        self._seen = 0
        return super().on_bars(bars)


class OffByOne(Every):
    def on_bars(self, bars: Bars) -> Candidates:
        found = super().on_bars(bars)
        return Candidates(lambda at: self._speak(float(bars.close[at - 1])), flat=found.flat, long=found.long)


class Silent(Every):
    """Of its later bars it says that it will not speak."""

    def on_bars(self, bars: Bars) -> Candidates:
        found = super().on_bars(bars)
        assert found.flat is not None
        return found._replace(flat=found.flat & (bars.event_ns < START_NS + 3_000 * MINUTE_NS))


class TooShort(Every):
    def on_bars(self, bars: Bars) -> Candidates:
        return Candidates(self._speak, flat=np.ones(len(bars.close) + 1, dtype=np.bool_))  # type: ignore[arg-type]


class WithoutIt(Every):
    on_bars = Strategy.on_bars  # type: ignore[assignment]  # as if it had never been written


PAPER = {"paper": PaperSpec(fills=FREE, instrument=X), "protection": ProtectionSpec()}


def test_a_strategy_that_listens_and_warms_up_says_the_same_at_once(root: Path) -> None:
    run(root, "every-one", Every, **PAPER)
    run(root, "every-all", Every, checked_bars=10, **PAPER)
    said = bodies_on_disk(root / "every-one")
    assert bodies_on_disk(root / "every-all") == said
    assert b'"warming_up"' in said[0] and b'"answer"' in b"".join(said)
    assert fills(root, "every-all") == fills(root, "every-one")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Forgetful, "signal 0: X/bar.1m ordinal 9: on_bars: expected a signal here, as of on_bar, found none"),
        (OffByOne, "signal 0: X/bar.1m ordinal 9: on_bars: reasons[0]: expected"),
        (Silent, "X/bar.1m ordinal 2.*: on_bars: expected a signal here, as of on_bar, found none"),
    ],
)
def test_the_first_difference_ends_the_run_and_nothing_that_was_not_compared_is_logged(
    root: Path, kind: type[Strategy], words: str
) -> None:
    name = kind.__name__
    with pytest.raises(DivergenceError, match=words.replace("[", r"\[")):
        run(root, name, kind, checked_bars=1 << 62, **PAPER)
    run(root, name + "one", Every, **PAPER)
    said = bodies_on_disk(root / name)
    assert said == bodies_on_disk(root / (name + "one"))[: len(said)]


def test_masks_of_another_length_are_refused(root: Path) -> None:
    with pytest.raises(StrategyError, match="on_bars: ValueError: expected masks of 1 bools, found bool of shape"):
        run(root, "too-short", TooShort, checked_bars=10)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (WithoutIt, {}, "its strategy has no on_bars"),
        (Every, {"streams": ("X/bar.1m", "X/clock.1s")}, "it reads more than the bars of its timeframe"),
        (Every, {"streams": ("X/bar.5m",), "timeframe": "5m"}, "its bars are made of what history has"),
    ],
)
def test_who_cannot_take_bars_at_once_takes_them_one_by_one_and_says_so(
    root: Path, kind: type[Strategy], changes: dict[str, Any], reason: str
) -> None:
    name = f"slow-{kind.__name__}-{len(changes)}"
    run(root, name, kind, checked_bars=0, **changes)
    run(root, name + "-one", kind, **changes)
    assert bodies_on_disk(root / name) == bodies_on_disk(root / (name + "-one"))
    assert way(root, name) == f"one by one: {reason}"


def test_both_ways_leave_the_crossover_in_the_same_state() -> None:
    luck, bars_of = random.Random(4), _bars_of([100.0 + random.Random(n).gauss(0, 1) for n in range(700)])
    one, other = (strategy(MovingAverageCrossover, worker_spec(Path("/")), fast=3, slow=7) for _ in range(2))
    one.on_start()
    other.on_start()
    at = 0
    while at < 700:
        count = luck.choice((0, 1, 3, 7, 8, 50))
        some = bars_of(at, min(700, at + count))
        other.on_bars(some)
        for row in zip(*(column.tolist() for column in some), strict=True):
            one.on_bar(Bar("X", "1m", *row))
        one._proposals.clear()
        assert vars(one) == vars(other) or repr(vars(one)) == repr(vars(other))  # NaN is not itself
        at += count


def _bars_of(closes: list[float]) -> Callable[[int, int], Bars]:
    column = np.array(closes)
    column[333] = np.nan
    ts = START_NS + MINUTE_NS * np.arange(len(closes))
    return Bars(ts, column, column, column, column, column).part
