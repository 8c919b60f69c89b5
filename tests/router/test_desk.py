"""The order desk and a venue in a process of its own: killed, stopped, silent. And what becomes of orders at each step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oms.venue import Venue
from router.trade import TALK, D, Floor, Make, floors_in

from strategy_runner.model.order import client_order_id
from strategy_runner.router.order_entry import Leaving, Told


@pytest.fixture
def floor(root: Path) -> Iterator[Make]:
    with floors_in(root) as make:
        yield make


def held(one: Floor, worker: str = TALK) -> Any:
    book = one.trading.record.state.books.get(worker.replace(".", "/", 1))
    return 0 if book is None else book.quantity


def test_an_accepted_signal_becomes_an_order_and_its_fill_is_told_to_its_worker(root: Path, floor: Make) -> None:
    with Venue(root, fills=True) as venue:
        one = floor()
        signal_id = one.say(size=2.0)
        one.turn_until(lambda: held(one) == 2, "the fill in the risk state")
        assert one.rulings() == [("accepted", "")]
        assert venue.placed() == {client_order_id(signal_id, "entry"): 1}
        (entry,) = one.fills()
        assert (entry.number, entry.worker, entry.position.quantity) == (0, TALK, D(2))
        assert entry.event.fill is not None and entry.event.fill.signal_id == signal_id
        leaving, told = [entry for entry in one.orders() if isinstance(entry, Leaving | Told)]
        assert isinstance(leaving, Leaving) and leaving.client_order_ids == tuple(venue.placed())
        assert isinstance(told, Told) and told.report.state == "acknowledged"


@pytest.mark.parametrize("kind", ["killed before", "killed after", "stopped", "silent", "rejecting"])
def test_whatever_the_venue_does_an_intent_is_one_order_or_none(root: Path, floor: Make, kind: str) -> None:
    """The venue places an order as often as it is sent: sending blindly twice would show."""
    with Venue(root, fills=True, dedupe=False) as venue:
        one = floor()
        one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
        faults = {
            "killed before": "die_before",
            "killed after": "die_after",
            "stopped": "stop_before",
            "silent": "lose_reply",
            "rejecting": "reject",
        }
        venue.fault(faults[kind])
        signal_id = one.say(size=2.0)
        one.decided(1)
        if kind.startswith("killed"):
            venue.wait_dead()
            venue.kill()
            venue.start()
        elif kind == "stopped":
            venue.wait_stopped()
            one.turn_until(lambda: one.trading.desk.unknown, "an order of which nothing is known")
            venue.thaw()
        one.turn_until(lambda: one.fills() and not one.trading.desk.unknown, "the outcome")
        order_id = client_order_id(signal_id, "entry")
        assert venue.placed() == ({} if kind == "rejecting" else {order_id: 1})
        assert [entry.event.kind for entry in one.fills()] == ["rejected" if kind == "rejecting" else "fill"]


def test_while_an_outcome_is_unknown_the_symbol_takes_no_entries_and_others_do(root: Path, floor: Make) -> None:
    with Venue(root, fills=True, dedupe=False) as venue:
        one = floor(TALK, "talk.Y")
        one.say(size=1.0)
        one.turn_until(lambda: held(one) == 1, "a fill")
        venue.fault("stop_before")  # of a venue that was silent before, no order would be asked
        one.say(size=1.0)
        one.decided(2)
        venue.wait_stopped()
        one.turn_until(lambda: one.trading.desk.unknown, "an order of which nothing is known")
        one.turn_until(
            lambda: "unknown" in {order.state.value for order in one.trading.record.state.orders.values()},
            "risk to know",
        )
        one.say(size=1.0)
        one.say("talk.Y", size=1.0)
        one.say(action="close", size=1.0, reasons=("closes:long",))
        rulings = sorted((":talk.Y" in one.signal_id, one.reason) for one in one.decided(5)[2:])
        assert rulings == [(False, ""), (False, "order_outcome_unknown"), (True, "")]
        venue.thaw()
        one.turn_until(lambda: held(one, "talk.Y") == 1 and held(one) == 1, "all that was meant to be filled")
        assert set(venue.placed().values()) == {1}
        one.say(size=1.0)
        one.turn_until(lambda: held(one) == 2, "an entry again")


def test_an_oms_that_is_down_for_a_while_gets_the_orders_when_it_is_back(root: Path, floor: Make) -> None:
    with Venue(root, fills=True, dedupe=False) as venue:
        one = floor()
        one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
        venue.kill()
        for _ in range(3):
            one.say(size=1.0)
        one.decided(3)
        one.turn_until(lambda: one.trading.desk.fault, "word of it")
        venue.start()
        one.turn_until(lambda: held(one) == 3, "three fills")
        assert len(venue.placed()) == 3 and set(venue.placed().values()) == {1}
