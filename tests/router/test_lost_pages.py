"""Pages that a power cut took out of a log: what was synced is never cut, the rest is, by what each log knows of it."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from oms import paper_build
from router.desk import Desk, Talker, body_of
from router.test_order_journal import configured, filled, opened, sent
from worker.build import short_folder

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.decision import Decision
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.risk.events import Marked, Rated, RiskEvent
from strategy_runner.router.audit import AuditTrail
from strategy_runner.router.audit_check import sizes, verify
from strategy_runner.router.audit_log import audit_log, read_audit
from strategy_runner.router.journal import Journal, decision_log
from strategy_runner.router.order_journal import order_log, read_fills
from strategy_runner.router.risk_record import RiskRecord, Turn, decode_turn, risk_log
from strategy_runner.tape.logs import PAGE_BYTES, START, AppendLog, read_log
from strategy_runner.worker.outbox import Outbox

LONG = "long " * 1_000  # more than a page


def lose_page(path: Path, synced: int) -> None:
    """The first whole page behind what was synced, or what is left of one, never came to the disk. There is more behind it."""
    size = path.stat().st_size
    end = synced - synced % PAGE_BYTES + PAGE_BYTES
    assert synced + 4 < end < size - PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(synced)
        file.write(bytes(end - synced))


def decision(number: int, at_ns: int) -> Decision:
    body = body_of("talk.X", number, reasons=(LONG,))
    envelope = Envelope(n=number, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=1, generation="0badcafe")
    return Decision(number, body.id, "accepted", "", at_ns, envelope, canonical(body))


def test_decisions_of_the_last_append_are_cut_and_no_others(tmp_path: Path) -> None:
    """They stopped the router: all are of one moment, and those before it were synced before it."""
    journal, ends = Journal(tmp_path), [START]
    for at_ns in (1, 2):
        journal.append([decision(journal.number + n, at_ns) for n in range(4)], {})
        ends.append(journal.synced)
    journal.close()
    whole = decision_log(tmp_path).read_bytes()

    lose_page(decision_log(tmp_path), ends[0])
    with pytest.raises(CorruptRecordError, match=rf"decisions\.log: offset {ends[0]}: expected a whole frame"):
        Journal(tmp_path)

    decision_log(tmp_path).write_bytes(whole)
    lose_page(decision_log(tmp_path), ends[1])
    again = Journal(tmp_path)
    assert again.number == 4 and again.synced == ends[1]
    again.close()


def tenths(first: int, end: int) -> list[OmsEvent]:
    """Fills of one order."""
    return [
        msgspec.structs.replace(filled(number), fill=paper_build.fill("o", number, quantity=paper_build.D("0.1")))
        for number in range(first, end)
    ]


def test_entries_of_orders_behind_the_note_are_cut_and_what_workers_were_told_is_taken_over(tmp_path: Path) -> None:
    configured(tmp_path).close()
    journal = opened(tmp_path)
    sent(journal)
    journal.take_events(tenths(0, 40))
    journal.note(force=True)
    noted = journal._log.offset
    journal.take_events(tenths(40, 80))
    journal.close()
    lose_page(order_log(tmp_path), noted)
    RiskRecord(tmp_path, "acme", "mock").close()  # which a router opens first
    again = opened(tmp_path)
    assert again._log.offset == noted
    again.take_over()
    again.close()
    assert [*again.book.positions()] == [*journal.book.positions()]
    assert len([*read_fills(tmp_path / "fills.log")]) == 80


def test_fills_that_the_journal_does_not_know_of_are_cut_and_no_others(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    sent(journal)
    journal.take_events(tenths(0, 1))
    known, synced = journal._log.offset, journal.fills_offset
    journal.take_events(tenths(1, 60))
    journal.close()
    fills = tmp_path / "fills.log"
    lose_page(fills, synced)
    damaged = fills.read_bytes()
    with pytest.raises(CorruptRecordError, match=rf"fills\.log: offset {synced}: expected a whole frame"):
        opened(tmp_path)
    assert fills.read_bytes() == damaged

    os.truncate(order_log(tmp_path), known)  # it was not synced either
    again = opened(tmp_path)
    again.take_over()
    again.take_events(tenths(1, 60))
    again.close()
    assert [entry.number for entry in read_fills(fills)] == list(range(60))
    assert [*again.book.positions()] == [*journal.book.positions()]


@pytest.mark.parametrize(
    ("last_but_one", "is_cut"),
    [
        (Marked(at_ns=2, symbol="X", price=paper_build.D(5)), True),
        (Rated(at_ns=2, currency="EUR", rate=paper_build.D(1)), False),
    ],
)
def test_turns_of_risk_are_cut_unless_one_behind_them_was_synced(
    tmp_path: Path, last_but_one: RiskEvent, is_cut: bool
) -> None:
    record = configured(tmp_path)
    record.close()
    synced = record._log.offset
    turns = [Turn(events=(), orders=0, decisions=0)] * 300
    turns += [Turn(events=(last_but_one,), orders=0, decisions=0), Turn(events=(), orders=0, decisions=0)]
    log = AppendLog(risk_log(tmp_path))
    log.append_many([msgspec.msgpack.encode(turn) for turn in turns])
    log.close()
    lose_page(risk_log(tmp_path), synced)
    if not is_cut:
        with pytest.raises(CorruptRecordError, match=rf"risk\.log: offset {synced}: expected a whole frame"):
            RiskRecord(tmp_path, "acme", "mock")
        return
    again = RiskRecord(tmp_path, "acme", "mock")
    again.close()
    assert [len(decode_turn(payload).events) for payload in read_log(risk_log(tmp_path))] == [1]
    assert again.state.equity == 10_000


def test_the_last_round_of_the_audit_trail_is_cut_and_copied_again_and_no_other(tmp_path: Path) -> None:
    journal, trail, ends = Journal(tmp_path / "router"), AuditTrail(tmp_path), [START]
    for _ in range(2):
        journal.append([decision(journal.number + n, 1) for n in range(4)], {})
        trail.follow()
        ends.append([end for end, _ in read_audit(tmp_path)][-1])
    trail.close()
    journal.close()
    whole = audit_log(tmp_path).read_bytes()

    lose_page(audit_log(tmp_path), ends[0])
    with pytest.raises(CorruptRecordError, match=rf"audit\.log: offset {ends[0]}: expected a whole frame"):
        AuditTrail(tmp_path)

    audit_log(tmp_path).write_bytes(whole)
    lose_page(audit_log(tmp_path), ends[1])
    again = AuditTrail(tmp_path)
    again.follow()
    again.close()
    assert verify(tmp_path, sizes(tmp_path)).is_whole


def test_the_paper_oms_cuts_its_journal_behind_the_snapshot(tmp_path: Path) -> None:
    desk, journal = paper_build.Desk(), PaperJournal(tmp_path, "acme")
    for n in range(40):
        desk.submit(paper_build.request(f"o{n}"))
    for entry in desk.entries[:3]:
        journal.append(entry)
    synced = journal._log.offset
    for entry in desk.entries[3:]:
        journal.append(entry)
    journal.close()
    lose_page(journal.path, synced)
    again = PaperJournal(tmp_path, "acme")
    assert again.unread() == desk.entries[:3]
    again.close()


def said(root: Path, count: int) -> tuple[list[int], Callable[[], Outbox]]:
    """Signals of a worker whose snapshot was taken behind the first; where each begins, and how the worker begins again."""
    path, starts = root / "workers" / "talk.X" / "signals.log", []
    box = Outbox(path, generation="0badcafe", mode="mock")
    for n in range(count):
        starts.append(box.offset)
        box.record(n, body_of("talk.X", n, reasons=(LONG,)), seq=0)
        box.flush()
    box.close()
    return starts, lambda: Outbox(path, generation="0badcafe", mode="mock", n=1, offset=starts[1], is_restored=True)


def test_a_router_that_sees_lost_pages_before_the_worker_has_cut_them_trusts_it_again_and_decides_each_signal_once() -> (
    None
):
    """The worker was cut off for good, or could not start any more."""
    with short_folder() as root:
        Talker(root)
        starts, restore = said(root, 9)
        lose_page(root / "workers" / "talk.X" / "signals.log", starts[3])
        router = Desk(root)
        try:
            assert len(router.decide()) == 3
            assert "expected a whole frame" in router.status.last_error
            box = restore()
            assert box.offset == starts[1]  # those that are whole are derived again
            assert (root / "workers" / "talk.X" / "signals.log").stat().st_size == starts[3]
            for n in range(1, 9):
                box.record(n, body_of("talk.X", n, reasons=(LONG,)), seq=0)
            box.flush()
            box.close()
            router.router._next_look = 0.0
            assert len(router.decide()) == 9
            assert router.status.last_error == ""
        finally:
            router.close()


def test_a_worker_without_a_snapshot_refuses_lost_pages(tmp_path: Path) -> None:
    """What an older generation signalled does not come again."""
    starts, _ = said(tmp_path, 9)
    path = tmp_path / "workers" / "talk.X" / "signals.log"
    lose_page(path, starts[3])
    with pytest.raises(CorruptRecordError, match=f"offset {starts[3]}"):
        Outbox(path, generation="0badcafe", mode="mock")
