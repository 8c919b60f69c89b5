"""Flat out a worker fills its own orders: the same fills and signals through a feed, over the tape again, and over history."""

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from feed_process import FeedProcess
from oms.paper_build import X
from worker.acme.strategies.answering import Answering
from worker.build import (
    START_NS,
    Followers,
    bodies_on_disk,
    fills_in,
    rerun,
    strategy,
    worker_spec,
)

from strategy_runner.config.spec import PaperSpec, ReplaySpec, WorkerSpec
from strategy_runner.errors import DivergenceError
from strategy_runner.history.backtest import Backtest
from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.event import Bar, Fill, OrderUpdate, Position, Trade
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.signal import decode_body
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.tape.status import StatusFile
from strategy_runner.worker.genesis import read_geneses

D = Decimal
FILLS = FillSettings(
    latency_ns=50_000_000, slippage_ticks=1, participation=0.5, fees=FeeSettings(taker=D("0.001"), minimum=D("0.01"))
)
TRADES, BARS = 2_500, 1_000


@pytest.fixture
def followers() -> Iterator[Followers]:
    made = Followers()
    yield made
    made.close()


def walk(seed: int, count: int) -> "list[float]":
    luck, price, prices = random.Random(seed), 100.0, []
    for _ in range(count):
        price = round(price + luck.gauss(0, 0.05), 2)
        prices.append(price)
    return prices


def record(root: Path, kind: str, ts: list[int], *columns: list[float]) -> None:
    with SeriesWriter(series_of(root / "history", kind, "X")) as writer:
        writer.append(np.array(ts, dtype=np.int64), [np.array(column, dtype=np.float64) for column in columns])
        writer.commit()


def record_trades(root: Path) -> None:
    luck = random.Random(1)
    sizes = [luck.choice((0.3, 1.0, 7.5)) for _ in range(TRADES)]
    record(root, "trades", [START_NS + n * 700_000_000 for n in range(TRADES)], walk(1, TRADES), sizes, [1.0] * TRADES)


def record_bars(root: Path) -> None:
    closes = walk(2, BARS + 1)
    opens = closes[:-1]
    highs = [max(pair) + 0.03 for pair in zip(opens, closes[1:], strict=True)]
    lows = [min(pair) - 0.03 for pair in zip(opens, closes[1:], strict=True)]
    begin = START_NS - START_NS % 60_000_000_000
    ts = [begin + (n + 1) * 60_000_000_000 for n in range(BARS)]
    record(root, "bars_1m", ts, opens, highs, lows, closes[1:], [10.0] * BARS)


def spec_in(root: Path, name: str, **changes: Any) -> WorkerSpec:
    chosen = {
        "streams": ("X/trade", "X/bar.1m"),
        "strategy_type": "answering",
        "code": str(Path(__file__).parent.parent / "worker" / "acme" / "strategies" / "answering.py"),
        "folder": str(root / name / "talk.X"),
        "paper": PaperSpec(fills=FILLS, instrument=X),
    }
    return worker_spec(root, **{**chosen, **changes})


def backtest(root: Path, kind: type[Strategy] = Answering, name: str = "history-run", **changes: Any) -> Strategy:
    history = ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0)
    spec = spec_in(root, name, history=history, mode="historical", **changes)
    made = strategy(kind, spec)
    Backtest(spec, made, status=StatusFile(Path(spec.folder) / "status")).run(lambda: False)
    return made


@pytest.mark.parametrize("streams", [("X/trade", "X/bar.1m"), ("X/trade",), ("X/bar.1m",)], ids=str)
def test_through_a_feed_and_over_history_a_worker_fills_and_says_the_same_to_the_byte(
    root: Path, followers: Followers, streams: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 300)
    monkeypatch.setattr("strategy_runner.worker.follower.TURN_RECORDS_MAX", 200)
    (record_bars if streams == ("X/bar.1m",) else record_trades)(root)
    backtest(root, streams=streams)
    replay = ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0)
    with FeedProcess(streams, replay=replay) as feed:
        feed.start()
        feed.wait_finished()
        spec = spec_in(root, "simulated", streams=streams, mode="simulation", market=feed.spec.market)
        follower, luck = followers.make(spec), random.Random(3)
        while follower.turn():
            if luck.random() < 0.15:
                follower = followers.make(spec)  # the one before was killed
        [genesis] = read_geneses(Path(spec.folder))
        again = rerun(spec, feed.tape, genesis, feed.reader().head.count)
    historical, simulated = root / "history-run" / "talk.X", root / "simulated" / "talk.X"
    bodies = bodies_on_disk(simulated)
    assert bodies == bodies_on_disk(historical) == again
    assert (simulated / "fills.log").read_bytes() == (historical / "fills.log").read_bytes()
    assert (simulated / "fills.log").stat().st_mode & 0o777 == 0o600
    entries = fills_in(simulated)
    assert [entry.number for entry in entries] == list(range(len(entries)))
    assert {entry.event.kind for entry in entries} >= {"fill", "rejected", "cancelled"}
    assert {entry.leg for entry in entries} >= {"entry", "exit", "stop_loss", "take_profit"}
    answers = [decode_body(raw).cause for raw in bodies if decode_body(raw).cause.stream == "acme:talk.X/private"]
    assert len(answers) > 20
    assert all(cause.values[3] == cause.ordinal for cause in answers)


def test_positions_told_are_the_sum_of_the_fills(root: Path) -> None:
    record_trades(root)
    backtest(root)
    held, fees = D(0), D(0)
    for entry in fills_in(root / "history-run" / "talk.X"):
        if entry.event.fill is not None:
            fill = entry.event.fill
            held += fill.quantity if fill.side == "buy" else -fill.quantity
            fees += fill.fee
        assert (entry.position.quantity, entry.position.fees) == (held, fees)
    assert fees > 0


def test_an_order_meets_each_record_before_the_strategy_and_never_the_one_that_caused_it(root: Path) -> None:
    class Once(Strategy):
        inputs = Inputs(trades=True)

        def on_start(self) -> None:
            self.told: list[object] = []

        def on_trade(self, trade: Trade) -> None:
            if not self.told:
                self.buy(size=1.0)
            if len(self.told) < 6:
                self.told.append(trade)

        def on_fill(self, fill: Fill) -> None:
            self.told.append(fill)

        def on_position(self, position: Position) -> None:
            self.told.append(position)

        def on_order(self, order: OrderUpdate) -> None:
            self.told.append(order)

    record_trades(root)
    made = backtest(root, Once, streams=("X/trade",), paper=PaperSpec(fills=FillSettings(), instrument=X))
    told = made.told  # type: ignore[attr-defined]
    assert [type(event) for event in told] == [Trade, Fill, Position, OrderUpdate, Trade, Trade]
    first, fill, second = told[0], told[1], told[4]
    assert (fill.event_ns, fill.price) == (second.event_ns, second.price)
    assert fill.event_ns > first.event_ns


def test_what_a_strategy_asks_for_at_one_record_goes_exits_first(root: Path) -> None:
    class Turning(Strategy):
        inputs = Inputs(trades=True)

        def on_start(self) -> None:
            self.trades = 0
            self.filled: list[float] = []

        def on_trade(self, trade: Trade) -> None:
            self.trades += 1
            if self.trades == 1:
                self.buy(size=1.0)
            elif self.trades == 3:
                self.sell(size=3.0)
                self.close(size=0.5)

        def on_fill(self, fill: Fill) -> None:
            self.filled.append(fill.size)

    record_trades(root)
    made = backtest(root, Turning, streams=("X/trade",), paper=PaperSpec(fills=FillSettings(), instrument=X))
    assert made.filled[:3] == [1.0, -0.5, -3.0]  # type: ignore[attr-defined]


def test_a_strategy_that_answers_every_word_with_an_order_does_not_keep_the_worker_from_reading_on(root: Path) -> None:
    class Quarrelsome(Strategy):
        inputs = Inputs(bars=True)
        has_begun = False

        def on_bar(self, bar: Bar) -> None:
            if not self.has_begun:
                self.has_begun = True
                self.buy(size=0.001)

        def on_order(self, order: OrderUpdate) -> None:
            if order.leg == "entry":
                self.buy(size=0.001)  # below one lot: rejected again

    record_bars(root)
    backtest(root, Quarrelsome, streams=("X/bar.1m",))
    told = [entry for entry in fills_in(root / "history-run" / "talk.X") if entry.leg == "entry"]
    assert len(told) == BARS - 1


def test_fills_that_come_out_differently_are_a_divergence(root: Path) -> None:
    record_trades(root)
    backtest(root)
    dearer = msgspec.structs.replace(FILLS, slippage_ticks=2)
    with pytest.raises(DivergenceError, match=r"fills.log: offset \d+: expected the entry that it holds"):
        backtest(root, paper=PaperSpec(fills=dearer, instrument=X))
