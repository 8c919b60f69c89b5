"""A stop loss that is lost leaves nobody unprotected: the entry is cancelled, what is held is exited, once."""

import time
from decimal import Decimal
from pathlib import Path

import pytest
from oms.venue import Venue
from router.desk import CLIENT
from router.own_venue import venue_in
from router.trade import D, Floor, begun, exits

from strategy_runner.model.order import OrderReport, client_order_id
from strategy_runner.model.signal import OrderTerms
from strategy_runner.router.lost_stops import WHO
from strategy_runner.router.operator_log import Action, read_actions
from strategy_runner.router.order_book import LATE_FILL


def asked(root: Path) -> list[Action]:
    return list(read_actions(root))


def filled(floor: Floor) -> int:
    return sum(entry.event.fill is not None for entry in floor.fills())


def is_over(floor: Floor, root: Path) -> bool:
    """The action is carried out, and nothing is left to do."""
    desk = floor.trading.desk
    return bool(asked(root)) and desk.acted == len(asked(root)) and not desk.open_orders and not desk.lost_stops


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
def test_what_is_held_without_its_stop_exits_once(root: Path, killed: bool) -> None:
    with Venue(root, fills=True) as venue:
        one = begun(root, "talk.X", "walk.X")
        one.say("walk.X", size=3.0)
        one.turn_until(lambda: filled(one) == 1, "another's position")
        venue.fault("reject_stops")
        one.say("talk.X", size=2.0, stop_loss=90.0)
        one.turn_until(lambda: filled(one) >= 2, "the fill")
        if killed:
            one.turn_until(lambda: asked(root), "the action")
            one.kill()
            one.start()
        one.turn_until(lambda: is_over(one, root), "the exit")
        (exit_,) = exits(one)
        assert (exit_.side, exit_.quantity, exit_.strategy, exit_.symbol) == ("sell", D(2), "talk", "X")
        assert venue.placed()[exit_.client_order_id] == 1
        (action,) = asked(root)
        assert (action.who, action.request.verb, action.request.scope) == (WHO, "flatten", ":talk:X")
        assert action.request.reason == "its stop loss is lost: the OMS rejected it: venue_says_no"
        books = one.trading.record.state.books
        one.turn_until(lambda: books["talk/X"].quantity == 0, "flat")
        assert books["walk/X"].quantity == D(3), "what others hold is not touched"
        one.stop()
        one.close()


def test_an_entry_without_its_stop_is_cancelled_before_it_fills(root: Path) -> None:
    with Venue(root) as venue:
        one = begun(root)
        venue.fault("reject_stops")
        entry_id = client_order_id(one.say(size=2.0, stop_loss=90.0), "entry")
        one.turn_until(lambda: is_over(one, root), "the entry's end")
        assert (venue.placed()[entry_id], exits(one), filled(one)) == (1, [], 0)
        one.say(size=1.0, stop_loss=90.0)
        one.turn_until(lambda: one.trading.desk.open_orders == 2, "the next entry, with its stop")
        assert len(asked(root)) == 1
        one.stop()
        one.close()


def test_an_entry_that_is_rejected_itself_needs_no_exit(root: Path) -> None:
    with Venue(root) as venue:
        one = begun(root)
        venue.fault("reject")
        one.say(size=2.0, stop_loss=90.0)
        one.decided(1)
        one.turn_until(lambda: one.trading.desk.cursor == 1 and not one.trading.desk.open_orders, "the rejection")
        for _ in range(20):
            one.turn_until(lambda: True, "a turn")
            time.sleep(0.01)
        assert (asked(root), one.trading.desk.lost_stops) == ([], ())
        one.stop()
        one.close()


def test_a_second_stop_that_is_lost_is_exited_too(root: Path) -> None:
    with Venue(root, fills=True) as venue:
        one = begun(root)
        for number in (1, 2):
            venue.fault("reject_stops")
            one.say(size=2.0, stop_loss=90.0)
            one.turn_until(lambda number=number: len(asked(root)) == number, "the action")
            one.turn_until(lambda: is_over(one, root), "the exit")
            assert len(exits(one)) == number
        one.stop()
        one.close()


@pytest.mark.parametrize("before", [D(0), D(1)], ids=["nothing before", "a part before"])
def test_a_fill_that_is_told_behind_the_end_of_its_entry_exits(root: Path, before: Decimal) -> None:
    """If its stop has ended with the entry. One of an entry that was filled in part works on."""
    with venue_in(root) as venue:
        one = begun(root)
        entry_id = client_order_id(one.say(size=3.0, stop_loss=90.0), "entry")
        one.turn_until(lambda: len(venue.placed) == 2, "a bracket at the venue")
        if before:
            venue.fill(entry_id, before)
        venue.backend.cancel(CLIENT, entry_id)
        venue.server.on_news(CLIENT, venue.backend.last_number(CLIENT))
        one.turn_until(lambda: one.trading.desk.open_orders == bool(before), "its end")
        venue.fill(entry_id, D(2))
        one.turn_until(lambda: filled(one) == 1 + bool(before), "the late fill")
        if before:
            one.turn_until(lambda: one.trading.desk.open_orders == 1, "only the stop left")
            assert asked(root) == []
        else:
            one.turn_until(lambda: len(venue.placed) == 3, "an exit at the venue")
            (exit_,) = exits(one)
            assert (exit_.side, exit_.quantity) == ("sell", D(2))
            venue.fill(exit_.client_order_id)
            one.turn_until(lambda: is_over(one, root), "the exit")
            assert asked(root)[0].request.reason == f"its stop loss is lost: {LATE_FILL}"
        one.stop()
        one.close()


def test_an_entry_that_is_filled_while_a_close_of_everything_cancels_it_exits_too(root: Path) -> None:
    """Its stop goes with it, and the close was only of what was held before."""
    with venue_in(root) as venue:
        one = begun(root)
        first_id = client_order_id(one.say(size=1.0), "entry")
        one.turn_until(lambda: first_id in venue.placed, "the first entry at the venue")
        venue.fill(first_id)
        one.turn_until(lambda: filled(one) == 1, "its fill")
        later_id = client_order_id(one.say(size=2.0, stop_loss=90.0, terms=OrderTerms(limit_price=99.0)), "entry")
        one.turn_until(lambda: len(venue.placed) == 3, "a bracket at the venue")
        cancel = venue.backend.cancel

        def too_late(client: str, order_id: str) -> OrderReport:
            if order_id == later_id and not venue.backend.query(client, [order_id])[0].filled:  # type: ignore[union-attr]
                venue.backend.fill(client, order_id)
            return cancel(client, order_id)

        venue.backend.cancel = too_late  # type: ignore[method-assign]
        close_id = client_order_id(one.say(action="close", size=1.0, reasons=("closes:long",)), "exit")
        one.turn_until(lambda: close_id in venue.placed, "the close at the venue")
        venue.fill(close_id)
        one.turn_until(lambda: len(venue.placed) == 5, "an exit of the rest at the venue")
        (exit_,) = exits(one)
        assert (exit_.side, exit_.strategy, exit_.symbol) == ("sell", "talk", "X")
        assert asked(root)[0].request.reason == f"its stop loss is lost: {LATE_FILL}"
        one.stop()
        one.close()
