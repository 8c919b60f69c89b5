"""History before 1970, as that of shares is: whatever was recorded comes out as it would at any other time."""

import os
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from feed_process import FeedProcess
from oms.paper_build import X
from worker.build import Followers, bodies_on_disk, run_out, short_folder, strategy, worker_spec

from strategy_runner.cli.values import moment_ns
from strategy_runner.config.spec import PaperSpec, ReplaySpec, WorkerSpec
from strategy_runner.feed.bars import NONE_OPEN, BarBuilder
from strategy_runner.feed.derive import Derivation
from strategy_runner.history.backtest import Backtest
from strategy_runner.history.catalog import series_of
from strategy_runner.history.parity import _Window
from strategy_runner.history.reader import read_series
from strategy_runner.history.replay import ReplaySource
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.event import Bar, Event, Fill, OrderUpdate, Timer, Trade
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.signal import decode_body
from strategy_runner.model.stream import bars, clock, trades
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.supervision.replay import _is_within
from strategy_runner.tape.status import State, StatusFile, read_status

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
HALF_AN_HOUR_S = 1_800
# what is recorded lies around such a midnight; the last one is the measure of the others
MIDNIGHTS = {"1940": -10_957 * DAY_NS, "1970": 0, "2023": 19_675 * DAY_NS}
STREAMS = {
    "blocks": ("X/trade",),
    "derived": ("X/trade", "X/bar.1m", "X/bar.5m", "X/clock.1s"),
    "from bars": ("X/bar.1m", "X/bar.5m", "X/clock.1m"),
    "clock alone": ("X/clock.1m",),
}


class Restless(Strategy):
    """Asks for orders of every kind, and keeps whatever it is told with the time since midnight."""

    inputs = Inputs(trades=True, bars=True, timer="1s")
    midnight_ns = 0
    lifetime = "gtc"

    def on_start(self) -> None:
        self.heard: list[object] = []

    def on_trade(self, trade: Trade) -> None:
        self._hear(trade, trade.price)

    def on_bar(self, bar: Bar) -> None:
        self._hear(bar, bar.close)

    def on_timer(self, timer: Timer) -> None:
        self._hear(timer, 100.0)

    def on_fill(self, fill: Fill) -> None:
        self.heard.append(("fill", fill.event_ns - self.midnight_ns, fill.price, fill.size))

    def on_order(self, order: OrderUpdate) -> None:
        self.heard.append((order.leg, order.state, order.reason))

    def _hear(self, event: Event, price: float) -> None:
        self.heard.append(msgspec.structs.replace(event, event_ns=event.event_ns - self.midnight_ns))
        match len(self.heard) % 70:
            case 7:
                self.buy("bracket", stop_loss=price - 0.2, take_profit=price + 0.2)
            case 30:
                self.sell("patient", size=1.0, limit_price=price + 0.3, time_in_force=self.lifetime)
            case 45:
                self.buy("trailing", size=0.5, trail=0.3)
            case 50:
                self.modify(stop_loss=price - 0.5)
            case 60 if self.position and len(self.heard) % 140 == 130:  # it ends all that waits, and so not each time
                self.close("enough")
            case 65:
                self.cancel()


def record(root: Path, kind: str, midnight_ns: int) -> None:
    luck, price = random.Random(kind), 100.0
    step_s = 60 if kind == "bars_1m" else 3
    ts = [midnight_ns + s * SECOND_NS for s in range(step_s - HALF_AN_HOUR_S, HALF_AN_HOUR_S + 1, step_s)]
    prices = [price := round(price + luck.gauss(0, 0.05), 2) for _ in ts]
    columns = [prices] * 4 + [[10.0] * len(ts)] if kind == "bars_1m" else [prices, [5.0] * len(ts), [1.0] * len(ts)]
    with SeriesWriter(series_of(root / "history", kind, "X")) as writer:
        writer.append(np.array(ts, dtype=np.int64), [np.array(column) for column in columns])
        writer.commit()


def spec_in(root: Path, streams: tuple[str, ...], **changes: Any) -> WorkerSpec:
    paper = PaperSpec(fills=FillSettings(latency_ns=1_500_000_000), instrument=X)
    return worker_spec(root, **{"streams": streams, "paper": paper, "folder": str(root / "talk.X"), **changes})


def history(root: Path) -> ReplaySpec:
    return ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0)


def restless(spec: WorkerSpec, midnight_ns: int, lifetime: str) -> Strategy:
    return strategy(type("Told", (Restless,), {"midnight_ns": midnight_ns, "lifetime": lifetime}), spec)


def run_over_history(
    root: Path, streams: tuple[str, ...], midnight_ns: int, lifetime: str = "gtc"
) -> tuple[list[object], list[object]]:
    """What the strategy heard and what it said, by the time since midnight."""
    spec = spec_in(root, streams, history=history(root), mode="historical")
    made = restless(spec, midnight_ns, lifetime)
    Backtest(spec, made, status=StatusFile(root / "talk.X" / "status")).run(lambda: False)
    status = read_status(root / "talk.X" / "status")
    assert status is not None
    assert status.state is State.FINISHED
    assert status.event_ns == midnight_ns + HALF_AN_HOUR_S * SECOND_NS - status.event_ns % SECOND_NS
    said = []
    for raw in bodies_on_disk(root / "talk.X"):
        body = decode_body(raw)
        cause = body.cause.stream, body.cause.ordinal, body.cause.event_ns - midnight_ns
        said.append((cause, body.action, body.entry_price, body.stop_loss, body.refusal))
    return made.heard, said  # type: ignore[attr-defined]  # of Restless


@pytest.mark.parametrize("streams", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(("then", "lifetime"), [("1940", "day"), ("1970", "gtc")])
def test_records_orders_and_signals_are_those_of_any_other_time(
    streams: tuple[str, ...], then: str, lifetime: str
) -> None:
    found = []
    for midnight_ns in (MIDNIGHTS[then], MIDNIGHTS["2023"]):
        with short_folder() as root:
            record(root, "trades" if streams != STREAMS["from bars"] else "bars_1m", midnight_ns)
            found.append(run_over_history(root, streams, midnight_ns, lifetime))
    assert found[0] == found[1]
    heard, said = found[1]
    if streams == STREAMS["clock alone"]:
        assert len(heard) == 60
    else:
        assert len(said) > 10
        assert {one[0] for one in heard if isinstance(one, tuple)} >= {"fill", "entry"}
        assert any(one[1:] == ("expired", "day") for one in heard if isinstance(one, tuple)) is (lifetime == "day")


@pytest.mark.parametrize("midnight_ns", MIDNIGHTS.values(), ids=MIDNIGHTS)
def test_through_a_feed_it_is_the_same_to_the_byte(root: Path, midnight_ns: int) -> None:
    streams = STREAMS["derived"]
    record(root, "trades", midnight_ns)
    run_over_history(root, streams, midnight_ns)
    followers = Followers()
    with FeedProcess(streams, replay=history(root)) as feed:
        feed.start()
        feed.wait_finished()
        spec = spec_in(root, streams, mode="simulation", market=feed.spec.market, folder=str(root / "fed" / "talk.X"))
        run_out(followers.make(spec, restless(spec, midnight_ns, "gtc")))
        followers.close()
    assert bodies_on_disk(root / "fed" / "talk.X") == bodies_on_disk(root / "talk.X")
    assert (root / "fed" / "talk.X" / "fills.log").read_bytes() == (root / "talk.X" / "fills.log").read_bytes()


@pytest.mark.parametrize("base", ["trades", "bars"])
def test_a_derivation_goes_on_from_a_checkpoint_within_the_last_minute_of_1969(base: str) -> None:
    stream = trades("X") if base == "trades" else bars("X", "1s")
    wanted = [bars("X", "1m"), clock("X", "1m")]
    whole: list[object] = []
    halved: list[object] = []

    def derivation(made: list[object]) -> Derivation:
        handles = {one: one.name for one in wanted}
        return Derivation(stream, handles, emit=lambda *event: made.append(repr(event)), seed=1)

    undisturbed, killed = derivation(whole), derivation(halved)
    for s in range(-90, 90):
        if s == -30:
            state, killed = killed.state(), derivation(halved)
            killed.restore(state)
        for one in (undisturbed, killed):
            if base == "trades":
                one.trade(s * SECOND_NS, 100.0 + s, 1.0, 1.0)
            else:
                one.bar(s * SECOND_NS, *[100.0 + s] * 4, 1.0)
    assert len(whole) >= 4
    assert halved == whole


def test_a_checkpoint_of_before_that_says_0_has_no_bar_open() -> None:
    builder = BarBuilder("1m")
    builder.restore((0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert builder.end_ns == NONE_OPEN
    assert builder.due(90 * SECOND_NS) is None
    assert builder.state()[0] == 0


@pytest.mark.parametrize(
    ("from_s", "to_s", "first_s", "last_s"),
    [
        (-60, 0, -60, -3),
        (0, -60, 3 - HALF_AN_HOUR_S, -63),
        (-60, 60, -60, 57),
        (0, 0, 3 - HALF_AN_HOUR_S, HALF_AN_HOUR_S),
    ],
)
def test_a_window_may_begin_and_end_before_1970(root: Path, from_s: int, to_s: int, first_s: int, last_s: int) -> None:
    """0 is an open end; the midnight itself is given as the nanosecond before, as the command line does it."""
    record(root, "trades", 0)
    to_ns = -1 if (from_s, to_s) == (-60, 0) else to_s * SECOND_NS
    found = [block.ts for block in read_series(series_of(root / "history", "trades", "X"), from_s * SECOND_NS, to_ns)]
    ts = np.concatenate(found)
    assert (ts[0], ts[-1]) == (first_s * SECOND_NS, last_s * SECOND_NS)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1970-01-01", -1), ("1970-01-01T00:00:00Z", -1), ("1969-12-31", -DAY_NS), ("1970-01-02", DAY_NS)],
)
def test_on_the_command_line_no_moment_is_an_open_end(text: str, ns: int) -> None:
    assert moment_ns(text) == ns


@pytest.mark.parametrize(
    ("from_ns", "to_ns", "is_within"),
    [(0, 0, True), (0, -5, True), (-10, 0, True), (-9, 0, False), (0, -10, False), (-20, -5, True), (1, 2, False)],
)
def test_what_a_run_over_the_tape_compares_may_lie_before_1970(from_ns: int, to_ns: int, is_within: bool) -> None:
    assert _Window(from_ns, to_ns).holds(-10) is is_within
    assert _is_within(-10, from_ns, to_ns) is is_within


def test_a_symbol_that_is_added_joins_where_the_others_are(root: Path) -> None:
    record(root, "trades", 0)
    for symbol in ("Y", "Z"):
        os.link(root / "history" / "trades" / "X.parquet", root / "history" / "trades" / f"{symbol}.parquet")
    source = ReplaySource(msgspec.structs.replace(history(root), from_ns=-900 * SECOND_NS))
    source.add(["X"])
    assert source.take(1, 1 << 62)[0][2] == -900 * SECOND_NS
    source.add(["Y"])
    assert [row[2] for row in source.take(2, 1 << 62)] == [-900 * SECOND_NS, -897 * SECOND_NS]
    while source.next_ns() != 3 * SECOND_NS:
        assert source.take(1, 1 << 62)
    source.add(["Z"])
    assert source.next_ns() in (0, 3 * SECOND_NS)
