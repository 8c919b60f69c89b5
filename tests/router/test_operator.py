"""The operator's hand on a router that trades: what was asked holds from the next decision on, once, whatever dies."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oms.venue import Venue
from router.desk import Desk, Talker
from router.trade import D, Floor, Make, exits, floors_in, instrument

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.order import client_order_id
from strategy_runner.risk.breakers import strictest
from strategy_runner.risk.state import Posture
from strategy_runner.router.acknowledgement import read_acknowledgement
from strategy_runner.router.breaker_log import read_breakers
from strategy_runner.router.operator_log import Action, Request, read_actions, record
from strategy_runner.router.order_entry import Flattened
from strategy_runner.router.reconciliation import read_reconciliation
from strategy_runner.router.restarts import LOOK_INTERVAL_S
from strategy_runner.router.stops import read_stops
from strategy_runner.tape.status import StatusFile

OTHER = "walk.X"
STOPPED = ("refused", "stopped_by_operator")


@pytest.fixture
def floor(root: Path) -> Iterator[Make]:
    with floors_in(root, started=False) as make:
        yield make


def ask(root: Path, verb: Any, **scope: Any) -> Action:
    (action,) = record(root, [Request(verb=verb, reason="a test", **scope)], who="tester", at_ns=time.time_ns())
    return action


def acted(floor: Floor, action: Action) -> None:
    """Turns the router until it says that the action is in force and its orders are on their way."""

    def has_acted() -> bool:
        word = read_acknowledgement(floor.root / "router")
        return word is not None and word.taken >= action.number and word.acted >= action.number

    floor.turn_until(has_acted, f"the acknowledgement of action {action.number}")


def buy_filled(floor: Floor, venue: Venue, worker: str = "talk.X", size: float = 2.0) -> None:
    before = len(floor.fills())
    signal_id = floor.say(worker, size=size)
    order_id = client_order_id(signal_id, "entry")
    await_placed(floor, venue, order_id)
    venue.fill(order_id)
    floor.turn_until(lambda: len(floor.fills()) > before, "the fill")
    strategy, _, symbol = worker.partition(".")
    books = floor.trading.record.state.books
    floor.turn_until(lambda: f"{strategy}/{symbol}" in books and books[f"{strategy}/{symbol}"].quantity, "the position")


def told(floor: Floor) -> dict[str, str]:
    """What workers were told last of each order, by its id."""
    events = [entry.event for entry in floor.fills()]
    return {event.report.client_order_id: event.kind for event in events if event.report is not None}


def await_placed(floor: Floor, venue: Venue, order_id: str) -> None:
    floor.turn_until(lambda: order_id in venue.placed(), f"order {order_id} at the venue")


def test_a_halt_stops_entries_of_its_scope_and_lets_exits_pass(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor("talk.X", OTHER)
        one.start()
        buy_filled(one, venue)
        acted(one, ask(root, "halt", strategy="talk"))

        one.say("talk.X", size=1.0)
        one.say(OTHER, size=1.0)
        one.say("talk.X", action="close", size=2.0, reasons=("closes:long",))
        one.decided(4)
        by_worker = {(d.signal_id.partition("@")[0], d.verdict, d.reason) for d in one.decisions()[1:]}
        assert by_worker == {
            ("acme:talk.X", "refused", "stopped_by_operator"),
            ("acme:walk.X", "accepted", ""),
            ("acme:talk.X", "accepted", ""),
        }


@pytest.mark.parametrize("policy", ["priority", "net", "vote", "confidence"])
def test_nobody_loses_to_a_strategy_that_is_halted(root: Path, floor: Make, policy: Any) -> None:
    with Venue(root):
        one = floor("high.X", "low.X", risk=RiskConfig(aggregation=policy, priorities=("high", "low")))
        one.start()
        acted(one, ask(root, "halt", strategy="high"))
        one.say("high.X", size=9.0, confidence=0.9)
        one.say("low.X", action="sell", size=1.0, confidence=0.1)
        ruled = {(d.signal_id.partition("@")[0], d.verdict, d.reason) for d in one.decided(2)}
        assert ruled == {("acme:high.X", "refused", "stopped_by_operator"), ("acme:low.X", "accepted", "")}


def test_a_hard_halt_stops_exits_too(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor()
        one.start()
        buy_filled(one, venue)
        acted(one, ask(root, "halt", is_hard=True))
        one.say(action="close", size=2.0, reasons=("closes:long",))
        one.decided(2)
        assert one.rulings()[1] == STOPPED


def test_a_halt_outlives_the_router_and_only_a_resume_of_its_scope_lifts_it(root: Path, floor: Make) -> None:
    with Venue(root):
        one = floor()
        one.start()
        acted(one, ask(root, "halt", symbol="X"))
        one.kill()
        one.start()
        one.say(size=1.0)
        one.decided(1)
        acted(one, ask(root, "resume"))
        one.say(size=1.0)
        one.decided(2)
        assert one.rulings() == [STOPPED, STOPPED]
        acted(one, ask(root, "resume", symbol="X"))
        one.say(size=1.0)
        one.decided(3)
        assert one.rulings()[2] == ("accepted", "")


def test_what_is_asked_while_no_router_runs_holds_for_the_next_from_its_first_decision(root: Path, floor: Make) -> None:
    with Venue(root):
        one = floor()
        one.say(size=1.0)
        ask(root, "halt")
        one.start()
        one.decided(1)
        assert one.rulings() == [STOPPED]


def test_an_action_is_taken_once_though_a_router_reads_it_again(root: Path, floor: Make) -> None:
    """A resume that was read again at the next start would lift what a breaker has stopped since."""
    with Venue(root):
        one = floor()
        one.start()
        ask(root, "halt")
        acted(one, ask(root, "resume"))
        (again,) = [ask(root, "halt", is_hard=True)]
        acted(one, again)
        since_ns = one.trading.record.state.latches[0].since_ns
        one.kill()
        one.start()
        acted(one, again)
        (latch,) = one.trading.record.state.latches
        assert (latch.posture, latch.since_ns) == (Posture.HALTED, since_ns)


def test_a_halt_cancels_working_entries_and_leaves_exits(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor("talk.X", OTHER)
        one.start()
        buy_filled(one, venue)
        exit_id = client_order_id(one.say(action="close", size=2.0, reasons=("closes:long",)), "exit")
        entry_id = client_order_id(one.say(OTHER, size=1.0), "entry")
        await_placed(one, venue, exit_id)
        await_placed(one, venue, entry_id)
        acted(one, ask(root, "halt"))
        # the venue's answer may end the order before its event is told
        one.turn_until(lambda: told(one).get(entry_id) == "cancelled", "the entry told cancelled")
        assert one.trading.desk.open_orders == 1
        assert told(one).get(exit_id) != "cancelled"


def test_flatten_exits_what_is_held_in_its_scope_once_whatever_dies(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor("talk.X", OTHER)
        one.start()
        buy_filled(one, venue, "talk.X")
        buy_filled(one, venue, OTHER, size=3.0)
        ask(root, "flatten", strategy="talk")
        one.turn_until(lambda: one.trading.desk.acted, "the desk's word")
        one.kill()
        one.start()
        (flattening,) = exits(one)
        await_placed(one, venue, flattening.client_order_id)
        one.kill()
        one.start()
        venue.fill(flattening.client_order_id)
        one.turn_until(lambda: not one.trading.record.state.books["talk/X"].quantity, "the position closed")
        one.turn_until(
            lambda: any(isinstance(e, Flattened) and e.is_over for e in one.orders()), "the end of flattening"
        )
        assert exits(one) == [flattening]
        assert venue.placed()[flattening.client_order_id] == 1
        assert one.trading.record.state.books["walk/X"].quantity == D(3)
        one.say("talk.X", size=1.0)
        one.decided(3)
        assert one.rulings()[2] == ("accepted", ""), "a flattened strategy goes on"


def test_flatten_closes_whole_lots_first_where_the_lot_is_larger_now(root: Path, floor: Make) -> None:
    """An OMS may not take the rest, which then is all that stays."""
    with Venue(root) as venue:
        one = floor()
        one.start()
        buy_filled(one, venue, size=2.5)
        one.stop()
        one.spec = msgspec.structs.replace(one.spec, instruments={"X": instrument("X", lot_size=D(1))})
        one.start()
        ask(root, "flatten")
        one.turn_until(lambda: len(exits(one)) == 1, "an exit")
        await_placed(one, venue, exits(one)[0].client_order_id)
        venue.fill(exits(one)[0].client_order_id)
        one.turn_until(lambda: len(exits(one)) == 2, "an exit of the rest")
        assert [order.quantity for order in exits(one)] == [D(2), D("0.5")]
        await_placed(one, venue, exits(one)[1].client_order_id)
        venue.fill(exits(one)[1].client_order_id)
        one.turn_until(lambda: not one.trading.record.state.books["talk/X"].quantity, "flat")
        assert len(exits(one)) == 2


def test_a_close_of_what_is_less_than_a_lot_closes_all_of_it(root: Path, floor: Make) -> None:
    """By itself, as a flattening does: an OMS may not take it."""
    with Venue(root) as venue:
        one = floor()
        one.start()
        buy_filled(one, venue, size=2.5)
        one.stop()
        one.spec = msgspec.structs.replace(one.spec, instruments={"X": instrument("X", lot_size=D(1))})
        one.start()
        for n, (action, size, closed, left) in enumerate(
            (("close", 2.5, "2", "0.5"), ("close", 0.25, "", "0.5"), ("sell", 0.5, "0.5", "0")), 2
        ):
            order_id = client_order_id(one.say(action=action, size=size, reasons=("closes:long",)), "exit")
            ruled = one.decided(n)[-1]
            assert [order.quantity for order in ruled.orders] == ([D(closed)] if closed else []), ruled
            if closed:
                await_placed(one, venue, order_id)
                venue.fill(order_id)
            books = one.trading.record.state.books
            one.turn_until(lambda books=books, left=left: books["talk/X"].quantity == D(left), f"{left} held")


def test_a_reconciliation_that_is_asked_for_is_answered(root: Path, floor: Make) -> None:
    with Venue(root):
        one = floor()
        one.start()
        action = ask(root, "reconcile")
        acted(one, action)
        one.turn_until(
            lambda: (found := read_reconciliation(root / "router")) and found.action == action.number, "an answer"
        )
        assert one.trading.desk.differences == ()


@pytest.mark.parametrize(
    ("policy", "is_stopped", "flattened"),
    [
        ("resume", False, 0),
        ("hold", True, 0),
        ("ask", True, 0),
        ("flatten", False, 1),
    ],
)
def test_a_position_that_nobody_watched_is_dealt_with_as_configured(
    root: Path, floor: Make, policy: str, is_stopped: bool, flattened: int
) -> None:
    with Venue(root) as venue:
        one = floor("talk.X", OTHER, on_restart={"talk": policy, "walk": policy})
        one.start()
        buy_filled(one, venue)
        assert not list(read_actions(root)), "a position is watched as it comes"
        one.kill()
        one.start()
        one.turn_until(lambda: len(exits(one)) == flattened, "the exits")
        one.say("talk.X", size=1.0)
        one.say(OTHER, size=1.0)
        rulings = {d.signal_id.partition("@")[0]: (d.verdict, d.reason) for d in one.decided(3)[1:]}
        assert rulings == {"acme:talk.X": STOPPED if is_stopped else ("accepted", ""), "acme:walk.X": ("accepted", "")}
        assert {action.who for action in read_actions(root)} <= {"on_restart"}
        latch = strictest(read_stops(root, "acme", "mock"), "talk", "X")
        assert (latch is not None) == is_stopped
        if policy == "ask":
            assert latch is not None and "strategy-runner flatten acme:talk" in latch.facts

        one.kill()
        one.start()
        one.turn_until(lambda: True, "a turn")
        asked = [action.request.verb for action in read_actions(root)]
        assert asked.count("halt") == is_stopped, "a hold that holds is not asked for again"


@pytest.mark.parametrize("policy", ["hold", "flatten"])
def test_a_position_that_came_or_went_while_no_router_ran_is_dealt_with_as_it_is_now(
    root: Path, floor: Make, policy: str
) -> None:
    with Venue(root) as venue:
        one = floor("talk.X", OTHER, on_restart={"talk": policy, "walk": policy})
        one.start()
        buy_filled(one, venue, OTHER)
        waiting = client_order_id(one.say("talk.X", size=1.0), "entry")
        await_placed(one, venue, waiting)
        leaving = client_order_id(one.say(OTHER, action="close", size=2.0, reasons=("closes:long",)), "exit")
        await_placed(one, venue, leaving)
        one.kill()
        venue.fill(waiting)
        venue.fill(leaving)
        one.start()
        one.turn_until(lambda: list(read_actions(root)), "what was configured")
        (action,) = read_actions(root)
        assert (action.request.verb, action.request.strategy) == ("halt" if policy == "hold" else policy, "talk")
        one.say("talk.X", size=1.0)
        one.say(OTHER, size=1.0)
        rulings = {d.signal_id.partition("@")[0]: (d.verdict, d.reason) for d in one.decided(5)[3:]}
        passed = ("accepted", "")
        assert rulings == {"acme:talk.X": STOPPED if policy == "hold" else passed, "acme:walk.X": passed}


def test_a_hold_after_a_restart_softens_no_halt_of_a_person(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor(on_restart={"talk": "hold"})
        one.start()
        buy_filled(one, venue)
        one.kill()
        action = ask(root, "halt", strategy="talk", is_hard=True)
        one.start()
        acted(one, action)
        one.turn_until(lambda: True, "a turn")
        (latch,) = one.trading.record.state.latches
        assert (latch.posture, latch.facts) == (Posture.HALTED, "a test")
        assert list(read_actions(root)) == [action]


def test_a_position_whose_worker_became_another_process_is_dealt_with_too(root: Path, floor: Make) -> None:
    with Venue(root) as venue:
        one = floor(on_restart={"talk": "hold"})
        one.start()
        buy_filled(one, venue)
        page = StatusFile(root / "workers" / "talk.X" / "status")
        await_looks(one)
        assert not list(read_actions(root))
        page.status.pid = os.getppid()
        page.write()
        one.turn_until(lambda: list(read_actions(root)), "the hold")
        one.say(size=1.0)
        assert one.decided(2)[1].reason == "stopped_by_operator"


def await_looks(floor: Floor) -> None:
    """Turns until the workers were looked at twice."""
    until = time.monotonic() + 3 * LOOK_INTERVAL_S
    floor.turn_until(lambda: time.monotonic() > until, "two looks")


def test_without_an_oms_the_operator_log_alone_stops_signals(root: Path) -> None:
    desk = Desk(root)
    talker = Talker(root)
    talker.say(size=2.0)
    desk.decide()
    ask(root, "halt", strategy="talk")
    talker.say(size=1.0)
    talker.say(action="close", size=2.0, reasons=("closes:long",))
    desk.decide()
    desk.restart()
    talker.say(size=1.0)
    desk.decide()
    ask(root, "resume", strategy="talk")
    talker.say(size=1.0)
    desk.decide()
    rulings = [(one.verdict, one.reason) for one in desk.decisions()]
    assert rulings == [("accepted", ""), STOPPED, ("accepted", ""), STOPPED, ("accepted", "")]
    desk.close()


def test_each_breaker_that_opens_and_closes_is_logged_once(root: Path, floor: Make) -> None:
    with Venue(root):
        one = floor()
        one.start()
        acted(one, ask(root, "halt"))
        one.turn_until(lambda: list(read_breakers(root / "router")), "the breaker in its log")
        one.kill()
        one.start()
        acted(one, ask(root, "resume"))
        one.turn_until(lambda: len(list(read_breakers(root / "router"))) == 2, "its end in the log")
        assert [(c.opened, c.latch.breaker) for c in read_breakers(root / "router")] == [
            (True, "operator"),
            (False, "operator"),
        ]


def test_two_writers_never_give_one_number_twice(root: Path) -> None:
    def write() -> None:
        for _ in range(20):
            ask(root, "halt")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [action.number for action in read_actions(root)] == list(range(1, 81))
