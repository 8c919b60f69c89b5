"""A client's whole router for a benchmark: in this process with all its threads, beside it who talks and who trades.

    market      a process that appends trades of each symbol to a tape, syncs it every few milliseconds and rings
    talkers     a process that writes signals as workers do, all at once or at a pace, and rings for each
    paper OMS   the process that it is everywhere, for a client with the route to it

The router has its audit trail, its operator's hand and its DuckDB file. No signal waits at the gate: all name a record that is
durable from the beginning.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from decimal import Decimal
from math import nan
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.followers import PROCESSES
from strategy_runner.assembly import DUCKDB_PAUSE_S, make_router, open_database, set_up_interpreter
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import SignalDoorbell, StreamDoorbell, topic_of
from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.spec import MarketSpec, OmsSpec, PaperOmsSpec, QuantConnectSpec, RouterSpec, write_spec
from strategy_runner.model.decision import Decision
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.private import decode_private
from strategy_runner.model.signal import Cause, SignalBody, signal_id
from strategy_runner.model.stream import trades
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.market import Market
from strategy_runner.router.order_entry import Happened, Told
from strategy_runner.router.order_journal import order_log, read_orders
from strategy_runner.router.right_of_way import GiveWay, no_way_given
from strategy_runner.sinks.dead_letters import DeadLetterLog
from strategy_runner.sinks.interface import Sink
from strategy_runner.tape.logs import START, LogReader
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.outbox import Outbox

CLIENT = "bench"
PATIENCE_S = 30.0
_GENERATION = "00000000"
_STRATEGIES_MAX = 6
_PRICE = 100.0
_TRADES_PER_S = 40  # of each symbol
_DURABLE_S = 0.005
_DELIVER_S = 120.0  # for sinks that are behind: a thread that still writes would keep the folder
_RISK = RiskConfig(
    starting_cash=1e9,
    max_position_notional=1e9,
    max_order_value=1e6,
    max_daily_loss=1e6,
    max_drawdown=0.5,
    max_open_orders=2_000,
    price_collar=0.05,
    duplicate_window_s=0.01,
    runaway_signals=10_000,
    runaway_window_s=1.0,
)


class Routed:
    """The rig; to be used as a context. `workers` are spread over at most 6 strategies; so many orders may go a second, with 0
    there is no route to the OMS."""

    def __init__(self, workers: int, *, orders_per_s: int) -> None:
        self._folder = TemporaryDirectory(prefix="sr")
        self.root = Path(self._folder.name)
        self.workers = _names(workers)
        self._spec = _spec(self.root, self.workers, orders_per_s)
        self._context = new_context()
        self._probe = _Probe()
        self._fills = LogReader(self.root / "fills.log")
        self._filled = 0
        self._said = 0
        self._children: list[subprocess.Popen[bytes] | BaseProcess] = []

    def __enter__(self) -> "Routed":
        set_up_interpreter()
        self._begin(_trade, self.root, _symbols(self.workers))
        self._talkers = self._begin(_talk, self.root, self.workers)
        if self._spec.oms is not None:
            path = self.root / "oms.json"
            write_spec(path, _paper(self.root, self._spec))
            words = [sys.executable, "-m", "strategy_runner.assembly", str(path)]
            self._children.append(subprocess.Popen(words, stdin=subprocess.DEVNULL))
        market = Market(self.root / "tape")
        database = open_database(Path(self._spec.duckdb), CLIENT, DeadLetterLog(self.root / "dead_letters.log"))
        journal = decision_log(Path(self._spec.folder))
        sink = Delivery("duckdb", lambda: database, journal, pause_s=DUCKDB_PAUSE_S)
        self.router = make_router(self._spec, self._context, market, [self._probe, sink])
        trading = self.router._trading
        if trading is not None:
            self.turn_until(trading.desk.reconciled.is_set, "an OMS that was compared with")
        return self

    def __exit__(self, *_: object) -> None:
        self.router.stop(_DELIVER_S)
        for child in self._children:
            child.kill()
            child.wait() if isinstance(child, subprocess.Popen) else child.join()
        self._fills.close()
        self.router._listener.close()
        self._context.term()
        self._folder.cleanup()

    # -- the talkers -----------------------------------------------------------------------------------------------------

    def heap(self, count: int) -> None:
        """So many signals are in the logs when it returns, of all workers in turn."""
        self._talkers.send((count, 0.0))
        self._talkers.recv()
        self._said += count

    def pace(self, count: int, rate: float) -> None:
        """So many signals will come at a rate; returns at once."""
        self._talkers.send((count, rate))
        self._said += count

    def talked(self) -> bool:
        """Whether what was asked of the talkers last is said."""
        if not self._talkers.poll():
            return False
        self._talkers.recv()
        return True

    # -- the router ------------------------------------------------------------------------------------------------------

    def decide(self, count: int) -> None:
        """Turns until so many more signals are decided, all of them in the logs."""
        decided = 0
        while decided < count:
            self.router._next_look = 0.0
            decided += self.router.turn()

    def turn_until(self, condition: Callable[[], object], what: str, *, look_ms: int | None = None) -> None:
        """`look_ms` is for what no signal rings for: so often it is looked at."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {what} within {PATIENCE_S:g} s, found none")
            if self.router.turn():
                continue
            if look_ms is None:
                self.router.wait()
            else:
                self.router._listener.wait(look_ms)

    def settle(self) -> None:
        """Returns when the sinks have all that is decided, and no order is open."""
        trading = self.router._trading
        number = self.router._journal.number
        self.turn_until(lambda: all(one.cursor >= number for one in self.router._deliveries), "sinks that follow")
        if trading is not None:
            self.turn_until(
                lambda: trading.desk.cursor >= number and not trading.desk.open_orders, "fills of all orders"
            )

    @property
    def is_all_decided(self) -> bool:
        return self.router._journal.number >= self._said

    # -- what came of it -------------------------------------------------------------------------------------------------

    def durable(self, since: int) -> list[tuple[Decision, int]]:
        """The decisions from a number on, each with when it was known to be on the disk (ns)."""
        reader = LogReader(decision_log(self.root / "router"), START)
        found: list[tuple[Decision, int]] = []
        marks = iter(self._probe.marks)
        below, at_ns = next(marks)
        for end, decision in _decisions(reader):
            while below < end:
                below, at_ns = next(marks)
            if decision.number >= since:
                found.append((decision, at_ns))
        reader.close()
        return found

    def acknowledged_ns(self) -> dict[str, int]:
        """By client order id, when the desk noted that the OMS has it."""
        entries = (entry for _, entry in read_orders(order_log(self.root / "router")))
        return {
            entry.report.client_order_id: entry.at_ns
            for entry in entries
            if isinstance(entry, Told) and entry.report.state == "acknowledged"
        }

    def filled_ns(self, order_ids: Container[str]) -> list[int]:
        """When the desk had told of each fill of these orders."""
        entries = (entry for _, entry in read_orders(order_log(self.root / "router")) if isinstance(entry, Happened))
        return [one.at_ns for one in entries if one.event.fill and one.event.fill.client_order_id in order_ids]

    def filled(self) -> int:
        """How many fills the workers were told of. It reads only what is new, and so stands in nobody's way."""
        self._filled += sum(decode_private(payload).event.fill is not None for _, payload in self._fills.read())
        return self._filled

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _begin(self, child: Callable[..., None], *given: object) -> Connection:
        ours, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=child, args=(*given, theirs), daemon=True)
        process.start()
        self._children.append(process)
        if not ours.poll(PATIENCE_S):
            raise TimeoutError(f"expected {child.__name__} within {PATIENCE_S:g} s, found it not ready")
        ours.recv()
        return ours


class _Probe(Delivery):
    """Takes the place of a sink, and only notes when decisions up to an offset were on the disk."""

    def __init__(self) -> None:
        super().__init__("probe", _never, Path(), pause_s=0.0)
        self.marks: list[tuple[int, int]] = []
        self.cursor = 1 << 62

    def start(self, give_way: GiveWay = no_way_given) -> None:
        """It has no thread."""

    def advance(self, below: int) -> None:
        self.marks.append((below, time.time_ns()))

    def stop(self, timeout_s: float) -> None:
        """Nothing is under way."""


# -- the other processes -------------------------------------------------------------------------------------------------


def _trade(root: Path, symbols: list[str], ready: Connection) -> None:
    """The market, until it is killed."""
    tape = TapeWriter(root / "tape", segment_records=65_536)
    bell = StreamDoorbell(f"ipc://{root}/bell")
    streams = [(trades(symbol).name, tape.stream_id(trades(symbol))) for symbol in symbols]
    due, every = 0.0, 1.0 / _TRADES_PER_S / len(symbols)
    at = 0
    begun = time.monotonic()
    is_told = False
    while True:
        while at < len(streams) or begun + due <= time.monotonic():
            name, stream = streams[at % len(streams)]
            seq = tape.seq
            tape.append(stream, time.time_ns(), _PRICE, 1.0, 1.0, nan, nan)
            tape.publish()
            bell.ring(topic_of(name), seq)
            at, due = at + 1, due + every
        tape.make_durable()
        if not is_told:
            ready.send(True)
            is_told = True
        time.sleep(_DURABLE_S)


def _talk(root: Path, workers: list[str], asked: Connection) -> None:
    """Says (count, rate) signals whenever it is asked, at once where the rate is 0, and answers when they are said. What is due
    at one time is said in one turn: each worker of it writes and rings once, as workers do."""
    said = 0
    logs = [root / "workers" / worker / "signals.log" for worker in workers]
    outboxes = [Outbox(log, generation=_GENERATION, mode="mock") for log in logs]
    bells = [SignalDoorbell(f"ipc://{root}/router.sock", worker) for worker in workers]
    asked.send(True)

    def flush(speaking: set[int]) -> None:
        for index in speaking:
            outboxes[index].flush()
            bells[index].ring()
        speaking.clear()

    while True:
        count, rate = asked.recv()
        begun = time.perf_counter()
        speaking: set[int] = set()
        for number in range(count):
            left_s = begun + number / rate - time.perf_counter() if rate else 0.0
            if left_s > 0:
                flush(speaking)
                time.sleep(left_s)
            index, n = said % len(workers), said // len(workers)
            outboxes[index].record(n, _body(workers[index], n), 0)
            speaking.add(index)
            said += 1
        flush(speaking)
        asked.send(True)


def _body(worker: str, n: int) -> SignalBody:
    strategy, _, symbol = worker.partition(".")
    return SignalBody(
        id=signal_id(WorkerKey(CLIENT, strategy, symbol).name, _GENERATION, n),
        client=CLIENT,
        strategy=strategy,
        symbol=symbol,
        venue="bench",
        timeframe="1m",
        action="buy",
        size=(1 + n % 500) / 1e3,  # none is a duplicate of one just before
        entry_price=_PRICE,
        stop_loss=None,
        take_profit=None,
        confidence=0.9,
        strength=None,
        strategy_type="talk",
        models=(),
        cause=Cause(stream=f"{symbol}/trade", ordinal=n, event_ns=time.time_ns(), values=(_PRICE, 1.0, 1.0)),
        reasons=("bench",),
        refusal=None,
    )


# -- what they are told --------------------------------------------------------------------------------------------------


def _names(workers: int) -> list[str]:
    strategies = next(count for count in range(min(_STRATEGIES_MAX, workers), 0, -1) if not workers % count)
    symbols = workers // strategies
    return [f"strategy_{one}.S{two:02d}-USD" for two in range(symbols) for one in range(strategies)]


def _symbols(workers: list[str]) -> list[str]:
    return sorted({worker.partition(".")[2] for worker in workers})


def _spec(root: Path, workers: list[str], orders_per_s: int) -> RouterSpec:
    symbols = _symbols(workers)
    oms = OmsSpec(
        kind="paper",
        endpoint=f"ipc://{root}/oms.sock",
        accounts=dict.fromkeys(symbols, "main"),
        fills=str(root / "fills.log"),
    )
    return RouterSpec(
        client=CLIENT,
        mode="mock",
        workers=tuple(workers),
        freshness={},
        ordered=False,
        bulk=False,
        routes=("oms",) if orders_per_s else (),
        market=MarketSpec(tape=str(root / "tape"), doorbell=f"ipc://{root}/bell", frames=""),
        doorbell=f"ipc://{root}/router.sock",
        sql="",
        folder=str(root / "router"),
        workers_folder=str(root / "workers"),
        duckdb=str(root / "signals.duckdb"),
        quantconnect=QuantConnectSpec(folder=""),
        log="",
        log_level="info",
        oms=oms if orders_per_s else None,
        risk=msgspec.structs.replace(
            _RISK, max_orders_per_second=orders_per_s, max_orders_per_minute=60 * orders_per_s
        ),
        instruments={
            symbol: Instrument(
                symbol=symbol,
                asset_class="crypto",
                currency="USD",
                tick_size=Decimal("0.01"),
                lot_size=Decimal("0.001"),
            )
            for symbol in symbols
        },
    )


def _paper(root: Path, router: RouterSpec) -> PaperOmsSpec:
    assert router.oms is not None
    return PaperOmsSpec(
        mode=router.mode,
        endpoints={CLIENT: router.oms.endpoint},
        instruments=router.instruments,
        fills=FillSettings(),
        fills_by_symbol={},
        opening={},
        market=router.market,
        folder=str(root / "oms"),
        log="",
        log_level="warning",
    )


def _decisions(reader: LogReader) -> Iterator[tuple[int, Decision]]:
    decode, before = msgspec.msgpack.Decoder(Decision).decode, -1
    while reader.offset != before:
        before = reader.offset
        for end, payload in reader.read():
            yield end, decode(payload)


def _never() -> Sink:
    raise AssertionError("it has no thread that would open it")
