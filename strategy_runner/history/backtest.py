"""Historical mode: a worker that reads history itself, as fast as it goes, and then ends.

The same machine and the same derivation as at a pace; only the tape is left out. When the strategy wants nothing but the
series that is recorded, whole blocks go to it without being derived row by row.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.feed.derive import Derivation, handles_by_symbol
from strategy_runner.history.bookkeeper import Bookkeeper
from strategy_runner.history.both_ways import BothWays, Came
from strategy_runner.history.catalog import Series, find_series
from strategy_runner.history.last_price import LastPrice
from strategy_runner.history.quality import QualityReport
from strategy_runner.history.reader import Block, read_series
from strategy_runner.history.replay import ReplaySource
from strategy_runner.model.event import Bar, Event, Quote, Trade
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import SignalBody
from strategy_runner.strategies.interface import Bars, Strategy
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.worker.fault_log import FaultLog
from strategy_runner.worker.machine import Machine
from strategy_runner.worker.outbox import Outbox
from strategy_runner.worker.paper_log import PaperLog
from strategy_runner.worker.subscription import Subscription
from strategy_runner.worker.vectorised import apply_bars, reason_against

TURN_RAW_MAX = 8_192
_FOREVER = 1 << 62
ONE_BY_ONE = "one by one"

log = logging.getLogger(__name__)


class Backtest:
    """One worker over its history. Run again after a kill it derives the same signals and compares them with its log."""

    def __init__(
        self, spec: WorkerSpec, strategy: Strategy, *, status: StatusFile, twin: Strategy | None = None
    ) -> None:
        """With `spec.checked_bars` the strategy takes bars at once where it can, and its `twin` the first of them one by one."""
        assert spec.history is not None, "historical mode needs a history folder"
        self._spec = spec
        self._history = spec.history
        self._file = status
        self._outbox = Outbox(Path(spec.folder) / "signals.log", generation=spec.generation, mode=spec.mode)
        self._paper = PaperLog(Path(spec.folder) / "fills.log") if spec.paper else None
        self._came = Came()
        self._twin = twin
        self._checks = False  # whether what comes is still to be compared
        self._way = ONE_BY_ONE
        keep = self._keep_fill if twin is not None or self._paper is None else self._paper.record
        record = self._record if twin is not None else self._outbox.record
        self._machine = Machine(spec, strategy, record, keep=keep)
        self._faults = FaultLog()
        self._ordinals = dict.fromkeys(self._machine.subscriptions, 0)
        self._reports: Callable[[], dict[str, QualityReport]] = dict

    def run(self, stopping: Callable[[], bool]) -> None:
        """Returns when history ends or `stopping` says so, checked between blocks. Raises StrategyRunnerError."""
        self._file.enter(State.CATCHING_UP, "running over history")
        try:
            self._machine.start()
            self._machine.state()  # nothing keeps it here: what could not be kept at a pace is told now
            series = self._only_series()
            with self._second_process() as bookkeeper:
                if series is None:
                    self._run_derived(stopping)
                else:
                    self._run_blocks(series, stopping, bookkeeper)
            self._machine.stop()
        except StrategyRunnerError as error:
            self._flush()
            self._file.status.signals, self._file.status.refusals = self._outbox.signals, self._outbox.refusals
            self._file.fail(error)
            raise
        self._flush()
        self._outbox.sync()
        if self._paper is not None:
            self._paper.sync()
        if stopping():
            self._file.enter(State.STOPPED, "interrupted")
        else:
            self._file.status.progress = self._file.status.total
            self._file.enter(State.FINISHED, f"history has ended; {self._way}")

    def last_price(self) -> LastPrice | None:
        """Of its own symbol; None where it has met none."""
        price = self._machine.last_price
        return None if price is None else LastPrice(self._file.status.event_ns, price)

    def reports(self) -> dict[str, QualityReport]:
        """What the quality gate saw, by recorded series."""
        return self._reports()

    def _second_process(self) -> AbstractContextManager[Bookkeeper | None]:
        """Forked before the reader has a thread."""
        if self._spec.spare_core:
            desk, listens = self._machine.paper, self._machine.listens
            counted = (desk, self._paper) if desk is not None and self._paper is not None and not listens else None
            try:
                return Bookkeeper(self._outbox, counted)
            except OSError as error:
                log.warning("the worker keeps its logs itself: no second process: %s", error)
        return nullcontext()

    # -- both ways -------------------------------------------------------------------------------------------------------

    def _only_series(self) -> Series | None:
        """The recorded series, if it is all the strategy wants."""
        if len(self._machine.subscriptions) != 1:
            return None
        base = find_series(Path(self._history.folder), self._spec.symbol).base
        return base if self._machine.subscriptions[0].stream == base.stream else None

    def _run_blocks(self, series: Series, stopping: Callable[[], bool], bookkeeper: Bookkeeper | None) -> None:
        subscription = self._machine.subscriptions[0]
        ordinal = 0
        with read_series(series, self._history.from_ns, self._history.to_ns, ahead=True) as reader:
            self._reports = lambda: {series.stream.name: reader.report}
            apply = self._apply_events if self._twin is None else self._apply_columns(self._twin)
            for block in reader:
                if bookkeeper is not None and not self._checks:
                    bookkeeper.begin_counting()
                apply(subscription, ordinal, block)
                ordinal += len(block)
                self._report(ordinal, int(block.ts[-1]), (reader.rows_done, reader.rows_total))
                if stopping():
                    break

    def _apply_events(self, subscription: Subscription, ordinal: int, block: Block) -> None:
        self._machine.apply_block(subscription, ordinal, _events(block))

    def _apply_columns(self, twin: Strategy) -> Callable[[Subscription, int, Block], None]:
        """What takes blocks at once, and the first of them one by one too, if the worker can."""
        reason = reason_against(self._machine)
        if reason:
            self._way = f"{ONE_BY_ONE}: {reason}"
            return self._apply_events
        machine, left = self._machine, self._spec.checked_bars or 0
        self._checks = left > 0
        both = BothWays(self._spec, machine, self._came, twin)

        def apply(subscription: Subscription, ordinal: int, block: Block) -> None:
            bars = Bars(block.ts, *block.values)
            checked = min(max(left - ordinal, 0), len(block))
            for came in both.apply(subscription, ordinal, bars.part(0, checked)):
                self._take(came)
            self._checks = checked == len(block)
            if not self._checks:
                apply_bars(machine, subscription, ordinal + checked, bars.part(checked, len(block)))
            self._way = f"bars at once, {min(left, ordinal + len(block))} checked"

        return apply

    def _take(self, came: Came) -> None:
        for signal in came.signals:
            self._outbox.record(*signal)
        for payload in came.fills:
            assert self._paper is not None
            self._paper.record(payload)

    def _run_derived(self, stopping: Callable[[], bool]) -> None:
        machine, ordinals = self._machine, self._ordinals
        if self._twin is not None:
            self._way = f"{ONE_BY_ONE}: {reason_against(machine) or 'its bars are made of what history has'}"

        def emit(subscription: Subscription, event_ns: int, *values: float) -> None:
            ordinal = ordinals[subscription]
            machine.apply(subscription, ordinal, subscription.make(event_ns, *values))
            ordinals[subscription] = ordinal + 1

        source = ReplaySource(self._history)
        wanted = handles_by_symbol({subscription.stream: subscription for subscription in machine.subscriptions})
        derivations = {
            symbol: Derivation(
                source.base(symbol),
                handles,
                emit=emit,
                seed=self._spec.predictor.seed,
                known_ns=source.known_ns(symbol),
            )
            for symbol, handles in wanted.items()
        }
        source.add(derivations)
        self._reports = source.reports
        trade, quote = int(Kind.TRADE), int(Kind.QUOTE)
        while rows := source.take(TURN_RAW_MAX, _FOREVER):
            for symbol, kind, event_ns, v0, v1, v2, v3, v4 in rows:
                if kind == trade:
                    derivations[symbol].trade(event_ns, v0, v1, v2)
                elif kind == quote:
                    derivations[symbol].quote(event_ns, v0, v1, v2, v3)
                else:
                    derivations[symbol].bar(event_ns, v0, v1, v2, v3, v4)
            self._report(sum(ordinals.values()), rows[-1][2], source.progress())
            if stopping():
                break

    def _keep_fill(self, payload: bytes) -> None:
        assert self._paper is not None, "only a worker that fills its own orders has fills to keep"
        if self._checks:
            self._came.fills.append(payload)
        else:
            self._paper.record(payload)

    def _record(self, n: int, body: SignalBody, seq: int) -> None:
        if self._checks:
            self._came.record(n, body, seq)
        else:
            self._outbox.record(n, body, seq)

    def _flush(self) -> int:
        """Writes what was collected; returns how many signals."""
        if self._paper is not None:
            self._paper.flush()
        return self._outbox.flush()

    def _report(self, records: int, event_ns: int, progress: tuple[int, int]) -> None:
        status, outbox = self._file.status, self._outbox
        self._faults.note(self._machine.take_faults())
        if self._flush():
            status.last_signal, status.last_signal_ns = outbox.last_id, time.time_ns()
        status.records = status.position = records
        status.event_ns = event_ns
        status.progress, status.total = progress
        status.signals, status.refusals = outbox.signals, outbox.refusals
        self._file.write()


def _events(block: Block) -> "map[Event]":
    """The rows as events, each with its numbers made when it is asked for: a list of them would be out of the processor's cache
    before it is used. A memoryview gives Python's own numbers, faster than numpy does."""
    symbol = repeat(block.stream.symbol)
    columns = [column.data for column in (block.ts, *block.values)]
    if block.stream.kind is Kind.BAR:
        return map(Bar, symbol, repeat(block.stream.timeframe), *columns)
    return map(Trade if block.stream.kind is Kind.TRADE else Quote, symbol, *columns)
