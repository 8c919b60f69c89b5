"""oms: from submit to acknowledged between two processes over the OMS protocol, beside a bare ZeroMQ round trip.

The OMS takes each order in memory and answers: what is measured is the protocol with its checks, not the disk behind it.
The reference sends the same bytes to a REP socket that sends them back.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import zmq

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.followers import PROCESSES
from strategy_runner.bus.context import new_context
from strategy_runner.model.order import (
    OmsEvent,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderState,
    client_order_id,
)
from strategy_runner.model.position import Position
from strategy_runner.oms.protocol import Request, Submit, encode
from strategy_runner.oms.server import OmsServer
from strategy_runner.oms.zeromq import ZeroMqOms

NAME = "oms"
_CLIENT = "bench"
_WARM_UP = 100
_PATIENCE_S = 60.0


def run(settings: Settings) -> Iterator[Figure]:
    ours, bare = [], []
    for _ in range(settings.runs):
        bare.append(_measured(_echo, _ask_bare, settings.events))
        ours.append(_measured(_serve, _ask_oms, settings.events))
    for percent in (50.0, 99.0):
        yield figure(
            settings,
            NAME,
            f"submit to acknowledged, p{percent:g}",
            "us",
            Sample.of(sample.percentile(percent) for sample in ours),
            Sample.of(sample.percentile(percent) for sample in bare),
            "one bare ZeroMQ round trip (REQ, REP, ipc)",
        )


def _measured(
    server: Callable[[str, Connection], None], ask: Callable[[str, Sequence[OrderRequest]], list[float]], orders: int
) -> Sample:
    """Microseconds of each round trip but the first few, with the server in a process of its own."""
    with TemporaryDirectory(prefix="sr") as folder:
        endpoint = f"ipc://{Path(folder) / 'oms.sock'}"
        ours, theirs = PROCESSES.Pipe()
        child = PROCESSES.Process(target=server, args=(endpoint, theirs), daemon=True)
        child.start()
        theirs.close()
        try:
            if not ours.poll(_PATIENCE_S):
                raise TimeoutError(f"{NAME}: expected a server within {_PATIENCE_S:g} s, found none")
            ours.recv()
            return Sample.of(ask(endpoint, [_order(n) for n in range(_WARM_UP + orders)])[_WARM_UP:])
        finally:
            child.kill()
            child.join()


def _order(n: int) -> OrderRequest:
    signal = f"{_CLIENT}:swing.BTC-USD@00000000/{n}"
    return OrderRequest(
        client_order_id=client_order_id(signal, "entry"),
        client=_CLIENT,
        account="main",
        venue="bench",
        strategy="swing",
        symbol="BTC-USD",
        signal_id=signal,
        leg="entry",
        side="buy",
        type="limit",
        quantity=Decimal("0.10"),
        limit_price=Decimal("101.50"),
        event_ns=n,
    )


# -- over the protocol -------------------------------------------------------------------------------------------------


class Memory:
    """A backend that forgets everything when it ends."""

    def __init__(self) -> None:
        self._reports: dict[str, OrderReport] = {}

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        for order in orders:
            self._reports[order.client_order_id] = OrderReport(
                client_order_id=order.client_order_id,
                client=client,
                state=OrderState.ACKNOWLEDGED,
                quantity=order.quantity,
            )
        return [self._reports[order.client_order_id] for order in orders]

    def modify(self, client: str, change: OrderChange) -> OrderReport:
        return self._reports[change.client_order_id]

    def cancel(self, client: str, client_order_id: str) -> OrderReport:
        return self._reports[client_order_id]

    def query(self, client: str, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        return [self._reports.get(each) for each in client_order_ids]

    def open_orders(self, client: str) -> list[OrderReport]:
        return list(self._reports.values())

    def positions(self, client: str) -> list[Position]:
        return []

    def events(self, client: str, from_number: int, limit: int) -> list[OmsEvent]:
        return []

    def last_number(self, client: str) -> int:
        return 0


def _serve(endpoint: str, ready: Connection) -> None:
    server = OmsServer(new_context(), Memory(), name="bench")
    server.serve(_CLIENT, endpoint)
    ready.send(True)
    while True:
        server.check()
        time.sleep(1.0)


def _ask_oms(endpoint: str, orders: Sequence[OrderRequest]) -> list[float]:
    oms = ZeroMqOms(new_context(), _CLIENT, endpoint)
    round_trips_us = []
    for order in orders:
        begun = time.perf_counter_ns()
        (report,) = oms.submit([order])
        round_trips_us.append((time.perf_counter_ns() - begun) / 1e3)
        assert report.state is OrderState.ACKNOWLEDGED
    oms.close()
    return round_trips_us


# -- bare --------------------------------------------------------------------------------------------------------------


def _echo(endpoint: str, ready: Connection) -> None:
    socket = new_context().socket(zmq.REP)
    socket.bind(endpoint)
    ready.send(True)
    while True:
        socket.send(socket.recv())


def _ask_bare(endpoint: str, orders: Sequence[OrderRequest]) -> list[float]:
    socket = new_context().socket(zmq.REQ)
    socket.connect(endpoint)
    round_trips_us = []
    for number, order in enumerate(orders):
        payload = encode(Request(number=number, client=_CLIENT, ask=Submit((order,))))
        begun = time.perf_counter_ns()
        socket.send(payload)
        socket.recv()
        round_trips_us.append((time.perf_counter_ns() - begun) / 1e3)
    socket.close(linger=0)
    return round_trips_us
