"""Historical mode: the same machine over recorded history, twice as often as you like, and only over sound rows."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker.acme.strategies.chatty import Chatty
from worker.build import MODELS, START_NS, Echo, bodies_on_disk, logged, status_of, strategy, worker_spec
from worker.processes import Processes, await_that, processes_in

from strategy_runner.config.spec import ReplaySpec, WorkerSpec
from strategy_runner.errors import ConfigurationError, DivergenceError, StrategyError
from strategy_runner.history.backtest import TURN_RAW_MAX, Backtest
from strategy_runner.history.catalog import series_of
from strategy_runner.history.columns import MISSING_NS
from strategy_runner.history.reader import CHUNK_ROWS
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.event import Timer, Trade
from strategy_runner.model.signal import decode_body
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.tape.status import State, StatusFile, read_status

NAN = float("nan")
MANY = 2 * CHUNK_ROWS + 500


def record(root: Path, kind: str, ts: list[int], *columns: list[float]) -> None:
    """Writes history/KIND/X.parquet as it is, sound or not."""
    with SeriesWriter(series_of(root / "history", kind, "X")) as writer:
        writer.append(np.array(ts, dtype=np.int64), [np.array(column, dtype=np.float64) for column in columns])
        writer.commit()


def record_trades(root: Path, count: int) -> None:
    record(
        root,
        "trades",
        [START_NS + n * 700_000_000 for n in range(count)],
        [100.0 + n % 13 / 10 for n in range(count)],
        [1.0 + n % 3 for n in range(count)],
        [float(n % 3 - 1) for n in range(count)],
    )


def record_quotes(root: Path, count: int) -> None:
    bids = [100.0 + n % 13 / 10 for n in range(count)]
    record(
        root,
        "quotes",
        [START_NS + n * 700_000_000 for n in range(count)],
        bids,
        [bid + 0.1 for bid in bids],
        [NAN if n % 5 else 3.0 for n in range(count)],
        [2.0] * count,
    )


def record_bars(root: Path, count: int) -> None:
    opens = [100.0 + n % 13 / 10 for n in range(count)]
    record(
        root,
        "bars_1m",
        [START_NS - START_NS % 60_000_000_000 + n * 60_000_000_000 for n in range(1, count + 1)],
        opens,
        [price + 1 for price in opens],
        [price - 1 for price in opens],
        [price + 0.5 for price in opens],
        [10.0] * count,
    )


RECORD: dict[str, Callable[[Path, int], None]] = {
    "X/trade": record_trades,
    "X/quote": record_quotes,
    "X/bar.1m": record_bars,
}


def spec_in(root: Path, name: str = "talk.X", **changes: Any) -> WorkerSpec:
    history = ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=0, to_ns=0)
    return worker_spec(
        root,
        **{"history": history, "mode": "historical", "folder": str(root / name), "streams": ("X/trade",), **changes},
    )


def backtest(
    spec: WorkerSpec, kind: type[Strategy], stopping: Callable[[], bool] = lambda: False, **params: Any
) -> Backtest:
    made = Backtest(spec, strategy(kind, spec, **params), status=StatusFile(Path(spec.folder) / "status"))
    made.run(stopping)
    return made


def stop_after(blocks: int) -> Callable[[], bool]:
    """A stop flag that is set once so many blocks are done."""
    left = [blocks]

    def stopping() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return stopping


# -- the same bytes ----------------------------------------------------------------------------------------------------


class DeafToTimers(Chatty):
    """Is given a clock, so that its records are derived one by one, and does not listen to it."""

    def on_timer(self, timer: Timer) -> None:
        pass


@pytest.mark.parametrize("stream", RECORD)
def test_whole_blocks_give_the_bytes_that_records_derived_one_by_one_give(root: Path, stream: str) -> None:
    RECORD[stream](root, 30_000)
    fast = backtest(spec_in(root, "fast", streams=(stream,)), Chatty, every=7)
    slow = backtest(spec_in(root, "slow", streams=(stream, "X/clock.1s")), DeafToTimers, every=7)
    said = bodies_on_disk(root / "fast")
    assert len(said) == 30_000 // 7
    assert bodies_on_disk(root / "slow") == said
    assert fast._only_series() is not None
    assert slow._only_series() is None


def test_a_warm_up_is_the_same_in_blocks_and_one_by_one(root: Path) -> None:
    class Patient(DeafToTimers):
        inputs = Inputs(bars=True, warmup_bars=50)

    record_bars(root, 200)
    backtest(spec_in(root, "fast", streams=("X/bar.1m",)), Patient, every=7)
    backtest(spec_in(root, "slow", streams=("X/bar.1m", "X/clock.1s")), Patient, every=7)
    said = bodies_on_disk(root / "fast")
    assert bodies_on_disk(root / "slow") == said
    refusals = [decode_body(body).refusal for body in said]
    assert set(refusals[: 50 // 7]) <= {"warming_up", "nothing_to_close"}
    assert set(refusals[50 // 7 :]) == {None, "nothing_to_close"}


def test_history_derives_bars_predictions_and_clock_from_trades(root: Path) -> None:
    record_trades(root, 20_000)
    streams = ("X/trade", "X/bar.1m", "X/prediction.m1.1m", "X/prediction.m2.1m", "X/clock.1s")
    backtest(spec_in(root, streams=streams, models=MODELS), Chatty, every=11)
    bodies = [decode_body(body) for body in bodies_on_disk(root / "talk.X")]
    assert {body.cause.stream for body in bodies} >= {"X/trade", "X/bar.1m", "X/clock.1s"}
    assert any(len(body.models) == 2 for body in bodies)


@pytest.mark.parametrize("within_s", [0, 20])
def test_behind_from_the_first_bar_is_the_first_whose_interval_lies_within_as_the_whole_recording_makes_it(
    root: Path, within_s: int
) -> None:
    record_trades(root, 2_000)

    def bars_of(name: str, from_ns: int) -> list[tuple[int, tuple[float | None, ...]]]:
        history = ReplaySpec(folder=str(root / "history"), speed=0.0, from_ns=from_ns, to_ns=0)
        backtest(spec_in(root, name, streams=("X/bar.1m",), history=history), Chatty, every=1)
        causes = [decode_body(body).cause for body in bodies_on_disk(root / name)]
        return [(cause.event_ns, cause.values) for cause in causes]

    minute_ns = START_NS - START_NS % 60_000_000_000 + 5 * 60_000_000_000
    whole = bars_of("whole", 0)
    first_ns = minute_ns + (60_000_000_000 if within_s == 0 else 120_000_000_000)
    assert bars_of("part", minute_ns + within_s * 1_000_000_000) == [bar for bar in whole if bar[0] >= first_ns]
    # before the recording there is nothing to know
    assert bars_of("early", START_NS - START_NS % 60_000_000_000) == whole


# -- again -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "rows"), [((), MANY), (("X/clock.1s",), 3 * TURN_RAW_MAX)], ids=["in blocks", "one by one"]
)
def test_stopped_and_run_again_it_writes_what_an_undisturbed_run_writes(
    root: Path, clock: tuple[str, ...], rows: int
) -> None:
    record_trades(root, rows)
    streams = ("X/trade", *clock)
    for blocks in (1, 2):
        backtest(spec_in(root, streams=streams), DeafToTimers, stop_after(blocks), every=97)
        assert status_of(spec_in(root)).state is State.STOPPED
    backtest(spec_in(root, streams=streams), DeafToTimers, every=97)
    backtest(spec_in(root, "calm", streams=streams), DeafToTimers, every=97)
    assert bodies_on_disk(root / "talk.X") == bodies_on_disk(root / "calm")
    assert [one.envelope.n for one in logged(root / "talk.X" / "signals.log")] == list(range(rows // 97))
    assert status_of(spec_in(root)).signals == rows // 97
    if not clock:
        ordinals = [decode_body(body).cause.ordinal for body in bodies_on_disk(root / "talk.X")]
        assert ordinals == list(range(96, rows, 97)), "counted on from block to block"


def test_a_process_killed_at_work_and_started_again_writes_each_signal_once(root: Path) -> None:
    record_trades(root, 4 * TURN_RAW_MAX)
    spec = spec_in(root, params={"every": 97}, streams=("X/trade", "X/clock.1s"))
    with processes_in(root) as processes:
        for _ in range(3):
            killed_at_work(processes, spec)
        assert processes.start("backtest", spec).wait(60) == 0
    assert status_of(spec).state is State.FINISHED
    backtest(spec_in(root, "calm", streams=spec.streams), Chatty, every=97)
    assert bodies_on_disk(root / "talk.X") == bodies_on_disk(root / "calm")


def killed_at_work(processes: Processes, spec: WorkerSpec) -> None:
    running = processes.start("backtest", spec)

    def at_work() -> bool:
        status = read_status(Path(spec.folder) / "status")
        return status is not None and status.pid == running.pid and status.signals > 0

    await_that(at_work, "some signals")
    running.send_signal(signal.SIGKILL)
    running.wait()


def test_other_history_under_the_same_signals_is_a_divergence(root: Path) -> None:
    record_trades(root, 1_000)
    backtest(spec_in(root), Chatty, every=7)
    record(root, "trades", [START_NS + n for n in range(1_000)], [50.0] * 1_000, [1.0] * 1_000, [0.0] * 1_000)
    with pytest.raises(DivergenceError):
        backtest(spec_in(root), Chatty, every=7)
    assert (status_of(spec_in(root)).state, status_of(spec_in(root)).reason) == (State.FAILED, "DivergenceError")


# -- what may be traded on ---------------------------------------------------------------------------------------------

INF = float("inf")
DIRTY_TRADES: list[tuple[str, int, float, float]] = [
    ("", 10, 100.0, 1.0),
    ("not_finite", 11, NAN, 1.0),
    ("not_finite", 12, 100.0, INF),
    ("not_positive", 13, 0.0, 1.0),
    ("not_positive", 14, -5.0, 1.0),
    ("not_positive", 15, 100.0, 0.0),
    ("", 20, 101.0, 2.0),
    ("out_of_order", 19, 102.0, 1.0),
    ("not_finite", MISSING_NS - START_NS, 100.0, 1.0),
    ("", 20, 103.0, 3.0),
    ("", 30, 104.0, 4.0),
]


@pytest.mark.parametrize("clock", [(), ("X/clock.1s",)], ids=["in blocks", "one by one"])
def test_dirty_rows_are_never_traded_on_and_each_is_counted(root: Path, clock: tuple[str, ...]) -> None:
    rules, offsets, prices, sizes = (list(column) for column in zip(*DIRTY_TRADES, strict=True))
    record(root, "trades", [START_NS + int(at) for at in offsets], prices, sizes, [0.0] * len(rules))
    made = backtest(spec_in(root, streams=("X/trade", *clock)), EchoTrades)
    causes = [decode_body(body).cause for body in bodies_on_disk(root / "talk.X")]
    sound = [(at, price, size) for rule, at, price, size in DIRTY_TRADES if not rule]
    assert [(one.event_ns - START_NS, *one.values[:2]) for one in causes] == sound
    assert [one.ordinal for one in causes] == list(range(len(sound)))
    report = made.reports()["X/trade"]
    assert (report.seen, report.kept) == (len(DIRTY_TRADES), len(sound))
    assert report.counts == {"not_finite": 3, "not_positive": 3, "out_of_order": 1}
    assert status_of(spec_in(root)).records >= len(sound)


class EchoTrades(Echo):
    def on_timer(self, timer: Timer) -> None:
        pass


def test_a_file_with_nothing_sound_in_it_gives_no_signal_and_a_report(root: Path) -> None:
    record(root, "trades", [START_NS, START_NS + 1], [NAN, -1.0], [1.0, 1.0], [0.0, 0.0])
    made = backtest(spec_in(root), EchoTrades)
    assert bodies_on_disk(root / "talk.X") == []
    assert made.reports()["X/trade"].kept == 0
    assert status_of(spec_in(root)).state is State.FINISHED


# -- ending ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_stop_flag_ends_it_between_two_blocks_with_what_was_said_until_then(root: Path, blocks: int) -> None:
    record_trades(root, MANY)
    backtest(spec_in(root), Chatty, stop_after(blocks), every=97)
    status = status_of(spec_in(root))
    assert (status.state, status.reason) == (State.STOPPED, "interrupted")
    assert status.records == blocks * CHUNK_ROWS
    assert status.signals == len(bodies_on_disk(root / "talk.X")) == status.records // 97
    assert status.progress < status.total


def test_at_the_end_of_history_it_is_finished_and_its_progress_whole(root: Path) -> None:
    record_trades(root, 1_000)
    backtest(spec_in(root), Chatty, every=7)
    status = status_of(spec_in(root))
    assert (status.state, status.records, status.progress, status.total) == (State.FINISHED, 1_000, 1_000, 1_000)
    assert status.last_signal == f"acme:talk.X@0badcafe/{1_000 // 7 - 1}"


def test_a_strategys_fault_keeps_what_it_said_before_and_says_why(root: Path) -> None:
    record_trades(root, 1_000)
    with pytest.raises(StrategyError):
        backtest(spec_in(root), Chatty, every=10, raise_at=500)
    status = status_of(spec_in(root))
    assert (status.state, status.signals) == (State.FAILED, 50)
    assert "X/trade ordinal 500: RuntimeError: told to raise at record 500" in status.last_error
    assert len(bodies_on_disk(root / "talk.X")) == 50


class CannotBegin(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        raise RuntimeError("no")


class CannotEnd(Strategy):
    inputs = Inputs(trades=True)

    def on_trade(self, trade: Trade) -> None:
        self.buy("fine")

    def on_stop(self) -> None:
        raise RuntimeError("no")


@pytest.mark.parametrize(("kind", "signals"), [(CannotBegin, 0), (CannotEnd, 10)])
def test_a_fault_at_the_start_or_the_end_is_told_too(root: Path, kind: type[Strategy], signals: int) -> None:
    record_trades(root, 10)
    with pytest.raises(StrategyError):
        backtest(spec_in(root), kind)
    assert status_of(spec_in(root)).state is State.FAILED
    assert len(bodies_on_disk(root / "talk.X")) == signals


class KeepsALambda(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.rule = lambda price: price > 1


def test_what_could_not_be_kept_at_a_pace_is_refused_over_history_too(root: Path) -> None:
    record_trades(root, 10)
    with pytest.raises(StrategyError, match=r"state: expected values that pickle, found self\.rule \(function\)"):
        backtest(spec_in(root), KeepsALambda)


def test_history_that_is_no_history_fails_with_the_file(root: Path) -> None:
    path = root / "history" / "trades" / "X.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(ConfigurationError, match=r"X\.parquet: expected a readable Parquet file"):
        backtest(spec_in(root), Chatty)
    assert status_of(spec_in(root)).state is State.FAILED


def test_a_process_that_ends_by_a_bug_says_so_on_its_page_and_in_its_log(root: Path) -> None:
    record_trades(root, 10)
    code = root / "acme" / "strategies" / "chatty.py"
    code.parent.mkdir(parents=True)
    code.write_text(
        "from strategy_runner.strategies.interface import Inputs, Strategy\n"
        "class Chatty(Strategy):\n"
        "    inputs = Inputs(trades=True)\n"
        "    def on_trade(self, trade): self._proposals.append(5)\n"
    )
    spec = spec_in(root, code=str(code))
    with processes_in(root) as processes:
        assert processes.start("backtest", spec).wait(60) == 1
        assert "Traceback" in processes.output("backtest")
    status = status_of(spec)
    assert (status.state, status.reason) == (State.FAILED, "unforeseen")
    assert status.last_error.startswith("AttributeError: 'int' object has no attribute")


def test_a_process_whose_strategy_is_missing_is_failed_so_that_its_router_does_not_wait(root: Path) -> None:
    record_trades(root, 10)
    spec = spec_in(root, code=str(root / "gone.py"))
    with processes_in(root) as processes:
        assert processes.start("backtest", spec).wait(60) == 6
    assert status_of(spec).state is State.FAILED
    assert "expected a file that holds strategy chatty, found none" in status_of(spec).last_error
