"""Bit rot in the logs and notes of a client that trades: one flipped bit is found, or changes nothing. It is never believed."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from oms import paper_build
from router.desk import CLIENT
from router.own_venue import venue_in
from router.trade import TALK, Floor

from strategy_runner.config.schema import RiskConfig
from strategy_runner.errors import StateError
from strategy_runner.monitor.checks_logs import check_client
from strategy_runner.monitor.checks_orders import check_orders
from strategy_runner.monitor.checks_records import check_records
from strategy_runner.oms import paper_journal
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.oms.paper_state import Entry, fold
from strategy_runner.risk.state import encode_state
from strategy_runner.router.audit import AuditTrail
from strategy_runner.router.audit_check import sizes, verify
from strategy_runner.router.audit_log import audit_log, read_audit
from strategy_runner.router.breaker_log import BreakerLog, breaker_log, read_breakers
from strategy_runner.router.journal import DecisionReader, Journal, decision_log
from strategy_runner.router.operator import Operator
from strategy_runner.router.operator_log import Request, operator_log, read_actions, record
from strategy_runner.router.order_journal import OrderJournal, order_log, read_fills, read_orders
from strategy_runner.router.risk_record import RiskRecord, Turn, risk_log
from strategy_runner.tape import logs
from strategy_runner.tape.logs import read_log

_encode = msgspec.msgpack.Encoder().encode


class Traded:
    """A client's folder after some trading and a clean stop, with every log that it leaves and every note."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with venue_in(folder, fills=True) as venue:
            floor = Floor(folder, risk=RiskConfig(max_order_value=500.0, max_rejects=2, rejects_window_s=60.0))
            self.instruments = floor.spec.instruments
            floor.start()
            for n in range(6):
                floor.say(TALK, size=1.0, action="buy" if n % 2 == 0 else "sell")
                floor.decided(n + 1)
                floor.turn_until(lambda n=n: len(floor.fills()) > n, "a fill")  # type: ignore[misc]
            for verb in ("halt", "resume", "halt", "resume"):
                asked = Request(verb=verb, reason="a test")  # type: ignore[arg-type]
                (action,) = record(folder, [asked], who="tester", at_ns=time.time_ns())
                floor.turn_until(lambda: floor.trading.record.state.acted >= action.number, "the action")  # noqa: B023
            floor.close()
            assert venue.placed
        trail = AuditTrail(folder)
        while trail.follow():
            pass
        trail.note()
        trail.close()
        self._keep_a_book(folder / "book")
        self._whole: dict[tuple[str, bool], dict[str, Any]] = {}
        self.contents = {name: read(folder) for name, (_, read) in LOGS.items()}
        assert all(len(entries) >= 4 for entries in self.contents.values()), {
            name: len(entries) for name, entries in self.contents.items()
        }

    def whole(self, folder: Path, note: str, *, killed: bool) -> dict[str, Any]:
        """What restarts come to in an undamaged copy, `folder`: with all notes, or killed with this one at most."""
        if (note, killed) not in self._whole:
            copy = folder.with_suffix(".whole")
            shutil.copytree(folder, copy, copy_function=shutil.copyfile)
            self._whole[note, killed] = restarted(copy, self.instruments)
            shutil.rmtree(copy)
        return self._whole[note, killed]

    @staticmethod
    def _keep_a_book(folder: Path) -> None:
        desk, journal = paper_build.Desk(), PaperJournal(folder, CLIENT)
        for n in range(6):
            desk.submit(paper_build.request(f"o{n}"))
            desk.apply(paper_build.trade(100.0 + n, at_s=n + 1))
            if n == 3:
                for entry in desk.entries:
                    journal.append(entry)
                journal.write_snapshot(journal.snapshot(desk.book.state))
                written = len(desk.entries)
        for entry in desk.entries[written:]:
            journal.append(entry)
        journal.sync()
        journal.close()


# -- who reads what ----------------------------------------------------------------------------------------------------


def _decisions(folder: Path) -> list[bytes]:
    reader, found = DecisionReader(decision_log(folder / "router")), []
    while decisions := reader.read():
        found += decisions
    reader.close()
    return [_encode(decision) for decision in found]


def _each(read: Callable[[Path], Iterator[Any]]) -> Callable[[Path], list[bytes]]:
    return lambda folder: [_encode(entry) for entry in read(folder)]


def _typed(kind: Any, path: Callable[[Path], Path]) -> Callable[[Path], list[bytes]]:
    return lambda folder: [_encode(msgspec.msgpack.decode(payload, type=kind)) for payload in read_log(path(folder))]


Read = Callable[[Path], list[bytes]]
LOGS: dict[str, tuple[Callable[[Path], Path], Read]] = {
    "decisions": (lambda folder: decision_log(folder / "router"), _decisions),
    "orders": (
        lambda folder: order_log(folder / "router"),
        _each(lambda folder: (entry for _, entry in read_orders(order_log(folder / "router")))),
    ),
    "fills": (lambda folder: folder / "fills.log", _each(lambda folder: read_fills(folder / "fills.log"))),
    "risk": (lambda folder: risk_log(folder / "router"), _typed(Turn, lambda folder: risk_log(folder / "router"))),
    "audit": (audit_log, _each(lambda folder: (entry for _, entry in read_audit(folder)))),
    "operator": (operator_log, _each(read_actions)),
    "breakers": (
        lambda folder: breaker_log(folder / "router"),
        _each(lambda folder: read_breakers(folder / "router")),
    ),
    "book": (
        lambda folder: folder / "book" / "orders.log",
        _typed(Entry, lambda folder: folder / "book" / "orders.log"),
    ),
}
NOTES: dict[str, Callable[[Path], Path]] = {
    "decisions note": lambda folder: folder / "router" / "note",
    "orders note": lambda folder: folder / "router" / "orders.note",
    "risk note": lambda folder: folder / "router" / "risk.note",
    "audit note": lambda folder: folder / "router" / "audit.note",
    "book snapshot": lambda folder: folder / "book" / "book",
}
FILES = {name: path for name, (path, _) in LOGS.items()} | NOTES


def restarted(folder: Path, instruments: Any) -> dict[str, Any]:
    """What each writer makes of the folder when it begins again; "halted" for one that refuses to."""
    found: dict[str, Any] = {}
    for name, begin in {
        "decisions": _journal_again,
        "orders": lambda folder: _desk_again(folder, instruments),
        "risk": _risk_again,
        "operator": _operator_again,
        "breakers": lambda folder: _encode(BreakerLog(folder / "router")._open),
        "audit": _audit_again,
        "book": _book_again,
    }.items():
        try:
            found[name] = begin(folder)
        except StateError as error:
            assert str(folder) in str(error), "it should say which file"
            found[name] = "halted"
    return found


def _journal_again(folder: Path) -> Any:
    journal = Journal(folder / "router")
    journal.close()
    return journal.number, journal.refusals  # positions are the OMS's here, and what it keeps of them is not used


def _desk_again(folder: Path, instruments: Any) -> Any:
    journal = OrderJournal(folder / "router", folder / "fills.log", CLIENT, instruments)
    journal.close()
    return _encode(journal.book)


def _risk_again(folder: Path) -> Any:
    risk = RiskRecord(folder / "router", CLIENT, "mock")
    risk.close()
    return encode_state(risk.state)


def _operator_again(folder: Path) -> Any:
    (action,) = record(folder, [Request(verb="halt", reason="again")], who="tester", at_ns=1)
    return action.number


def _audit_again(folder: Path) -> Any:
    trail = AuditTrail(folder)
    while trail.follow():
        pass
    trail.close()
    return verify(folder, sizes(folder)).is_whole


def _book_again(folder: Path) -> Any:
    journal = PaperJournal(folder / "book", CLIENT)
    for entry in journal.unread():
        fold(journal.state, entry, paper_build.INSTRUMENTS)
    journal.close()
    return _encode(journal.state)


# -- flips -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traded() -> Iterator[Traded]:
    with TemporaryDirectory(prefix="sr", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper_journal, "MARK_EVENTS", 4)
        yield Traded(Path(name) / "b")


def trial(traded: Traded, folder: Path, kind: str, luck: random.Random, *, killed: bool) -> str:
    """One flip; what became of it. Raises AssertionError if anybody believed it."""
    shutil.copytree(traded.folder, folder, ignore=shutil.ignore_patterns("*.sock*"), copy_function=shutil.copyfile)
    if killed:
        for path in NOTES.values():
            if path(folder) != FILES[kind](folder):
                path(folder).unlink()
    whole = traded.whole(folder, kind if killed and kind in NOTES else "", killed=killed)
    path = FILES[kind](folder)
    raw = bytearray(path.read_bytes())
    bit = luck.randrange(8 * len(raw))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    what = f"{kind}, bit {bit} of {8 * len(raw)}"

    is_seen = any(
        finding.level != "ok"
        for finding in (
            *check_client(folder, CLIENT),
            *check_orders(folder, folder / "none", CLIENT),
            *check_orders(folder / "none", folder / "book", CLIENT),
            *check_records(folder, router_runs=False),
        )
    )
    outcome = "equal"
    if kind in LOGS:
        try:
            entries = LOGS[kind][1](folder)
        except StateError:
            outcome = "halted"
        else:
            assert entries == traded.contents[kind][: len(entries)], f"{what}: read something else"
            if len(entries) < len(traded.contents[kind]):
                outcome = "cut short"
        assert is_seen or outcome == "equal", f"{what}: {outcome}, and the doctor saw nothing"
    for name, state in restarted(folder, traded.instruments).items():
        if state != whole[name]:
            assert is_seen, f"{what}: {name} began otherwise, and the doctor saw nothing: {state}"
            outcome += f", {name} {'halted' if state == 'halted' else 'otherwise'}"
    shutil.rmtree(folder)
    return f"{kind}: {outcome}{', seen by doctor' if is_seen else ''}"


def flips(traded: Traded, tmp_path: Path, count: int, seed: int) -> Counter[str]:
    print(f"seed {seed}")
    luck, kinds = random.Random(seed), list(FILES)
    outcomes = Counter(
        trial(traded, tmp_path / str(n), kinds[n % len(kinds)], luck, killed=n // len(kinds) % 2 == 1)
        for n in range(count)
    )
    print("\n".join(f"{count:4} {outcome}" for outcome, count in sorted(outcomes.items())))
    return outcomes


def test_no_flipped_bit_of_a_trading_clients_logs_is_believed(traded: Traded, tmp_path: Path) -> None:
    outcomes = flips(traded, tmp_path, 130, 21)
    assert any("halted" in outcome for outcome in outcomes)
    assert any("equal" in outcome for outcome in outcomes)


def test_without_the_crc_flipped_bits_would_be_believed(
    traded: Traded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnyCrc(int):
        """Equal to whatever crc stands there."""

        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    monkeypatch.setattr(logs, "crc32", lambda payload, seed: AnyCrc(0))
    with pytest.raises((AssertionError, msgspec.DecodeError, UnicodeDecodeError, ValueError)):
        flips(traded, tmp_path, 60, 22)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_no_flipped_bit_of_two_thousand_in_logs_is_believed(traded: Traded, tmp_path: Path) -> None:
    flips(traded, tmp_path, 2_002, random.randrange(1 << 32))


def test_an_action_that_the_router_has_taken_and_the_log_has_lost_is_not_followed_by_one_of_its_number(
    traded: Traded, tmp_path: Path
) -> None:
    """A halt that got the number of another would have passed for carried out. Nor does a router go on without it."""
    folder = tmp_path / "copy"
    shutil.copytree(traded.folder, folder, ignore=shutil.ignore_patterns("*.sock*"), copy_function=shutil.copyfile)
    count = len(list(read_actions(folder)))
    raw = bytearray(operator_log(folder).read_bytes())
    raw[-1] ^= 1
    operator_log(folder).write_bytes(raw)
    lost = f"expected the {count} actions that the router has taken, found {count - 1}"
    operator = Operator(folder / "router", folder / "workers", client=CLIENT, trading=None, on_restart={})
    with pytest.raises(StateError, match=lost):
        for _ in range(3):
            operator.turn()
    with pytest.raises(StateError, match=lost):
        record(folder, [Request(verb="halt", reason="again")], who="tester", at_ns=1)
