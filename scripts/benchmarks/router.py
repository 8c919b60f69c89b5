"""router: signals decided and durable, and orders at the OMS, through one client's router with risk and order desk.

The router runs in this process, the OMS (one that fills at once, in memory) in another. The reference of what is written is
the same bytes appended and synced (fdatasync) by themselves, in groups of the same size.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from math import nan
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.followers import PROCESSES
from benchmarks.oms import Memory
from strategy_runner.assembly import make_trading
from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import SignalDoorbell, SignalListener
from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.spec import MarketSpec, OmsSpec, QuantConnectSpec, RouterSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent, OmsEventKind, OrderReport, OrderRequest, OrderState
from strategy_runner.model.signal import Cause, SignalBody, signal_id
from strategy_runner.model.stream import Stream
from strategy_runner.oms.server import OmsServer
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.market import Market
from strategy_runner.router.order_entry import Told
from strategy_runner.router.order_journal import order_log, read_fills, read_orders
from strategy_runner.router.router import TURN_SIGNALS_MAX, Router
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.tape.status import StatusFile
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.outbox import Outbox

NAME = "router"
_CLIENT = "bench"
_GENERATION = "00000000"
_SYMBOLS = 5
_STRATEGIES = 4
_PRICE = 100.0
_PATIENCE_S = 60.0
_BURST = 10_000
_ORDERS_PER_S = 1_000
_PACE = 1_000  # a little less than may go, as signals come by no clock
_ONE_BY_ONE = 300
_RISK = RiskConfig(
    starting_cash=1e9,
    max_position_notional=1e9,
    max_order_value=1e6,
    max_daily_loss=1e6,
    max_drawdown=0.5,
    max_orders_per_second=1_100,
    max_orders_per_minute=100_000,
    max_open_orders=200,
    price_collar=0.05,
    runaway_signals=100_000,
    runaway_window_s=1.0,
)


def run(settings: Settings) -> Iterator[Figure]:
    burst = min(_BURST, 10 * settings.events)
    singles = min(_ONE_BY_ONE, settings.events)
    rates, bare_rates, latencies, syncs, acknowledged, paced = [], [], [], [], [], []
    for _ in range(settings.runs):
        with _Bench() as bench:
            rates.append(bench.burst(burst))
            bare_rates.append(bench.bare_rate(burst))
        with _Bench() as bench:
            latencies.append(bench.one_by_one(singles))
            syncs.append(bench.bare_syncs(singles))
            acknowledged.append(bench.acknowledged_us())
        with _Bench() as bench:
            paced.append(bench.paced(burst // 4))
    against = "the same bytes appended and synced"
    what = f"signals checked and durable, {burst} of {_STRATEGIES * _SYMBOLS} workers at once, {_ORDERS_PER_S} accepted"
    yield figure(settings, NAME, what, "1/s", Sample.of(rates), Sample.of(bare_rates), against)
    for percent in (50.0, 99.0):
        yield figure(
            settings,
            NAME,
            f"signal written to decision durable, p{percent:g}",
            "us",
            Sample.of(one.percentile(percent) for one in latencies),
            Sample.of(one.percentile(percent) for one in syncs),
            "one decision appended and synced",
        )
        yield figure(
            settings,
            NAME,
            f"decision durable to order acknowledged, p{percent:g}",
            "us",
            Sample.of(one.percentile(percent) for one in acknowledged),
            Sample.of(one.percentile(percent) for one in syncs),
            "one decision appended and synced",
        )
    yield figure(
        settings,
        NAME,
        f"orders filled and told, of {_PACE} signals a second",
        "1/s",
        Sample.of(paced),
        Sample.of([float(_PACE)]),
        "signals a second",
    )


class _Bench:
    """A router over a folder of its own, with an OMS beside it."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="sr")
        root = self._root = Path(self._folder.name)
        self._context = new_context()
        self._spec = _spec(root)
        tape = TapeWriter(root / "tape", segment_records=1_024)
        for number in range(_SYMBOLS):
            tape.append(tape.stream_id(Stream.parse(f"S{number}-USD/trade")), 1, _PRICE, 1.0, 1.0, nan, nan)
        tape.publish()
        tape.make_durable()
        self._said = 0
        self._outboxes = [Outbox(self._log(worker), generation=_GENERATION, mode="mock") for worker in _workers()]
        self._bells = [SignalDoorbell(self._context, self._spec.doorbell, worker) for worker in _workers()]

    def __enter__(self) -> "_Bench":
        assert self._spec.oms is not None
        ours, theirs = PROCESSES.Pipe()
        self._child = PROCESSES.Process(target=_serve, args=(self._spec.oms.endpoint, theirs), daemon=True)
        self._child.start()
        if not ours.poll(_PATIENCE_S):
            raise TimeoutError(f"{NAME}: expected an OMS within {_PATIENCE_S:g} s, found none")
        ours.recv()
        market = Market(self._root / "tape")
        self._listener = SignalListener(self._context, self._spec.doorbell)
        trading = make_trading(self._spec, self._context, market)
        assert trading is not None
        self._trading = trading
        self._router = Router(
            self._spec,
            listener=self._listener,
            durable=market.durable,
            deliveries=(),
            status=StatusFile(self._root / "router" / "status"),
            market=market,
            trading=trading,
        )
        self._turn_until(trading.desk.reconciled.is_set)
        return self

    def __exit__(self, *_: object) -> None:
        self._router.stop()
        self._child.kill()
        self._child.join()
        for bell in self._bells:
            bell.close()
        self._listener.close()
        self._context.term()
        self._folder.cleanup()

    # -- measuring -------------------------------------------------------------------------------------------------------

    def burst(self, count: int) -> float:
        """Decisions a second, from a heap of signals that is there."""
        for _ in range(count):
            self._say()
        for outbox in self._outboxes:
            outbox.flush()
        begun = time.perf_counter()
        decided = 0
        while decided < count:
            self._router._next_look = 0.0
            decided += self._router.turn()
        return count / (time.perf_counter() - begun)

    def bare_rate(self, count: int) -> float:
        payloads = list(read_log(decision_log(self._root / "router")))[:count]
        log = AppendLog(self._root / "bare.log")
        begun = time.perf_counter()
        for at in range(0, len(payloads), TURN_SIGNALS_MAX):
            log.append_many(payloads[at : at + TURN_SIGNALS_MAX])
            log.sync()
        return len(payloads) / (time.perf_counter() - begun)

    def one_by_one(self, count: int) -> Sample:
        """Microseconds from a signal's ring to its decision on the disk, one at a time."""
        found = []
        for _ in range(count):
            number = self._say()
            begun = time.perf_counter_ns()
            self._flush(number)
            while not self._router.turn():
                self._router.wait()
            found.append((time.perf_counter_ns() - begun) / 1e3)
            self._turn_until(lambda: self._trading.desk.cursor >= self._said)
        self._turn_until(lambda: self._fills() >= count)
        return Sample.of(found)

    def bare_syncs(self, count: int) -> Sample:
        payloads = list(read_log(decision_log(self._root / "router")))[:count]
        log = AppendLog(self._root / "bare.log")
        found = []
        for payload in payloads:
            begun = time.perf_counter_ns()
            log.append(payload)
            log.sync()
            found.append((time.perf_counter_ns() - begun) / 1e3)
        return Sample.of(found)

    def acknowledged_us(self) -> Sample:
        """From the decision's own time to the note of the answer, for every order so far; the sync of the decision is in it."""
        decided = {one.orders[0].client_order_id: one.decided_ns for one in self._decisions() if one.orders}
        return Sample.of(
            (entry.at_ns - decided[entry.report.client_order_id]) / 1e3 for entry in self._told_acknowledged()
        )

    def paced(self, count: int) -> float:
        """Orders acknowledged a second, while signals come at a steady rate."""
        stopping = threading.Event()

        def talk() -> None:
            begun = time.perf_counter()
            for number in range(count):
                left_s = begun + number / _PACE - time.perf_counter()
                if left_s > 0:
                    time.sleep(left_s)
                self._flush(self._say())
            stopping.set()

        talker = threading.Thread(target=talk)
        begun = time.perf_counter()
        talker.start()
        while not (stopping.is_set() and self._trading.record.decisions >= count):
            if not self._router.turn():
                self._router.wait()
        accepted = sum(bool(one.orders) for one in self._decisions())
        self._turn_until(lambda: self._fills() >= accepted)
        elapsed = time.perf_counter() - begun
        talker.join()
        return accepted / elapsed

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _told_acknowledged(self) -> list[Told]:
        entries = [entry for _, entry in read_orders(order_log(self._root / "router"))]
        return [entry for entry in entries if isinstance(entry, Told) and entry.report.state == "acknowledged"]

    def _fills(self) -> int:
        return sum(1 for _ in read_fills(self._root / "fills.log"))

    def _decisions(self) -> list[Decision]:
        reader, found = DecisionReader(decision_log(self._root / "router")), []
        while decisions := reader.read():
            found += decisions
        reader.close()
        return found

    def _turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{NAME}: expected the desk to follow within {_PATIENCE_S:g} s")
            if not self._router.turn():
                time.sleep(0.0005)

    def _say(self) -> int:
        """Makes the next signal; returns whose it is."""
        number = self._said % len(self._outboxes)
        worker, n = _workers()[number], self._said // len(self._outboxes)
        self._outboxes[number].record(n, _body(worker, n), 0)
        self._said += 1
        return number

    def _flush(self, number: int) -> None:
        self._outboxes[number].flush()
        self._bells[number].ring()

    def _log(self, worker: str) -> Path:
        return self._root / "workers" / worker / "signals.log"


class _Filling(Memory):
    """An OMS that fills each order as it takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[OmsEvent] = []
        self.on_news: Callable[[str, int], None] = lambda client, number: None

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        reports = super().submit(client, orders)
        for order, report in zip(orders, reports, strict=True):
            self._tell("acknowledged", order, report, None)
            fill = Fill(
                fill_id=order.client_order_id,
                client_order_id=order.client_order_id,
                signal_id=order.signal_id,
                client=client,
                account=order.account,
                strategy=order.strategy,
                symbol=order.symbol,
                side=order.side,
                price=Decimal(100),
                quantity=order.quantity,
                fee=Decimal(0),
                currency="USD",
                liquidity="taker",
                event_ns=order.event_ns,
            )
            self._tell("fill", order, msgspec.structs.replace(report, state=OrderState.FILLED), fill)
        self.on_news(client, len(self._events))
        return reports

    def _tell(self, kind: OmsEventKind, order: OrderRequest, report: OrderReport, fill: Fill | None) -> None:
        event = OmsEvent(
            number=len(self._events),
            client=order.client,
            kind=kind,
            event_ns=order.event_ns,
            seq=-1,
            report=report,
            fill=fill,
            account=order.account,
            strategy=order.strategy,
            symbol=order.symbol,
        )
        self._events.append(event)

    def open_orders(self, client: str) -> list[OrderReport]:
        return []

    def events(self, client: str, from_number: int, limit: int) -> list[OmsEvent]:
        return self._events[from_number : from_number + limit]

    def last_number(self, client: str) -> int:
        return len(self._events)


def _serve(endpoint: str, ready: Connection) -> None:
    backend = _Filling()
    server = OmsServer(new_context(), backend, name="bench")
    backend.on_news = server.on_news
    server.serve(_CLIENT, endpoint)
    ready.send(True)
    while True:
        server.check()
        time.sleep(1.0)


def _workers() -> tuple[str, ...]:
    return tuple(f"strategy_{one}.S{two}-USD" for one in range(_STRATEGIES) for two in range(_SYMBOLS))


def _body(worker: str, n: int) -> SignalBody:
    strategy, _, symbol = worker.partition(".")
    return SignalBody(
        id=signal_id(WorkerKey(_CLIENT, strategy, symbol).name, _GENERATION, n),
        client=_CLIENT,
        strategy=strategy,
        symbol=symbol,
        venue="bench",
        timeframe="1m",
        action="buy",
        size=0.1,
        entry_price=_PRICE,
        stop_loss=None,
        take_profit=None,
        confidence=0.9,
        strength=None,
        strategy_type="talk",
        models=(),
        cause=Cause(stream=f"{symbol}/trade", ordinal=n, event_ns=1 + n, values=(_PRICE, 1.0, 1.0)),
        reasons=("bench",),
        refusal=None,
    )


def _spec(root: Path) -> RouterSpec:
    symbols = [f"S{number}-USD" for number in range(_SYMBOLS)]
    return RouterSpec(
        client=_CLIENT,
        mode="mock",
        workers=_workers(),
        freshness={},
        ordered=False,
        bulk=False,
        routes=("oms",),
        market=MarketSpec(tape=str(root / "tape"), doorbell="", frames=""),
        doorbell=f"ipc://{root}/router.sock",
        sql="",
        folder=str(root / "router"),
        workers_folder=str(root / "workers"),
        duckdb="",
        quantconnect=QuantConnectSpec(folder=""),
        log="",
        log_level="info",
        oms=OmsSpec(
            kind="paper",
            endpoint=f"ipc://{root}/oms.sock",
            accounts=dict.fromkeys(symbols, "main"),
            fills=str(root / "fills.log"),
        ),
        risk=_RISK,
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
