"""The order flow alone, with an OMS in memory: what it remembers of orders that wait, and for how long."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from oms.paper_build import INSTRUMENTS, request

from strategy_runner.model.order import OrderReport, OrderRequest, OrderState
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.order_machine import Acknowledged, advance, new_order, report_of
from strategy_runner.router.desk import NO_RATE
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.order_entry import CancelWanted, Intended
from strategy_runner.router.order_flow import OrderFlow
from strategy_runner.router.order_journal import OrderJournal


class MemoryOms:
    """Has every order that it was sent, and answers a submit unless it `is_silent`."""

    def __init__(self) -> None:
        self.is_silent = False
        self.orders: dict[str, OrderReport] = {}

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        reports = [report_of(advance(new_order(order), Acknowledged())) for order in orders]
        self.orders |= {report.client_order_id: report for report in reports}
        if self.is_silent:
            raise OmsUnavailable("no answer")
        return reports

    def query(self, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        return [self.orders.get(order_id) for order_id in client_order_ids]


@pytest.fixture
def oms() -> MemoryOms:
    return MemoryOms()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[OrderJournal]:
    made = OrderJournal(tmp_path, tmp_path / "fills.log", "acme", INSTRUMENTS)
    yield made
    made.close()


@pytest.fixture
def flow(tmp_path: Path, oms: Any, journal: OrderJournal) -> Iterator[OrderFlow]:
    decisions = DecisionReader(decision_log(tmp_path), 0)
    yield OrderFlow(
        journal,
        oms,
        decisions,
        clock=lambda: 0,
        event_ns=lambda: 0,
        ring=lambda durable: None,
        rate=NO_RATE,
        priorities=(),
        instruments=INSTRUMENTS,
        below=0,
    )
    decisions.close()


def intend(flow: OrderFlow, order_id: str) -> None:
    flow.want([Intended(at_ns=0, order=request(order_id))])


def sent_in_silence(flow: OrderFlow, oms: MemoryOms, journal: OrderJournal) -> None:
    oms.is_silent = True
    intend(flow, "a")
    with pytest.raises(OmsUnavailable):
        flow.send()
    assert flow.resolve() and journal.book.orders["a"].order.state is OrderState.ACKNOWLEDGED


def cancelled_before_it_left(flow: OrderFlow, oms: MemoryOms, journal: OrderJournal) -> None:
    intend(flow, "a")
    flow.want([CancelWanted(at_ns=0, client_order_id="a")])
    assert flow.cancel() and not journal.book.orders
    assert flow.send() and not oms.orders


@pytest.mark.parametrize("way", [sent_in_silence, cancelled_before_it_left])
def test_what_waits_for_nothing_is_remembered_by_nobody(
    flow: OrderFlow, oms: MemoryOms, journal: OrderJournal, way: Callable[[OrderFlow, MemoryOms, OrderJournal], None]
) -> None:
    way(flow, oms, journal)
    assert not flow._groups
