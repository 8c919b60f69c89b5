"""A router killed between every two steps of an order's life: one order at the venue for each intent, or none; never two.

And while a breaker that has opened takes back what was still working to enter.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from router.crash import Crash, CrashingOms, Killed, crashing
from router.desk import CLIENT
from router.own_venue import OwnVenue, venue_in
from router.trade import D, Floor
from worker.build import short_folder

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.order import OrderState, client_order_id
from strategy_runner.model.signal import OrderTerms
from strategy_runner.oms.zeromq import ZeroMqOms
from strategy_runner.risk.state import encode_state
from strategy_runner.router.operator_log import read_actions
from strategy_runner.router.order_journal import order_log
from strategy_runner.router.order_rows import order_rows
from strategy_runner.router.risk_record import RiskRecord

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Life:
    """An order's life from signal to flat: a bracket goes in, its entry is filled, a close ends it. Begun again after a kill."""

    def __init__(self, one: Floor, venue: OwnVenue, crash: Crash) -> None:
        self._one = one
        self._venue = venue
        self._crash: Crash | None = crash
        self.entry = self.close = ""

    def live_on(self) -> None:
        """Once more, without the crash."""
        self._crash = None
        self.live()

    def live(self) -> None:
        one, venue = self._one, self._venue
        one.start()
        self.entry = self.entry or one.say(size=2.0, stop_loss=90.0, take_profit=120.0)
        entry_id = client_order_id(self.entry, "entry")
        self._turn_until(lambda: self._is_placed(entry_id, 3), "a bracket at the venue")
        if not venue.backend.positions(CLIENT):
            venue.fill(entry_id)
        self._turn_until(lambda: self._held() == 2 or self.close, "the entry's fill")
        self.close = self.close or one.say(action="close", size=2.0, reasons=("enough", "closes:long"))
        exit_id = client_order_id(self.close, "exit")
        self._turn_until(lambda: self._is_placed(exit_id, 4), "an exit at the venue")
        if venue.backend.positions(CLIENT)[0].quantity:
            venue.fill(exit_id)
        self._turn_until(lambda: self._held() == 0 and not one.trading.record.state.orders, "flat, and no order open")
        one.stop()

    def check(self) -> None:
        """What must be true at its end."""
        one, venue, placed = self._one, self._venue, self._venue.backend.placed
        expected = [client_order_id(self.entry, leg) for leg in ("entry", "stop_loss", "take_profit")]
        assert placed == Counter([*expected, client_order_id(self.close, "exit")]), placed
        fills = [entry.event.fill.fill_id for entry in one.fills() if entry.event.fill is not None]
        assert len(fills) == len(set(fills)) == 2
        assert one.fills()[-1].position.quantity == 0
        states = {report.client_order_id: report.state for report in venue.backend._reports.values()}
        assert sorted(states.values()) == [OrderState.CANCELLED] * 2 + [OrderState.FILLED] * 2
        assert [verdict for verdict, _ in one.rulings()] == ["accepted", "accepted"]
        book = one.trading.record.state.books["talk/X"]
        assert (book.quantity, book.realised) == (0, D("-0.02"))

    def _turn_until(self, condition: Callable[[], object], what: str) -> None:
        def holds() -> object:
            if self._crash is not None and self._crash.happened.is_set():
                raise Killed
            return condition()

        self._one.turn_until(holds, what)

    def _is_placed(self, order_id: str, count: int) -> bool:
        return order_id in self._venue.backend.placed and len(self._venue.backend.placed) >= count

    def _held(self) -> Any:
        book = self._one.trading.record.state.books.get("talk/X")
        return None if book is None else book.quantity


class Trip(Life):
    """A position with its stop, another entry working, and the price falls: a breaker opens. Begun again after a kill."""

    second = ""
    has_fallen = False

    def live(self) -> None:
        one, venue = self._one, self._venue
        one.start()
        self.entry = self.entry or one.say(size=10.0, stop_loss=50.0)
        entry_id = client_order_id(self.entry, "entry")
        self._turn_until(lambda: self._is_placed(entry_id, 2), "an entry and its stop at the venue")
        if not venue.backend.positions(CLIENT):
            venue.fill(entry_id)
        self._turn_until(lambda: self._held() == 10, "the entry's fill")
        self.second = self.second or one.say(size=1.0, stop_loss=60.0)
        self._turn_until(lambda: self._is_placed(client_order_id(self.second, "entry"), 4), "another entry")
        if not self.has_fallen:
            self.has_fallen = True
            one.trade("X", 90.0)
        one.trading._next_mark = 0.0
        self._turn_until(
            lambda: not any(order.is_entry for order in one.trading.record.state.orders.values()), "its end"
        )
        one.stop()

    def check(self) -> None:
        one, venue = self._one, self._venue
        ids = [client_order_id(signal, leg) for signal in (self.entry, self.second) for leg in ("entry", "stop_loss")]
        assert venue.backend.placed == Counter(ids)
        states = {report.client_order_id: report.state for report in venue.backend._reports.values()}
        assert [states[order_id] for order_id in ids[:3]] == ["filled", "acknowledged", "cancelled"]
        rows = {row.client_order_id: row for row in order_rows(order_log(Path(one.spec.folder)))}
        assert rows[ids[2]].reason == "breaker_daily_loss"
        assert "daily_loss" in {latch.breaker for latch in one.trading.record.state.latches}
        assert one.trading.record.state.books["talk/X"].quantity == 10


class Change(Life):
    """A limit order with its stop is made smaller and then cancelled by its strategy. Begun again after a kill."""

    modify = cancel = ""

    def live(self) -> None:
        one = self._one
        one.start()
        self.entry = self.entry or one.say(size=2.0, stop_loss=90.0, terms=OrderTerms(limit_price=99.0))
        entry_id = client_order_id(self.entry, "entry")
        self._turn_until(lambda: self._is_placed(entry_id, 2), "a limit order and its stop at the venue")
        nothing = {"size": None, "entry_price": None, "of": self.entry}
        self.modify = self.modify or one.say(**{**nothing, "action": "modify", "size": 1.0})
        self._turn_until(lambda: (known := self._order(entry_id)) is None or known.quantity == 1, "less of it")
        self.cancel = self.cancel or one.say(**{**nothing, "action": "cancel"})
        self._turn_until(lambda: not one.trading.record.state.orders, "no order open")
        one.stop()

    def _order(self, order_id: str) -> Any:
        return self._one.trading.record.state.orders.get(order_id)

    def check(self) -> None:
        ids = [client_order_id(self.entry, leg) for leg in ("entry", "stop_loss")]
        assert self._venue.backend.placed == Counter(ids)
        reports = {report.client_order_id: report for report in self._venue.backend._reports.values()}
        assert [reports[order_id].state for order_id in ids] == ["cancelled"] * 2
        assert reports[ids[0]].quantity == 1
        assert [verdict for verdict, _ in self._one.rulings()] == ["accepted"] * 3


class LostStop(Life):
    """The venue fills an entry and rejects its stop, so the worker is made flat. Begun again after a kill."""

    def live(self) -> None:
        one, backend = self._one, self._venue.backend
        one.start()
        self.entry = self.entry or one.say(size=2.0, stop_loss=90.0)
        backend.fills, backend.rejecting_stops = True, client_order_id(self.entry, "entry") not in backend.placed
        self._turn_until(lambda: len(backend.placed) == 2, "an entry and an exit at the venue")
        self._turn_until(lambda: self._held() == 0 and not one.trading.record.state.orders, "flat, and no order open")
        one.stop()

    def check(self) -> None:
        placed = self._venue.backend.placed
        (exit_id,) = placed.keys() - {client_order_id(self.entry, "entry")}
        assert placed.total() == 2
        reports = {report.client_order_id: report for report in self._venue.backend._reports.values()}
        assert (reports[exit_id].state, reports[exit_id].quantity) == ("filled", 2)
        assert reports[client_order_id(self.entry, "stop_loss")].state == "rejected"
        assert not any(held.quantity for held in self._venue.backend.positions(CLIENT))
        # a second one where a power cut took what the desk knew, and not the first action
        assert {(one.who, one.request.scope) for one in read_actions(self._one.root)} == {("lost_stop", ":talk:X")}


def run(
    root: Path, crash: Crash, monkeypatch: pytest.MonkeyPatch, kind: type[Life] = Life, *, power: bool = False
) -> None:
    """One life with one crash, and what must be true at its end. With `power` the crash is the host's."""
    with venue_in(root) as venue:
        one = Floor(root, risk=RiskConfig(max_daily_loss=50.0))
        one._open_oms = lambda: CrashingOms(ZeroMqOms(one.context, CLIENT, venue.endpoint, timeout_s=0.5), crash)  # type: ignore[assignment, return-value]
        life = kind(one, venue, crash)
        with crashing(crash, monkeypatch):
            with suppress(Killed):
                life.live()
            if crash.happened.is_set() and one.router is not None:
                one.kill()
        if crash.happened.is_set() and power:
            crash.cut_power(monkeypatch)
        if crash.happened.is_set():
            one._open_oms = lambda: ZeroMqOms(one.context, CLIENT, venue.endpoint, timeout_s=0.5)
            life.live_on()
        numbers = [entry.event.number for entry in one.fills()]
        assert len(numbers) == len(set(numbers))
        assert [entry.number for entry in one.fills()] == list(range(len(one.fills())))
        life.check()
        record = RiskRecord(Path(one.spec.folder), CLIENT, one.spec.mode)
        assert encode_state(record.state) == encode_state(one.trading.record.state)
        record.close()
        one.close()


def steps_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    crash = Crash()
    run(root, crash, monkeypatch)
    return crash.steps


def test_a_life_without_a_crash_takes_the_steps_that_crashes_are_tried_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_folder() as root:
        steps = steps_of(root, monkeypatch)
    assert {"submit", "events", "cancel", "append orders.log", "sync fills.log", "append decisions.log"} <= set(steps)


STRIDE = 6  # of the steps that are tried in a run of all tests


def crash_at(
    at: int, after: bool, monkeypatch: pytest.MonkeyPatch, kind: type[Life] = Life, *, power: bool = False
) -> bool:
    """False if there are not so many steps."""
    crash = Crash(at, after=after)
    with short_folder() as root, monkeypatch.context() as patch:
        run(root, crash, patch, kind, power=power)
    return crash.happened.is_set()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_router_killed_at_some_of_the_steps_has_sent_each_order_once(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 2 if after else 5
    while crash_at(at, after, monkeypatch):
        at += STRIDE
    assert at > 40


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_router_killed_while_a_breaker_opens_takes_the_working_entry_back(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 42 if after else 40  # about where the price falls
    while crash_at(at, after, monkeypatch, Trip):
        at += 3
    assert at > 50


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_router_killed_while_an_order_is_changed_changes_it_once(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 20 if after else 18
    while crash_at(at, after, monkeypatch, Change):
        at += 3
    assert at > 35


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_router_killed_while_it_exits_what_has_lost_its_stop_exits_it_once(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 10 if after else 8
    while crash_at(at, after, monkeypatch, LostStop):
        at += 3
    assert at > 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Life, Trip, Change, LostStop])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_router_killed_at_every_step_has_sent_each_order_once(
    after: bool, kind: type[Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    while crash_at(at, after, monkeypatch, kind):
        at += 1
    assert at > 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Life, Trip, Change, LostStop])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_power_cut_at_every_step_of_a_router_leaves_each_order_sent_once(
    after: bool, kind: type[Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    while crash_at(at, after, monkeypatch, kind, power=True):
        at += 1
    assert at > 35
