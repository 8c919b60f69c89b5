"""What a worker holds whose stop loss has ended is told of, and nothing else is."""

import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from router.desk import CLIENT
from router.own_venue import OwnVenue, venue_in
from router.trade import D, Floor, begun

from strategy_runner.model.order import OmsEvent, OmsEventKind, OrderState, TimeInForce, client_order_id
from strategy_runner.model.signal import OrderTerms
from strategy_runner.monitor.checks_orders import check_protection
from strategy_runner.router.operator_log import read_actions
from strategy_runner.router.order_entry import Scope
from strategy_runner.router.order_journal import read_book
from strategy_runner.router.unprotected import LOOK_TWICE_S


def ends(venue: OwnVenue, order_id: str, state: OrderState = OrderState.CANCELLED, reason: str = "venue") -> None:
    """As its operator does it, or the market's close."""
    kinds: dict[OrderState, OmsEventKind] = {
        OrderState.CANCELLED: "cancelled",
        OrderState.EXPIRED: "expired",
        OrderState.REJECTED: "rejected",
    }
    backend = venue.backend
    order, report = backend._orders[CLIENT, order_id], backend._reports[CLIENT, order_id]
    event = OmsEvent(
        number=backend.last_number(CLIENT),
        client=CLIENT,
        kind=kinds[state],
        event_ns=order.event_ns + 1,
        seq=-1,
        report=msgspec.structs.replace(report, state=state, reason=reason),
        account=order.account,
        strategy=order.strategy,
        symbol=order.symbol,
    )
    venue.tell(event)


def bracket(one: Floor, venue: OwnVenue, size: float, worker: str = "talk.X", **changes: object) -> tuple[str, ...]:
    """An entry that was filled, with its stop loss and take profit. Returns their ids."""
    placed = len(venue.placed)
    signal_id = one.say(worker, **{"size": size, "stop_loss": 90.0, "take_profit": 110.0, **changes})  # type: ignore[arg-type]
    ids = tuple(client_order_id(signal_id, leg) for leg in ("entry", "stop_loss", "take_profit"))
    one.turn_until(lambda: len(venue.placed) == placed + 3, "a bracket at the venue")
    venue.fill(ids[0])
    one.turn_until(lambda: ids[0] not in one.trading.record.state.orders, "its fill")
    return ids


def told(one: Floor) -> list[tuple[str, Decimal]]:
    return [(lost.worker, lost.quantity) for lost in one.trading.desk.unprotected]


def nothing_is_told(one: Floor, condition: str) -> None:
    until = time.monotonic() + 1.5 * LOOK_TWICE_S
    found = []
    one.turn_until(lambda: found.extend(told(one)) or time.monotonic() > until, condition)
    assert found == []


@pytest.mark.parametrize("state", [OrderState.CANCELLED, OrderState.EXPIRED], ids=["cancelled", "expired"])
def test_a_stop_that_the_oms_ends_by_itself_is_told_of_until_what_it_protected_is_gone(
    root: Path, state: OrderState
) -> None:
    with venue_in(root) as venue:
        one = begun(root, "talk.X", "walk.X")
        bracket(one, venue, 5.0, "walk.X")
        _, stop_id, target_id = bracket(one, venue, 3.0)
        nothing_is_told(one, "two brackets")
        ends(venue, stop_id, state)
        one.turn_until(lambda: told(one), "word of it")
        expected = f"talk.X holds 3 without a stop loss: order {stop_id} was {state.value}: venue"
        assert one.trading.faults() == [f"unprotected: {expected}"]
        (finding,) = check_protection(root, CLIENT, one.spec.instruments)
        assert (finding.level, finding.subject) == ("error", "acme:talk.X")
        assert "strategy-runner flatten acme:talk.X --reason WHY" in finding.advice
        one.kill()
        one.start()
        assert told(one) == []
        one.turn_until(lambda: told(one), "word of it from the next router")
        assert [str(lost) for lost in one.trading.desk.unprotected] == [expected]
        venue.fill(target_id, D(1))
        one.turn_until(lambda: told(one) == [("talk.X", 2)], "less of it")
        venue.fill(target_id, D(2))
        one.turn_until(lambda: not told(one), "none of it")
        assert (list(read_actions(root)), check_protection(root, CLIENT, one.spec.instruments)) == ([], [])
        one.stop()
        one.close()


@pytest.mark.parametrize("state", [OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED])
def test_a_close_that_the_oms_ends_after_its_stop_leaves_a_position_that_is_told_of(
    root: Path, state: OrderState
) -> None:
    with venue_in(root) as venue:
        one = begun(root)
        _, stop_id, _ = bracket(one, venue, 3.0)
        close_id = client_order_id(one.say(action="close", size=3.0, reasons=("closes:long",)), "exit")
        one.turn_until(lambda: one.trading.desk.open_orders == 1, "the close alone")
        nothing_is_told(one, "a close on its way")
        ends(venue, close_id, state)
        one.turn_until(lambda: told(one) == [("talk.X", 3)], "word of it")
        assert stop_id in str(one.trading.desk.unprotected[0])
        one.trading.desk.flatten(1, Scope("talk", "X"))
        one.turn_until(lambda: one.trading.desk.open_orders == 1 and not told(one), "an exit on its way")
        (exit_id,) = (one for one in venue.placed if venue.backend._reports[CLIENT, one].state == "acknowledged")
        venue.fill(exit_id)
        one.turn_until(lambda: not one.trading.desk.open_orders, "flat")
        nothing_is_told(one, "flat")
        one.stop()
        one.close()


def test_the_stops_of_entries_that_wait_watch_nothing_of_what_is_held(root: Path) -> None:
    """Neither that of a short entry nor that of a further long one, and nobody was told of the position."""
    with venue_in(root) as venue:
        one = begun(root)
        _, stop_id, _ = bracket(one, venue, 3.0)
        one.say(size=4.0, action="sell", stop_loss=130.0, terms=OrderTerms(limit_price=120.0))
        one.turn_until(lambda: len(venue.placed) == 5, "a short entry that waits")
        further = client_order_id(one.say(size=5.0, stop_loss=70.0, terms=OrderTerms(limit_price=80.0)), "entry")
        one.turn_until(lambda: len(venue.placed) == 7, "a long one")
        ends(venue, stop_id)
        one.turn_until(lambda: told(one) == [("talk.X", 3)], "word of what is held")
        venue.fill(further, D(2))
        one.turn_until(lambda: one.trading.record.state.books["talk/X"].quantity == 5, "a part of the further entry")
        one.turn_until(lambda: told(one) == [("talk.X", 3)], "word of what has no stop")
        one.stop()
        one.close()


def test_an_exit_that_ends_the_other_of_its_bracket_leaves_nothing_unprotected(root: Path) -> None:
    """Whichever is told first. What else is held, and asked for no stop, is as its strategy wants it."""
    with venue_in(root) as venue:
        one = begun(root)
        plain = client_order_id(one.say(size=2.0), "entry")
        one.turn_until(lambda: plain in venue.placed, "an entry at the venue")
        venue.fill(plain)
        for is_stop_first in (True, False):
            _, stop_id, target_id = bracket(one, venue, 3.0)
            if is_stop_first:
                ends(venue, stop_id)
            venue.fill(target_id)
            if not is_stop_first:
                ends(venue, stop_id)
            one.turn_until(lambda: not one.trading.desk.open_orders, "the bracket's end")
            nothing_is_told(one, "the end of a bracket")
        assert one.trading.record.state.books["talk/X"].quantity == 2
        one.stop()
        assert read_book(root / "router", CLIENT, one.spec.instruments).ended_stops == {}
        one.close()


@pytest.mark.parametrize("lifetime", ["ioc", "day"])
def test_a_close_that_may_end_unfilled_leaves_the_stop_where_it_is(root: Path, lifetime: TimeInForce) -> None:
    """Until it has closed all."""
    with venue_in(root) as venue:
        one = begun(root)
        _, stop_id, target_id = bracket(one, venue, 3.0)
        terms = OrderTerms(time_in_force=lifetime)
        for filled in (D(1), D(2)):
            size = float(one.trading.record.state.books["talk/X"].quantity)
            signal_id = one.say(action="close", size=size, reasons=("closes:long",), terms=terms)
            close_id = client_order_id(signal_id, "exit")
            one.turn_until(lambda close_id=close_id: close_id in venue.placed, "the close at the venue")
            venue.fill(close_id, filled)
            if filled == 1:
                ends(venue, close_id, OrderState.EXPIRED, lifetime)
                one.turn_until(lambda: one.trading.desk.open_orders == 2, "its end")
                nothing_is_told(one, "a stop that works on")
                left = {report.client_order_id for report in venue.backend.open_orders(CLIENT)}
                assert left == {stop_id, target_id}
        one.turn_until(lambda: not one.trading.desk.open_orders, "the end of the exits with the position")
        one.stop()
        one.close()


def test_what_another_stop_watches_is_not_told_of(root: Path) -> None:
    with venue_in(root) as venue:
        one = begun(root)
        _, stop_id, _ = bracket(one, venue, 3.0, take_profit=120.0)
        other = one.say(action="close", size=3.0, reasons=("closes:long",), terms=OrderTerms(stop_price=95.0))
        one.turn_until(lambda: client_order_id(other, "exit") in venue.placed, "a stop of the strategy's own")
        ends(venue, stop_id)
        nothing_is_told(one, "another stop")
        ends(venue, client_order_id(other, "exit"))
        one.turn_until(lambda: told(one) == [("talk.X", 3)], "word of it")
        one.stop()
        one.close()


def test_stops_of_entries_that_filled_nothing_are_not_kept(root: Path) -> None:
    with venue_in(root) as venue:
        one = begun(root)
        bracket(one, venue, 3.0)
        for _ in range(2):
            signal_id = one.say(size=1.0, stop_loss=90.0, terms=OrderTerms(limit_price=99.0))
            order_id = client_order_id(signal_id, "entry")
            one.turn_until(lambda order_id=order_id: order_id in venue.placed, "a limit order at the venue")
            ends(venue, client_order_id(signal_id, "stop_loss"))
            ends(venue, order_id)
            one.turn_until(lambda: one.trading.desk.open_orders == 2, "the first bracket's exits alone")
        nothing_is_told(one, "entries that came to nothing")
        one.stop()
        assert read_book(root / "router", CLIENT, one.spec.instruments).ended_stops == {}
        one.close()
