"""The order journal: what it holds of an order, and how the risk record of the same router follows it."""

from collections import deque
from pathlib import Path

import pytest
from oms.paper_build import INSTRUMENTS, request

from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.order_machine import Acknowledged, Lost, Sent, advance, new_order, report_of
from strategy_runner.router.order_entry import Happened, Heard, Intended, Told
from strategy_runner.router.order_journal import OrderJournal, Written, order_log, read_orders
from strategy_runner.router.risk_record import RiskRecord

SENT = advance(new_order(request()), Sent())
TAKEN = advance(SENT, Acknowledged("paper-0"))


def opened(folder: Path, written: deque[Written] | None = None) -> OrderJournal:
    return OrderJournal(folder, folder / "fills.log", "acme", INSTRUMENTS, written=written)


def sent(journal: OrderJournal) -> None:
    intended = Intended(at_ns=1, order=request(), decision=0)
    journal.append([intended, Told(at_ns=1, news=Sent(), report=report_of(SENT))])


def answer(journal: OrderJournal) -> None:
    journal.append([Told(at_ns=2, news=Acknowledged("paper-0"), report=report_of(TAKEN))])


def acknowledged(number: int) -> OmsEvent:
    return OmsEvent(
        number=number,
        client="acme",
        kind="acknowledged",
        event_ns=2,
        seq=0,
        report=report_of(TAKEN),
        account="main",
        strategy="swing",
        symbol="X",
    )


@pytest.mark.parametrize("first", ["answer", "event", "doubt"])
def test_an_acknowledgement_stands_there_once_and_how_far_events_were_heard(tmp_path: Path, first: str) -> None:
    """An event that comes before the answer, or ends a doubt, says something new."""
    journal = opened(tmp_path)
    sent(journal)
    if first != "event":
        answer(journal)
    if first == "doubt":
        lost = Lost()
        journal.append([Told(at_ns=3, news=lost, report=report_of(advance(TAKEN, lost)))])
    assert not journal.take_events([acknowledged(0)])
    journal.close()
    last = [entry for _, entry in read_orders(order_log(tmp_path))][-1]
    assert isinstance(last, Heard if first == "answer" else Happened)
    again = opened(tmp_path)
    assert again.book == journal.book
    assert again.book.next_event == 1 and again.book.orders["o"].order == TAKEN


@pytest.mark.parametrize("kept", [100, 2])
def test_a_record_that_is_handed_the_entries_follows_as_one_that_reads_them(tmp_path: Path, kept: int) -> None:
    """Also where the oldest were pushed out before it came to them."""
    written: deque[Written] = deque(maxlen=kept)
    handed, reads = RiskRecord(tmp_path, "acme", "mock"), []
    journal = opened(tmp_path, written)
    for step in (sent, answer):
        step(journal)
        handed.follow(written)
        reads.append(handed.orders)
        assert not written
    sent(journal)
    answer(journal)
    journal.take_events([acknowledged(0)])
    handed.follow(written)
    assert [*reads, handed.orders] == [2, 3, 7]
    assert handed._orders.offset == [end for end, _ in read_orders(order_log(tmp_path))][-1]
