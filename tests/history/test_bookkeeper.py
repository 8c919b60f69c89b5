"""A second process writes signals and counts the fills of orders that stand alone: the same bytes as without it, whatever happens
to either."""

import errno
import os
import random
import resource
import signal
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from oms.paper_build import X
from worker.build import START_NS, bodies_on_disk, fills_in, short_folder, strategy, worker_spec
from worker.processes import await_that, is_alive

from strategy_runner.config.spec import PaperSpec, ProtectionSpec, ReplaySpec, WorkerSpec
from strategy_runner.errors import DivergenceError, StateError, StrategyError
from strategy_runner.history.backtest import Backtest
from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.event import Bar
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.strategies.interface import Bars, Candidates, Inputs, Strategy
from strategy_runner.tape.status import State, StatusFile, read_status

D = Decimal
BARS = 60_000
MINUTE_NS = 60_000_000_000
FILLS = FillSettings(
    latency_ns=50_000_000, slippage_ticks=1, fees=FeeSettings(taker=D("0.001"), per_share=D("0.002"), minimum=D("0.01"))
)


class Alone(Strategy):
    """Buys and sells at the market, now and then the other way round at once, and never asks what became of it."""

    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self.luck = random.Random(5)
        self.bars = 0

    def on_bar(self, bar: Bar) -> None:
        self.bars += 1
        chance = self.luck.random()
        if self.position == 0.0:
            if chance < 0.02:
                self.buy(size=1.5)
            elif chance < 0.04:
                self.sell(size=0.7)
        elif chance < 0.05:
            self.close()
        elif chance < 0.06:
            (self.sell if self.position > 0.0 else self.buy)(size=3.0)
        self.beyond()

    def beyond(self) -> None:
        """What else it does."""


class WithLimit(Alone):
    """Two thirds through it needs the book."""

    def beyond(self) -> None:
        if self.bars == 2 * BARS // 3:
            self.buy(size=1.0, limit_price=50.0)


class Raising(Alone):
    def beyond(self) -> None:
        if self.bars == BARS // 2:
            raise ValueError("half")


class Killed(Alone):
    """Ends its worker as `kill -9` does; its child's pid is left in a file."""

    pid_file = Path()

    def beyond(self) -> None:
        if self.bars == BARS // 2:
            self.pid_file.write_text(str(active_children()[0].pid))
            os.kill(os.getpid(), signal.SIGKILL)


class ChildKilled(Alone):
    def beyond(self) -> None:
        if self.bars == BARS // 2:
            active_children()[0].kill()


class AtOnce(Alone):
    """By `on_bars` as well."""

    def on_start(self) -> None:
        self.seen = 0

    def on_bar(self, bar: Bar) -> None:
        self.seen += 1
        self.decide(self.seen)

    def decide(self, number: int) -> None:
        if number % 40 == 7 and self.position == 0.0:
            self.buy(size=1.5)
        elif number % 40 == 21 and self.position > 0.0:
            self.close()

    def on_bars(self, bars: Bars) -> Candidates:
        first, count = self.seen + 1, len(bars.close)
        self.seen += count
        numbers = np.arange(first, first + count) % 40
        return Candidates(lambda at: self.decide(first + at), flat=numbers == 7, long=numbers == 21)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with short_folder() as path:
        luck, price = random.Random(2), 100.0
        rows = []
        for _ in range(BARS):
            close = max(1.0, round(price + luck.gauss(0, 0.05), 2))
            rows.append((price, max(price, close) + 0.03, min(price, close) - 0.03, close, 10.0))
            price = close
        begin = START_NS - START_NS % MINUTE_NS
        ts = np.array([begin + (n + 1) * MINUTE_NS for n in range(BARS)], dtype=np.int64)
        with SeriesWriter(series_of(path / "history", "bars_1m", "X")) as writer:
            writer.append(ts, [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)])
            writer.commit()
        yield path


def spec_in(root: Path, name: str, **changes: Any) -> WorkerSpec:
    chosen = {
        "streams": ("X/bar.1m",),
        "folder": str(root / name / "talk.X"),
        "mode": "historical",
        "history": ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0),
        "paper": PaperSpec(fills=FILLS, instrument=X),
        "protection": ProtectionSpec(),
    }
    return worker_spec(root, **{**chosen, **changes})


def run(root: Path, name: str, kind: type[Strategy], *, spare_core: bool = True, **changes: Any) -> Path:
    spec = msgspec.structs.replace(spec_in(root, name, **changes), spare_core=spare_core)
    folder = Path(spec.folder)
    twin = None if spec.checked_bars is None else strategy(kind, spec)
    Backtest(spec, strategy(kind, spec), status=StatusFile(folder / "status"), twin=twin).run(lambda: False)
    assert not active_children()
    return folder


def assert_same(one: Path, other: Path) -> None:
    assert bodies_on_disk(one) == bodies_on_disk(other)
    assert (one / "fills.log").read_bytes() == (other / "fills.log").read_bytes()


@pytest.mark.parametrize(
    ("kind", "checked_bars"), [(Alone, None), (WithLimit, None), (AtOnce, None), (AtOnce, 0), (AtOnce, 20_000)]
)
def test_what_is_kept_apart_is_the_same_to_the_byte(root: Path, kind: type[Strategy], checked_bars: int | None) -> None:
    case = f"{kind.__name__}-{checked_bars}"
    apart = run(root, f"{case}-apart", kind, checked_bars=checked_bars)
    here = run(root, f"{case}-here", kind, checked_bars=checked_bars, spare_core=False)
    assert len(fills_in(here)) > 2_000
    assert_same(apart, here)


def test_the_money_is_right_after_the_book_was_needed(root: Path) -> None:
    folder = run(root, "money", WithLimit)
    held = fees = D(0)
    for number, entry in enumerate(fills_in(folder)):
        assert entry.number == number
        if entry.event.fill is not None:
            fill = entry.event.fill
            held += fill.quantity if fill.side == "buy" else -fill.quantity
            fees += fill.fee
        assert (entry.position.quantity, entry.position.fees) == (held, fees)


def test_a_run_again_finds_what_it_counted_before(root: Path) -> None:
    folder = run(root, "again", Alone)
    first = (folder / "fills.log").read_bytes()
    run(root, "again", Alone)
    assert (folder / "fills.log").read_bytes() == first


def test_fills_that_come_out_differently_are_a_divergence(root: Path) -> None:
    folder = run(root, "divergence", Alone)
    before = (folder / "fills.log").read_bytes()
    dearer = msgspec.structs.replace(FILLS, slippage_ticks=2)
    with pytest.raises(DivergenceError, match=r"fills.log: offset \d+: expected the entry that it holds"):
        run(root, "divergence", Alone, paper=PaperSpec(fills=dearer, instrument=X))
    assert (folder / "fills.log").read_bytes() == before
    assert read_status(folder / "status").state is State.FAILED  # type: ignore[union-attr]  # the run has written it
    assert not active_children()


def test_a_strategy_that_raises_leaves_every_fill_before(root: Path) -> None:
    for name, spare_core in (("raised-apart", True), ("raised-here", False)):
        with pytest.raises(StrategyError, match="half"):
            run(root, name, Raising, spare_core=spare_core)
    assert not active_children()
    assert len(fills_in(root / "raised-here" / "talk.X")) > 1_000
    assert_same(root / "raised-apart" / "talk.X", root / "raised-here" / "talk.X")


def test_a_worker_that_is_killed_takes_its_child_along_and_a_run_again_loses_and_doubles_nothing(root: Path) -> None:
    Killed.pid_file = root / "pid"
    worker = get_context("fork").Process(target=partial(run, root, "killed", Killed))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    child = int(Killed.pid_file.read_text())
    await_that(lambda: not is_alive(child), "the end of its child")
    folder = root / "killed" / "talk.X"
    before = (folder / "fills.log").read_bytes()
    run(root, "killed", Alone)
    assert (folder / "fills.log").read_bytes().startswith(before)
    assert_same(folder, run(root, "not-killed", Alone))


def test_a_child_that_is_killed_ends_the_run_and_a_run_again_loses_and_doubles_nothing(root: Path) -> None:
    with pytest.raises(StateError, match=r"signals.log: expected the process that writes it, found it ended \(-9\)"):
        run(root, "child-killed", ChildKilled)
    folder = root / "child-killed" / "talk.X"
    assert read_status(folder / "status").state is State.FAILED  # type: ignore[union-attr]  # the run has written it
    run(root, "child-killed", Alone)
    assert_same(folder, run(root, "child-lives", Alone))


def test_where_there_may_be_no_process_more_the_worker_does_without(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr("os.fork", refused)
        folder = run(root, "alone", Alone)
    assert "no second process: [Errno 11] Resource temporarily unavailable" in caplog.text
    assert_same(folder, run(root, "not-alone", Alone))


def test_a_disk_that_is_full_ends_the_run_and_a_run_again_loses_and_doubles_nothing(root: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # of one file: as a full disk, for its writer
        with pytest.raises(OSError, match="File too large"):
            run(root, "full", Alone)

    worker = get_context("fork").Process(target=full)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    folder = root / "full" / "talk.X"
    before = (folder / "fills.log").read_bytes()
    assert 0 < len(before) <= 1_000_000
    run(root, "full", Alone)
    assert (folder / "fills.log").read_bytes().startswith(before)
    assert_same(folder, run(root, "roomy", Alone))
