"""An OMS whose answers are of other orders than it was asked about: what it says of one is never taken for the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from grpc_venue import GrpcVenue
from oms.venue import VenueBackend
from orders import eventually, order

from strategy_runner.bus.context import Context
from strategy_runner.model.order import OrderChange, OrderReport, OrderRequest
from strategy_runner.oms.grpc import GrpcOms
from strategy_runner.oms.interface import Oms, OmsUnavailable
from strategy_runner.oms.server import OmsServer
from strategy_runner.oms.zeromq import ZeroMqOms


class CrossedBackend(VenueBackend):
    """`crosses`: it answers in another order than it was asked, and about a single order with what it knows of its first."""

    crosses = False

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        return self._crossed(super().submit(client, orders))

    def modify(self, client: str, change: OrderChange) -> OrderReport:
        return self._crossed([super().modify(client, change)])[0]

    def cancel(self, client: str, client_order_id: str) -> OrderReport:
        return self._crossed([super().cancel(client, client_order_id)])[0]

    def query(self, client: str, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        return self._crossed(super().query(client, client_order_ids))

    def _crossed(self, reports: list[OrderReport | None]) -> list:
        if self.crosses and len(reports) == 1:
            return [next(iter(self._reports.values()))]
        return reports[::-1] if self.crosses else reports


@pytest.fixture
def backend(folder: Path) -> CrossedBackend:
    return CrossedBackend(folder / "venue.log")


@pytest.fixture(params=["grpc", "zeromq"])
def oms(request: pytest.FixtureRequest, context: Context, folder: Path, backend: CrossedBackend) -> Iterator[Oms]:
    if request.param == "grpc":
        venue = GrpcVenue(backend)
        venue.start()
        oms: Oms = GrpcOms("acme", venue.address)
        yield oms
        oms.close()
        venue.stop()
    else:
        server = OmsServer(context, backend, name="crossed")
        server.serve("acme", f"ipc://{folder}/venue.sock")
        oms = ZeroMqOms(context, "acme", f"ipc://{folder}/venue.sock")
        yield oms
        oms.close()
        server.stop()


def test_a_report_of_another_order_is_no_answer(oms: Oms, backend: CrossedBackend) -> None:
    first, second, third = order(), order(), order()
    eventually(lambda: oms.submit([first, second]), "an answer")
    oms.cancel(first.client_order_id)
    backend.crosses = True
    asked = [first.client_order_id, second.client_order_id]
    for question in (
        lambda: oms.query(asked),
        lambda: oms.query([second.client_order_id]),
        lambda: oms.cancel(second.client_order_id),
        lambda: oms.modify(OrderChange(client_order_id=second.client_order_id, quantity=second.quantity)),
        lambda: oms.submit([third, second]),
    ):
        with pytest.raises(OmsUnavailable, match=r"expected a report of .*, found one of"):
            question()
    backend.crosses = False
    assert [report and report.client_order_id for report in oms.query(asked)] == asked
