"""The order journal: what it holds of an order, and how the risk record of the same router follows it."""

import os
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oms.paper_build import INSTRUMENTS, D, X, fill, request

from strategy_runner.config.schema import RiskConfig
from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderState
from strategy_runner.monitor.checks_orders import check_orders
from strategy_runner.oms.order_machine import Acknowledged, Lost, Sent, advance, new_order, report_of
from strategy_runner.risk.events import Configured, DayRolled
from strategy_runner.risk.limits import limits_of
from strategy_runner.risk.state import encode_state
from strategy_runner.router.order_entry import OWN, Happened, Heard, Intended, Told
from strategy_runner.router.order_journal import OrderJournal, Written, order_log, read_fills, read_orders
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.tape.logs import AppendLog, LogReader

SENT = advance(new_order(request(quantity=9)), Sent())
TAKEN = advance(SENT, Acknowledged("paper-0"))


POINTS_OF_10 = {"X": msgspec.structs.replace(X, multiplier=D(10))}


def opened(
    folder: Path, written: deque[Written] | None = None, instruments: Mapping[str, Instrument] = INSTRUMENTS
) -> OrderJournal:
    return OrderJournal(folder, folder / "fills.log", "acme", instruments, written=written)


def sent(journal: OrderJournal) -> None:
    intended = Intended(at_ns=1, order=request(quantity=9), decision=0)
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


def filled(number: int) -> OmsEvent:
    return msgspec.structs.replace(acknowledged(number), kind="fill", report=None, fill=fill("o", number))


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


def test_a_fill_that_is_told_again_under_another_number_is_not_counted_again(tmp_path: Path) -> None:
    """Also behind the end of its order."""
    record = RiskRecord(tmp_path, "acme", "mock")
    record.take(Configured(at_ns=1, limits=limits_of(RiskConfig(), INSTRUMENTS), day=1, starting_cash=D(1_000)))
    journal = opened(tmp_path)
    sent(journal)
    first, report = filled(0), report_of(TAKEN)
    assert journal.take_events([first])
    cancelled = msgspec.structs.replace(report, state=OrderState.CANCELLED, filled=D(1))
    end = msgspec.structs.replace(acknowledged(2), kind="cancelled", report=cancelled)
    for again in (1, 3):
        journal.take_events([end] if again == 3 else [])
        assert not journal.take_events([msgspec.structs.replace(first, number=again)])
        assert [one.quantity for one in journal.book.positions()] == [D(1)]
        assert (journal.book.next_event, [*journal.book.contradicted]) == (again + 1, ["X"])
    journal.close()
    record.follow()
    assert record.state.books["swing/X"].quantity == 1
    assert opened(tmp_path).book == journal.book
    assert [entry.position.quantity for entry in read_fills(tmp_path / "fills.log")] == [D(1), D(1)]


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


def test_money_stays_as_it_was_counted_whatever_the_configuration_says_later(tmp_path: Path) -> None:
    """An instrument that is another one counts from the next fill on; one that is gone is still known."""
    journal = opened(tmp_path)
    sent(journal)
    journal.take_events([filled(0), filled(1)])
    journal.close()
    changed = opened(tmp_path, instruments=POINTS_OF_10)
    assert changed.book == journal.book
    assert changed.book.accounts["main"].cash == {"USD": D(-200)}
    changed.take_events([filled(2)])
    changed.close()
    assert changed.book.accounts["main"].cash == {"USD": D(-1_200)}
    for instruments in (INSTRUMENTS, POINTS_OF_10, {}):
        again = opened(tmp_path, instruments=instruments)
        assert again.book == changed.book
        again.close()
    removed = opened(tmp_path, instruments={})
    removed.take_events([filled(3)])
    removed.close()
    assert removed.book.accounts["main"].cash == {"USD": D(-2_200)}
    assert not removed.book.contradicted


def test_what_a_worker_was_told_of_is_counted_as_it_was_told(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    sent(journal)
    journal.take_events([filled(0)])
    before = journal._log.offset
    journal.take_events([filled(1)])
    journal.close()
    os.truncate(order_log(tmp_path), before)
    again = opened(tmp_path, instruments=POINTS_OF_10)
    again.take_over()
    again.close()
    told = [entry.position for entry in read_fills(tmp_path / "fills.log")]
    assert [*again.book.positions()] == [*journal.book.positions()] == [told[-1]]


@pytest.mark.parametrize("left", ["shortened", "torn", "gone"])
def test_a_fill_log_that_lacks_what_the_journal_knows_of_is_refused_and_gets_no_number_twice(
    tmp_path: Path, left: str
) -> None:
    router, fills = tmp_path / "router", tmp_path / "fills.log"
    journal = OrderJournal(router, fills, "acme", INSTRUMENTS)
    sent(journal)
    journal.take_events([filled(0)])
    first = journal.fills_offset
    journal.take_events([filled(1), filled(2)])
    journal.close()
    whole = fills.read_bytes()
    if left == "gone":
        fills.unlink()
    else:
        os.truncate(fills, first if left == "shortened" else len(whole) - 1)
    count = {"shortened": 1, "torn": 2, "gone": 0}[left]
    for _ in range(2):
        (finding,) = check_orders(tmp_path, tmp_path / "none", "acme")
        assert (finding.level, finding.subject, finding.found) == ("error", str(fills), str(count))
        assert finding.expected == "the 3 entries that the order journal knows of"
        assert finding.advice.startswith("restore the file from a copy")
        again = OrderJournal(router, fills, "acme", INSTRUMENTS)
        with pytest.raises(
            StateError, match=rf"fills\.log: expected the 3 entries that the order journal knows of, found {count}"
        ):
            again.take_over()
        again.close()
    fills.write_bytes(whole)
    (finding,) = check_orders(tmp_path, tmp_path / "none", "acme")
    assert (finding.level, finding.found) == ("ok", "3 fills of acme whole")
    again = OrderJournal(router, fills, "acme", INSTRUMENTS)
    again.take_over()
    again.take_events([filled(3)])
    again.close()
    assert [entry.number for entry in read_fills(fills)] == list(range(4))


def test_an_entry_of_an_earlier_version_is_counted_with_the_instruments_of_now(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    sent(journal)
    journal.append([Happened(at_ns=3, event=filled(0), fills=0)])
    journal.close()
    again = opened(tmp_path, instruments=POINTS_OF_10)
    assert again.book.accounts["main"].cash == {"USD": D(-1_000)}
    again.close()


def configured(folder: Path) -> RiskRecord:
    record = RiskRecord(folder, "acme", "mock")
    limits = limits_of(RiskConfig(), INSTRUMENTS)
    record.take(Configured(at_ns=1, limits=limits, day=1, starting_cash=D(10_000)))
    record.keep()
    return record


def test_a_day_that_began_after_a_power_cut_began_before_what_came_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turns of before the cut count orders that it took, and say nothing of those that are written in their place."""
    record, journal = configured(tmp_path), opened(tmp_path)
    sent(journal)
    whole = journal._log.offset
    journal.take_events([filled(0), filled(1), filled(2)])
    record.follow()
    record.keep()
    record.close()
    journal.close()
    os.truncate(order_log(tmp_path), whole)
    (tmp_path / "fills.log").unlink()
    monkeypatch.setattr("strategy_runner.router.risk_record.this_boot", lambda: 2)
    record, journal = RiskRecord(tmp_path, "acme", "mock"), opened(tmp_path)
    record.take(DayRolled(at_ns=2, day=2))
    dear = fill("o", 1, price=D(150))
    journal.take_events([filled(0), msgspec.structs.replace(filled(1), fill=dear)])
    record.follow()
    record.note(force=True)
    record.close()
    journal.close()
    assert record.state.day_start_equity == 10_000 < record.state.equity
    monkeypatch.setattr("strategy_runner.router.risk_record.this_boot", lambda: 3)
    again = RiskRecord(tmp_path, "acme", "mock")
    again.close()
    assert encode_state(again.state) == encode_state(record.state)


def test_the_orders_that_a_durable_turn_goes_by_are_on_the_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, journal = configured(tmp_path), opened(tmp_path)
    sent(journal)
    record.follow()
    record.take(DayRolled(at_ns=2, day=2))
    synced: list[str] = []
    for kind in (AppendLog, LogReader):
        monkeypatch.setattr(kind, "sync", lambda log: synced.append(log.path.name))
    record.keep()
    assert synced == ["orders.log", "risk.log"]
    record.close()
    journal.close()


# -- what cannot be true -----------------------------------------------------------------------------------------------


def half_filled(number: int, *, about: dict[str, Any] | None = None, **changes: Any) -> OmsEvent:
    """A half of the order is filled; `about` changes what the fill says, `changes` the rest."""
    report = msgspec.structs.replace(report_of(TAKEN), state=OrderState.PARTIALLY_FILLED, filled=Decimal("0.5"))
    made = msgspec.structs.replace(acknowledged(number), kind="fill", report=report, fill=fill(quantity=Decimal("0.5")))
    if about:
        changes["fill"] = msgspec.structs.replace(made.fill, **about)
    return msgspec.structs.replace(made, **changes)


def reported(kind: str, number: int = 0, /, **about: Any) -> OmsEvent:
    return msgspec.structs.replace(
        acknowledged(number), kind=kind, report=msgspec.structs.replace(report_of(TAKEN), **about)
    )


CANNOT_BE = [
    half_filled(0, event_ns=2**64 - 1),
    half_filled(0, about={"event_ns": 2**64 - 1}),
    half_filled(0, about={"price": Decimal("1E+999999")}),
    half_filled(0, about={"fee": Decimal("9" * 60)}),
    half_filled(0, about={"quantity": Decimal("1E-999999")}),
    half_filled(0, about={"client": "umbrella"}),
    half_filled(0, about={"strategy": "other"}),
    half_filled(0, about={"account": "other"}),
    half_filled(0, about={"strategy": "a/b"}, strategy="a/b"),
    half_filled(0, report=msgspec.structs.replace(report_of(TAKEN), client_order_id="another")),
    reported("modified", quantity=Decimal("sNaN")),
    reported("acknowledged", quantity=Decimal(0), oms_order_id="another"),
    msgspec.structs.replace(reported("cancelled", state=OrderState.CANCELLED), strategy="a/b"),
]


@pytest.mark.parametrize("event", CANNOT_BE)
def test_what_cannot_be_true_is_counted_nowhere_told_nobody_and_ends_nothing(tmp_path: Path, event: OmsEvent) -> None:
    """It ended the desk or the router, in every life again; or, told to a worker, the feed of all clients."""
    written: deque[Written] = deque()
    journal, record = opened(tmp_path, written), RiskRecord(tmp_path, "acme", "mock")
    limits = limits_of(RiskConfig(), INSTRUMENTS)
    record.take(Configured(at_ns=1, limits=limits, day=0, starting_cash=Decimal(1_000)))
    journal.append(
        [Intended(at_ns=1, order=request(), decision=OWN), Told(at_ns=1, news=Sent(), report=report_of(SENT))]
    )
    assert not journal.take_events([event])
    assert event.symbol in journal.book.contradicted
    record.follow(written)
    assert journal.take_events([half_filled(1)])
    record.follow(written)
    assert journal.book.held("swing", "X") == record.state.books["swing/X"].quantity == Decimal("0.5")
    journal.close()
    assert opened(tmp_path).book == journal.book


def test_the_end_of_an_order_that_was_never_sent_here_is_told_to_no_worker(tmp_path: Path) -> None:
    """Whose it is the OMS alone says: a name that is none would end the feed of all clients."""
    journal = opened(tmp_path)
    assert not journal.take_events([reported("cancelled", client_order_id="by-hand", state=OrderState.CANCELLED)])
    assert not journal.book.contradicted and journal.book.next_event == 1
