"""A client that trades, in tests: workers that only talk, a router with its order desk, and a venue or the paper OMS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from router.desk import CLIENT, Talker, decisions_in, router_spec
from worker.build import START_NS, new_tape, write_rows
from worker.processes import await_that

from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import SignalListener
from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.spec import FreshnessSpec, OmsSpec, RouterSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.private import PrivateEntry
from strategy_runner.oms.interface import Oms
from strategy_runner.oms.zeromq import ZeroMqOms
from strategy_runner.router.desk import Desk
from strategy_runner.router.market import Market
from strategy_runner.router.operator import Operator
from strategy_runner.router.order_entry import Intended, OrderEntry
from strategy_runner.router.order_journal import order_log, read_fills, read_orders
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.router.router import Router
from strategy_runner.router.trading import Trading
from strategy_runner.tape.status import StatusFile

D = Decimal
SECOND = 1_000_000_000
TALK = "talk.X"


def instrument(symbol: str, **changes: Any) -> Instrument:
    made = Instrument(symbol=symbol, asset_class="crypto", currency="USD", tick_size=D("0.01"), lot_size=D("0.1"))
    return msgspec.structs.replace(made, **changes)


def trading_spec(root: Path, workers: tuple[str, ...] = (TALK,), *, endpoint: str = "", **changes: Any) -> RouterSpec:
    symbols = {worker.partition(".")[2] for worker in workers}
    spec = router_spec(
        root,
        workers,
        routes=("oms",),
        oms=OmsSpec(
            kind="paper",
            endpoint=endpoint or f"ipc://{root}/venue.sock",
            accounts=dict.fromkeys(symbols, "main"),
            fills=str(root / "fills.log"),
        ),
        instruments={symbol: instrument(symbol) for symbol in symbols},
        risk=RiskConfig(),
    )
    return msgspec.structs.replace(spec, **changes)


class Floor:
    """One router with its desk over one folder, in this process. `restart` is what a killed one is followed by."""

    def __init__(
        self,
        root: Path,
        *workers: str,
        open_oms: Callable[[], Oms] | None = None,
        price: float | None = 100.0,
        **changes: Any,
    ) -> None:
        """`price` is that of each symbol's first trade; None leaves the tape empty."""
        self.root = root
        self.spec = trading_spec(root, workers or (TALK,), **changes)
        self.talkers = {worker: Talker(root, worker) for worker in self.spec.workers}
        self.tape = new_tape(root)
        self.context = new_context()
        self._open_oms = open_oms or (
            lambda: ZeroMqOms(self.context, CLIENT, self.spec.oms.endpoint, timeout_s=0.3)  # type: ignore[union-attr]
        )
        self.at_ns = START_NS
        for symbol in self.spec.instruments if price is not None else ():
            self.trade(symbol, price)
        self._listener: SignalListener | None = None
        self._desk: Desk | None = None
        self.router: Router | None = None

    def trade(self, symbol: str, price: float) -> None:
        self.at_ns += SECOND
        write_rows(self.tape, [(f"{symbol}/trade", self.at_ns, (price, 5.0, 1.0))])

    def start(self) -> Router:
        self._listener = SignalListener(self.spec.doorbell)
        market = Market(self.root / "tape")
        self._desk = desk = Desk(self.spec, self._open_oms, clock=market.clock_ns, event_ns=market.event_ns)
        record = RiskRecord(Path(self.spec.folder), CLIENT, self.spec.mode)
        self.trading = Trading(self.spec, record, desk, market)
        self.router = Router(
            self.spec,
            listener=self._listener,
            durable=market.durable,
            deliveries=(),
            status=StatusFile(self.root / "router" / "status"),
            market=market,
            trading=self.trading,
            operator=Operator(
                self.root / "router",
                self.root / "workers",
                client=CLIENT,
                trading=self.trading,
                on_restart=self.spec.on_restart,
            ),
        )
        return self.router

    def stop(self) -> None:
        if self.router is not None:
            self.router.stop()
            self.router = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def kill(self) -> None:
        """As kill -9, as far as that can be in one process: nothing of the router goes on, and nothing is said or kept."""
        desk = self._desk
        if desk is not None and desk._thread.is_alive():
            desk._stopping.set()
            desk._wake()
            desk._thread.join()
        if self._listener is not None:
            self._listener.close()
        self.router = self._listener = None

    def turn_until(self, condition: Callable[[], object], what: str) -> None:
        def holds() -> object:
            assert self.router is not None
            self.router._next_look = 0.0
            self.router.turn()
            return condition()

        await_that(holds, what)

    def say(self, worker: str = TALK, **changes: Any) -> str:
        return self.talkers[worker].say(**changes)

    def decided(self, count: int) -> list[Decision]:
        self.turn_until(lambda: len(self.decisions()) >= count, f"{count} decisions")
        return self.decisions()

    def decisions(self) -> list[Decision]:
        return decisions_in(self.root)

    def rulings(self) -> list[tuple[str, str]]:
        return [(decision.verdict, decision.reason) for decision in self.decisions()]

    def orders(self) -> list[OrderEntry]:
        return [entry for _, entry in read_orders(order_log(self.root / "router"))]

    def fills(self) -> list[PrivateEntry]:
        return list(read_fills(self.root / "fills.log"))

    def close(self) -> None:
        self.stop()
        self.context.destroy(linger=0)


Make = Callable[..., Floor]


@contextmanager
def floors_in(root: Path, *, started: bool = True) -> Iterator[Make]:
    """Makes floors over one folder, and closes them."""
    made: list[Floor] = []

    def make(*workers: str, **changes: Any) -> Floor:
        made.append(Floor(root, *workers, **changes))
        if started:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def exits(floor: Floor) -> list[Any]:
    """The orders that were to make somebody flat."""
    return [e.order for e in floor.orders() if isinstance(e, Intended) and e.order.leg == "flatten"]


def freshness(time_to_live_s: float = 60.0) -> FreshnessSpec:
    return FreshnessSpec(
        time_to_live_s=time_to_live_s, feed_stale_after_s=None, symbol_stale_after_s=None, asset_class="crypto"
    )


def begun(root: Path, *workers: str) -> Floor:
    """One that trades, and has compared its orders with the OMS's."""
    one = Floor(root, *workers)
    one.start()
    one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
    return one
