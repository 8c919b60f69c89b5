"""The order flow alone, with an OMS in memory: what it remembers of orders that wait, and for how long."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from oms.paper_build import INSTRUMENTS, NOW, D, fill, request
from router.desk import CLIENT, GENERATION, body_of

from strategy_runner.model.decision import Decision, Verdict
from strategy_runner.model.order import Leg, OmsEvent, OrderReport, OrderRequest, OrderState, Side, client_order_id
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.order_machine import Acknowledged, advance, new_order, report_of
from strategy_runner.router.desk import NO_RATE
from strategy_runner.router.journal import READ_BYTES, DecisionReader, Journal, decision_log
from strategy_runner.router.order_book import LATE_FILL, LostStop
from strategy_runner.router.order_entry import CancelWanted, Intended, Scope
from strategy_runner.router.order_flow import BATCH_ORDERS_MAX, EVENTS_MAX, OrderFlow
from strategy_runner.router.order_journal import OrderJournal, order_log, read_orders


class MemoryOms:
    """Has every order that it was sent, in batches, and answers a submit unless it `is_silent`. It tells `told`, by number."""

    def __init__(self) -> None:
        self.is_silent = False
        self.told: list[OmsEvent] = []
        self.orders: dict[str, OrderReport] = {}
        self.batches: list[list[str]] = []

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        self.batches.append([order.client_order_id for order in orders])
        reports = [report_of(advance(new_order(order), Acknowledged())) for order in orders]
        self.orders |= {report.client_order_id: report for report in reports}
        if self.is_silent:
            raise OmsUnavailable("no answer")
        return reports

    def query(self, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        return [self.orders.get(order_id) for order_id in client_order_ids]

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        return self.told[from_number : from_number + limit]


@pytest.fixture
def oms() -> MemoryOms:
    return MemoryOms()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[OrderJournal]:
    made = OrderJournal(tmp_path, tmp_path / "fills.log", "acme", INSTRUMENTS)
    yield made
    made.close()


@pytest.fixture
def flow(tmp_path: Path, oms: MemoryOms, journal: OrderJournal) -> Iterator[OrderFlow]:
    with flow_of(tmp_path, oms, journal) as made:
        yield made


@contextmanager
def flow_of(folder: Path, oms: Any, journal: OrderJournal, below: int = 0) -> Iterator[OrderFlow]:
    """One life of it. What lies `below` an earlier one was given."""
    decisions = DecisionReader(decision_log(folder), journal.book.next_decision)
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
        below=below,
    )
    decisions.close()


def decided(number: int, orders: Sequence[OrderRequest] = (), verdict: Verdict = "accepted") -> Decision:
    envelope = Envelope(n=number, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=0, generation=GENERATION)
    body = body_of("talk.X", number)
    return Decision(number, body.id, verdict, "", 1, envelope, canonical(body), orders=tuple(orders))


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


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.close()


def test_an_order_is_found_at_once_behind_however_many_refused_signals(
    flow: OrderFlow, journal: OrderJournal, log: Journal
) -> None:
    """It came a few hundred of them at a turn, and turns stand back while signals wait."""
    log.append([*(decided(n, verdict="refused") for n in range(5_000)), decided(5_000, [request("a")])], {})
    assert log.synced > 4 * READ_BYTES
    assert flow.take_decisions(log.synced)
    assert list(journal.book.orders) == ["a"] and journal.book.next_decision == 5_001
    assert not flow.take_decisions(log.synced)


def bracket(name: str) -> list[OrderRequest]:
    legs: tuple[Leg, ...] = ("entry", "stop_loss", "take_profit")
    return [request(f"{name}-{leg}", leg=leg, bracket=f"{name}-entry", reduce_only=leg != "entry") for leg in legs]


def exit_of(name: str) -> OrderRequest:
    return request(name, leg="exit", side="sell", reduce_only=True)


def test_a_bracket_leaves_in_one_piece_and_exits_before_entries(flow: OrderFlow, oms: MemoryOms, log: Journal) -> None:
    count = BATCH_ORDERS_MAX
    brackets = [decided(n, bracket(f"b{n}")) for n in range(count)]
    log.append([*brackets, *(decided(n, [exit_of(f"x{n}")]) for n in range(count, 2 * count))], {})
    while flow.take_decisions(log.synced):
        pass
    while flow.send():
        pass
    assert all(len(batch) <= BATCH_ORDERS_MAX for batch in oms.batches)
    assert oms.batches[0] == [f"x{n}" for n in range(count, 2 * count)]
    legs = [order_id.split("-") for batch in oms.batches[1:] for order_id in batch]
    assert legs == [[f"b{n}", leg] for n in range(count) for leg in ("entry", "stop_loss", "take_profit")]
    assert all(len(batch) % 3 == 0 for batch in oms.batches[1:]), "what waits for an entry leaves with it"


@pytest.mark.parametrize("refused", [0, 1, 3_000])
def test_each_order_is_intended_once_by_whatever_lives_in_pieces(
    tmp_path: Path, oms: MemoryOms, log: Journal, refused: int
) -> None:
    """A life ends between the pieces; at the end there may be refused signals, which no entry of the journal tells of."""
    accepted = 2_000
    log.append([decided(n, [request(f"o{n}")]) for n in range(accepted)], {})
    if refused:
        log.append([decided(n, verdict="refused") for n in range(accepted, accepted + refused)], {})
    lives = reached = 0
    while reached < accepted + refused:
        journal = OrderJournal(tmp_path, tmp_path / "fills.log", CLIENT, INSTRUMENTS)
        with flow_of(tmp_path, oms, journal) as flow:
            assert flow.take_decisions(log.synced)
            if lives % 2:
                journal.note(force=True)
        reached = journal.book.next_decision
        journal.close()
        lives += 1
    assert lives > 3
    entries = [entry for _, entry in read_orders(order_log(tmp_path))]
    assert [entry.order.client_order_id for entry in entries if isinstance(entry, Intended)] == [
        f"o{n}" for n in range(accepted)
    ]


@pytest.mark.parametrize("more", [-1, 0, 1, EVENTS_MAX])
def test_an_oms_is_drained_when_a_look_found_all_it_had_told(
    flow: OrderFlow, oms: MemoryOms, journal: OrderJournal, more: int
) -> None:
    count = EVENTS_MAX + more
    intend(flow, "a")
    flow.send()
    report = oms.orders["a"]
    oms.told = [
        OmsEvent(
            number=n,
            client=CLIENT,
            kind="acknowledged",
            event_ns=1,
            seq=-1,
            report=report,
            account="main",
            strategy="swing",
            symbol="X",
        )
        for n in range(count)
    ]
    drained = []
    while flow.take_events():
        drained.append((journal.book.next_event, flow.is_drained))
    assert drained == [(at, at - before < EVENTS_MAX) for before, at in pieces(count)]
    assert flow.is_settled and journal.book.next_event == count


def pieces(count: int) -> list[tuple[int, int]]:
    return [(before, min(before + EVENTS_MAX, count)) for before in range(0, count, EVENTS_MAX)]


class Bracket:
    """An entry of 3 with its stop loss, and what the OMS tells of them."""

    def __init__(self, flow: OrderFlow, oms: MemoryOms, log: Journal) -> None:
        self._flow, self._oms, self._log = flow, oms, log
        self.entry_id, self.stop_id = client_order_id("a", "entry"), client_order_id("a", "stop_loss")
        entry = request(self.entry_id, signal_id="a", quantity=3, bracket=self.entry_id)
        self.stop = request(
            self.stop_id,
            signal_id="a",
            leg="stop_loss",
            side="sell",
            type="stop",
            stop_price=90,
            quantity=3,
            reduce_only=True,
            bracket=self.entry_id,
        )
        self.decide(0, entry, self.stop)

    def decide(self, number: int, *orders: OrderRequest) -> None:
        self._log.append([decided(number, orders)], {})
        self._flow.take_decisions(self._log.synced)
        self._flow.send()

    def fill(self, quantity: int, order_id: str = "", side: Side = "buy") -> None:
        order_id = order_id or self.entry_id
        made = fill(order_id, len(self._oms.told), signal_id="a", quantity=D(quantity), side=side)
        self._tell(kind="fill", fill=made)

    def end_stop(self, filled: int) -> None:
        order = replace(new_order(self.stop), filled=D(filled), state=OrderState.CANCELLED)
        self._tell(kind="cancelled", report=report_of(order))

    def _tell(self, **what: Any) -> None:
        names = {"account": "main", "strategy": "swing", "symbol": "X"}
        self._oms.told.append(
            OmsEvent(number=len(self._oms.told), client=CLIENT, event_ns=NOW, seq=-1, **names, **what)
        )
        self._flow.take_events()


def test_an_entry_that_is_filled_once_a_close_of_all_is_known_has_lost_its_stop(
    flow: OrderFlow, oms: MemoryOms, journal: OrderJournal, log: Journal
) -> None:
    """Also where the fill is told before the stop is cancelled, which it will be: the close was only of what was held before."""
    one = Bracket(flow, oms, log)
    one.fill(1)
    one.decide(1, exit_of("close"))
    assert not journal.book.unprotected
    one.fill(2)
    assert flow.tidy() and set(journal.book.index.cancelling) == {one.stop_id}
    assert journal.book.unprotected == {"swing.X": LostStop(one.stop_id, Scope("swing", "X"), LATE_FILL)}


def test_an_entry_that_is_filled_on_after_its_stop_has_left_and_ended_has_lost_it(
    flow: OrderFlow, oms: MemoryOms, journal: OrderJournal, log: Journal
) -> None:
    one = Bracket(flow, oms, log)
    one.fill(1)
    one.fill(1, one.stop_id, "sell")
    one.end_stop(filled=1)
    assert not journal.book.unprotected
    one.fill(2)
    assert journal.book.unprotected == {"swing.X": LostStop(one.stop_id, Scope("swing", "X"), LATE_FILL)}


def test_a_fill_of_an_entry_that_is_told_behind_those_of_its_stop_leaves_nothing_to_protect(
    flow: OrderFlow, oms: MemoryOms, journal: OrderJournal, log: Journal
) -> None:
    one = Bracket(flow, oms, log)
    one.fill(3, one.stop_id, "sell")
    one.fill(2)
    one.fill(1)
    assert not journal.book.unprotected and not journal.book.ended_stops
