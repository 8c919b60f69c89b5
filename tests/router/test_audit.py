"""The audit trail: everything once, in a chain that shows what was changed, whatever dies in between."""

import csv
import errno
import io
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router.desk import body_of
from worker.build import START_NS, short_folder

from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.risk.state import Latch, Posture
from strategy_runner.router.audit import Audit, AuditTrail
from strategy_runner.router.audit_check import Verified, sizes, verify
from strategy_runner.router.audit_log import audit_log, read_audit, source_log
from strategy_runner.router.audit_rows import rows
from strategy_runner.router.breaker_log import BreakerLog
from strategy_runner.router.journal import Journal
from strategy_runner.router.operator_log import Request, record
from strategy_runner.tape.logs import AppendLog, read_log


@pytest.fixture
def run() -> Iterator[Path]:
    """The folder of a client's run."""
    with short_folder() as path:
        yield path


class Client:
    """Writes the logs of a run: decisions, actions and breakers."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.journal = Journal(run / "router")
        self.breakers = BreakerLog(run / "router")
        self.latches: list[Latch] = []

    def decide(self, count: int = 1) -> None:
        first = self.journal.number
        self.journal.append([_decision(number) for number in range(first, first + count)], {})

    def act(self) -> None:
        record(self.run, [Request(verb="halt", strategy="talk", reason="a test")], who="tester", at_ns=START_NS)

    def trip(self) -> None:
        since_ns = START_NS + len(self.latches)
        latch = Latch(
            breaker="drawdown", posture=Posture.REDUCING, reset="operator", since_ns=since_ns, facts="0.2 of 0.1"
        )
        self.latches.append(latch)
        self.breakers.note(self.latches)


def _decision(number: int) -> Decision:
    body = body_of("talk.X", number)
    envelope = Envelope(
        n=number, seq=number, epoch=1, mode="mock", received_ns=0, recorded_ns=START_NS, generation="0badcafe"
    )
    return Decision(
        number, body.id, "accepted", "", START_NS + number, envelope, canonical(body), price=Decimal("100.5")
    )


def check(run: Path, pinned: tuple[int, str] | None = None) -> Verified:
    return verify(run, sizes(run), pinned)


def test_everything_that_the_logs_tell_is_in_the_trail_once(run: Path) -> None:
    client = Client(run)
    client.decide(3)
    client.act()
    client.trip()
    trail = AuditTrail(run)
    while trail.follow():
        pass
    client.decide(2)
    assert check(run).missing == {"decisions": 2}
    while trail.follow():
        pass
    found = check(run)
    assert found.is_whole and found.entries == 7
    sources = [entry.source for _, entry in read_audit(run)]
    assert {source: sources.count(source) for source in sources} == {"operator": 1, "decisions": 5, "breakers": 1}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["decide", "act", "trip", "follow", "note", "kill", "lose_note", "tear"]), max_size=25))
def test_nothing_is_lost_or_doubled_whatever_dies(steps: list[str]) -> None:
    with short_folder() as run:
        client, trail = Client(run), AuditTrail(run)
        for step in steps:
            if step in ("decide", "act", "trip"):
                getattr(client, step)()
            elif step == "follow":
                trail.follow()
            elif step == "note":
                trail.note()
            elif step == "lose_note":
                (run / "router" / "audit.note").unlink(missing_ok=True)
            else:
                trail.close()
                if (
                    step == "tear"
                    and audit_log(run).stat().st_size > 40
                    and not (run / "router" / "audit.note").exists()
                ):
                    os.truncate(audit_log(run), audit_log(run).stat().st_size - 3)
                trail = AuditTrail(run)
        while trail.follow():
            pass
        trail.close()
        found = check(run)
        assert found.is_whole, found
        assert found.entries == sum(_count(source_log(run, source)) for source in ("operator", "decisions", "breakers"))


def _count(path: Path) -> int:
    return sum(1 for _ in read_log(path)) if path.exists() else 0


def test_a_thread_that_is_killed_with_its_process_leaves_a_trail_that_goes_on(run: Path) -> None:
    client = Client(run)
    client.decide(400)
    pid = os.fork()
    if not pid:
        trail = AuditTrail(run)
        while trail.follow():
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    client.decide(5)
    audit = Audit(run)
    audit.start()
    audit.stop(20.0)
    assert check(run).is_whole and check(run).entries == 405 and not audit.fault


def test_a_disk_that_failed_at_a_sync_is_never_trusted_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Client(run).decide()
    syncs: list[int] = []

    def fail(fd: int) -> None:
        syncs.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr("strategy_runner.router.audit.LOOK_INTERVAL_S", 0.01)
    audit = Audit(run)
    audit.start()
    audit._thread.join(20.0)
    assert audit.broken is not None and audit.broken.errno == errno.EIO
    assert len(syncs) == 1


def test_the_first_entry_that_was_changed_is_named_whatever_was_changed(run: Path) -> None:
    client = Client(run)
    client.decide(6)
    _trail(run)
    whole = check(run)
    kept = list(read_log(audit_log(run)))
    (run / "router" / "audit.note").unlink(missing_ok=True)

    forged = kept[3].replace(b"talk", b"walk")
    assert forged != kept[3]
    for payloads, said in (
        ([*kept[:3], forged, *kept[4:]], "entry 3: expected a hash"),
        ([*kept[:3], *kept[4:]], "entry 3: expected this number, found 4"),
        ([kept[1], kept[0], *kept[2:]], "entry 0: expected this number, found 1"),
    ):
        _rewrite(audit_log(run), payloads)
        assert said in check(run).broken
    _rewrite(audit_log(run), kept)
    assert check(run) == whole


def test_a_log_that_was_changed_after_it_was_copied_shows(run: Path) -> None:
    client = Client(run)
    client.decide(6)
    _trail(run)
    path = source_log(run, "decisions")
    kept = list(read_log(path))
    _rewrite(path, [*kept[:2], kept[2].replace(b"accepted", b"refused!"), *kept[3:]])
    assert check(run).broken.startswith("entry 2: expected entry 2 of decisions as it was copied, found another one")
    _rewrite(path, kept[:4])
    assert check(run).broken == "entry 4: expected entry 4 of decisions as it was copied, found none"


def test_a_flipped_bit_is_found_with_the_number_of_its_entry(run: Path) -> None:
    client = Client(run)
    client.decide(6)
    _trail(run)
    ends = [end for end, _ in read_audit(run)]
    data = bytearray(audit_log(run).read_bytes())
    data[ends[2] + 60] ^= 4
    audit_log(run).write_bytes(data)
    assert check(run).broken.startswith("entry 3:") and str(audit_log(run)) in check(run).broken


def test_who_kept_a_hash_can_tell_that_the_whole_trail_was_made_anew(run: Path) -> None:
    client = Client(run)
    client.decide(4)
    _trail(run)
    first = check(run)
    pin = (first.entries - 1, first.head)
    assert check(run, pin).is_whole

    client.decide(1)
    _trail(run)
    assert check(run, pin).is_whole, "a trail that grew still has the entry"

    audit_log(run).unlink()
    (run / "router" / "audit.note").unlink(missing_ok=True)
    _trail(run)
    assert check(run).is_whole
    assert check(run, pin).broken.startswith("entry 3: expected the pinned hash")
    assert (
        check(run, (9, first.head)).broken == "entry 9: expected the pinned entry, found that the log ends with entry 4"
    )


def test_rows_say_when_what_of_whom_and_why(run: Path) -> None:
    client = Client(run)
    client.decide(2)
    client.act()
    client.trip()
    _trail(run)
    found = list(rows(run, 0, 0))
    told = {(row.source, row.what, row.strategy, row.symbol, row.reason) for row in found}
    assert told == {
        ("decisions", "signal accepted", "talk", "X", ""),
        ("operator", "operator halt", "talk", "", "a test"),
        ("breakers", "breaker drawdown opened", "", "", "0.2 of 0.1"),
    }
    assert [row.number for row in rows(run, START_NS + 1, START_NS + 2)] == [
        row.number for row in found if row.signal_id.endswith("/1")
    ]
    text = io.StringIO()
    csv.writer(text).writerows([row.entry] for row in found)
    assert '""price"":""100.5""' in text.getvalue()


def _trail(run: Path) -> None:
    trail = AuditTrail(run)
    while trail.follow():
        pass
    trail.note()
    trail.close()


def _rewrite(path: Path, payloads: list[bytes]) -> None:
    path.unlink()
    log = AppendLog(path)
    log.append_many(payloads)
    log.close()
