"""A strategy's hand on its own orders: limits and stops are placed as it says, modified and cancelled, and survive a kill."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from router.desk import CLIENT, body_of
from router.own_venue import OwnVenue, venue_in
from router.trade import TALK, D, Floor, Make, floors_in, instrument

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.order import FINAL_STATES, OmsEvent, OrderState, client_order_id
from strategy_runner.model.position import Position
from strategy_runner.model.signal import OrderTerms
from strategy_runner.oms.interface import EventsUnavailable, Oms
from strategy_runner.oms.ledger import Account, place
from strategy_runner.oms.order_machine import Acknowledged, advance, report_of
from strategy_runner.oms.order_making import orders_of
from strategy_runner.risk.state import encode_state
from strategy_runner.router.order_book import OrderBook, fold
from strategy_runner.router.order_entry import (
    CancelWanted,
    Contradicted,
    Happened,
    Intended,
    Leaving,
    ModifyWanted,
    Told,
)
from strategy_runner.router.order_journal import order_log, read_orders
from strategy_runner.router.order_rows import OrderRow, order_rows


@pytest.fixture
def venue(root: Path) -> Iterator[OwnVenue]:
    with venue_in(root) as made:
        yield made


@pytest.fixture
def floor(root: Path, venue: OwnVenue) -> Iterator[Make]:
    with floors_in(root) as make:
        yield make


def rest(one: Floor, **changes: Any) -> str:
    """A buy that waits at 99 is at the venue; its signal."""
    signal_id = one.say(**{"size": 2.0, "terms": OrderTerms(limit_price=99.0), **changes})
    one.turn_until(lambda: state(one, signal_id) is OrderState.ACKNOWLEDGED, "an order at the venue")
    return signal_id


def row(one: Floor, signal_id: str, leg: str = "entry") -> OrderRow | None:
    rows = order_rows(order_log(one.root / "router"))
    return next((each for each in rows if each.client_order_id == client_order_id(signal_id, leg)), None)


def state(one: Floor, signal_id: str, leg: str = "entry") -> OrderState | None:
    found = row(one, signal_id, leg)
    return found.state if found else None


def change(one: Floor, signal_id: str, **changes: Any) -> None:
    one.say(**{"action": "modify", "of": signal_id, "size": None, "entry_price": None, **changes})


def test_a_limit_order_is_placed_modified_and_cancelled_by_its_strategy(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    signal_id = rest(one, stop_loss=95.0)
    placed = row(one, signal_id)
    assert placed is not None
    assert (placed.type, placed.price, placed.quantity) == ("limit", D("99"), D("2"))
    change(one, signal_id, size=1.0, terms=OrderTerms(limit_price=98.5), stop_loss=94.0)
    one.turn_until(lambda: (found := row(one, signal_id)) and found.price == D("98.5"), "another price")
    one.turn_until(lambda: (found := row(one, signal_id, "stop_loss")) and found.price == D("94"), "another stop")
    changed = row(one, signal_id)
    assert changed is not None
    assert (changed.quantity, changed.state) == (D("1"), OrderState.ACKNOWLEDGED)
    one.turn_until(lambda: all(order.quantity == 1 for order in orders(one) if order.is_entry), "less at risk")
    one.say(action="cancel", of=signal_id, size=None, entry_price=None)
    one.turn_until(lambda: not orders(one), "no order open")
    ended = row(one, signal_id)
    assert ended is not None
    assert (ended.state, ended.reason) == (OrderState.CANCELLED, "cancelled_by_strategy")
    assert [verdict for verdict, _ in one.rulings()] == ["accepted"] * 3
    assert set(venue.placed.values()) == {1}


def test_an_order_that_is_lowered_to_what_was_filled_of_it_is_over_and_was_modified(
    venue: OwnVenue, floor: Make
) -> None:
    one = floor()
    signal_id = rest(one)
    venue.fill(client_order_id(signal_id, "entry"), D("0.5"))
    one.turn_until(lambda: state(one, signal_id) is OrderState.PARTIALLY_FILLED, "a part filled")
    change(one, signal_id, size=0.5)
    one.turn_until(lambda: not orders(one), "no order open")
    one.turn_until(lambda: one.trading.desk.reconciled.is_set() and len(one.fills()) == 2, "what its worker is told")
    events = [entry.event for entry in one.fills()]
    reports = [(event.kind, event.report.state, event.report.reason) for event in events if event.report is not None]
    assert reports == [("fill", OrderState.PARTIALLY_FILLED, ""), ("modified", OrderState.FILLED, "")]


def orders(one: Floor) -> list[Any]:
    return list(one.trading.record.state.orders.values())


@pytest.mark.parametrize(
    ("wished", "reason"),
    [
        ({"size": 3.0}, "change_grows_order"),
        ({"size": 0.01}, "change_grows_order"),
        ({"terms": OrderTerms(limit_price=150.0)}, "price_outside_collar"),
        ({"terms": OrderTerms(limit_price=104.0)}, "order_value_above_limit"),
        ({"size": 1.0, "of": "acme:talk.X@0badcafe/99"}, "no_open_order"),
        ({"size": 1e300}, "change_grows_order"),
        ({"terms": OrderTerms(limit_price=1e40)}, "off_tick"),
        ({"terms": OrderTerms(limit_price=1e-300)}, "order_not_positive"),
        ({"stop_loss": 1e30}, "off_tick"),
        ({"stop_loss": 1e-300}, "order_not_positive"),
    ],
)
def test_a_change_that_risk_would_not_have_let_through_is_refused(
    venue: OwnVenue, floor: Make, wished: dict[str, Any], reason: str
) -> None:
    one = floor(risk=RiskConfig(price_collar=0.1, max_order_value=205.0))
    signal_id = rest(one, stop_loss=95.0)
    change(one, wished.pop("of", signal_id), **wished)
    assert one.decided(2)[-1].reason == reason
    found = row(one, signal_id)
    assert found is not None
    assert (found.price, found.quantity) == (D("99"), D("2"))


def test_an_entry_is_moved_within_the_notional_and_counts_at_its_new_price_at_once_and_after_a_kill(
    venue: OwnVenue, floor: Make
) -> None:
    one = floor(risk=RiskConfig(max_position_notional=1050.0))
    signal_id = rest(one, size=10.0)
    one.trade("X", 150.0)
    change(one, signal_id, terms=OrderTerms(limit_price=150.0))
    one.decided(2)
    one.trade("X", 100.0)
    change(one, signal_id, terms=OrderTerms(limit_price=104.0))
    one.say(size=0.2, terms=OrderTerms(limit_price=98.0))  # in one batch with it
    one.turn_until(lambda: (found := row(one, signal_id)) and found.price == D("104"), "another price")
    refused = ("refused", "position_notional_above_limit")
    assert one.rulings()[1:] == [refused, ("accepted", ""), refused]
    one.turn_until(lambda: orders(one)[0].limit_price == D("104"), "that the OMS has it")
    one.turn_until(lambda: isinstance(one.orders()[-1], Happened), "that the OMS has told of it")
    one.turn_until(lambda: one.trading.record.orders == len(one.orders()), "that all told is taken in")
    known = encode_state(one.trading.record.state)
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    assert encode_state(one.trading.record.state) == known
    one.say(size=0.2, terms=OrderTerms(limit_price=98.0))
    change(one, signal_id, terms=OrderTerms(limit_price=97.0))
    one.decided(6)
    assert one.rulings()[4:] == [refused, ("accepted", "")]


def test_a_stopped_strategy_may_cancel_and_not_move_an_entry(venue: OwnVenue, floor: Make) -> None:
    one = floor(risk=RiskConfig(runaway_signals=1, runaway_window_s=60.0))
    signal_id = rest(one)
    change(one, signal_id, terms=OrderTerms(limit_price=99.5))
    assert one.decided(2)[-1].reason in ("breaker_runaway", "no_open_order"), "the breaker has taken it back, or will"
    one.turn_until(lambda: state(one, signal_id) is OrderState.CANCELLED, "its end")


def entered(one: Floor, venue: OwnVenue) -> str:
    """A signal whose entry of 2 is filled, with a stop loss."""
    entry = one.say(size=2.0, stop_loss=90.0)
    entry_id = client_order_id(entry, "entry")
    one.turn_until(lambda: entry_id in venue.placed, "an entry at the venue")
    venue.fill(entry_id)
    one.turn_until(lambda: one.trading.record.state.books, "a fill")
    return entry


def test_a_resting_exit_leaves_the_stop_in_place_and_a_close_passes_beside_it(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    entry = entered(one, venue)
    leave = one.say(action="close", size=2.0, reasons=("far", "closes:long"), terms=OrderTerms(limit_price=110.0))
    one.turn_until(lambda: state(one, leave, "exit") is OrderState.ACKNOWLEDGED, "a resting exit")
    assert state(one, entry, "stop_loss") is OrderState.ACKNOWLEDGED
    now = one.say(action="close", size=2.0, reasons=("now", "closes:long"))
    now_id = client_order_id(now, "exit")
    one.turn_until(lambda: now_id in venue.placed, "an exit to the market")
    venue.fill(now_id)
    one.turn_until(lambda: not orders(one), "no order left")
    assert state(one, leave, "exit") is OrderState.CANCELLED


def test_a_close_of_everything_closes_what_another_exit_does_not_and_ends_the_rest_with_it(
    venue: OwnVenue, floor: Make
) -> None:
    one = floor()
    entry = entered(one, venue)
    waits = rest(one)
    half = one.say(action="close", size=0.5, reasons=("half", "closes:long"))
    one.turn_until(lambda: state(one, half, "exit") is OrderState.ACKNOWLEDGED, "an exit under way")
    assert state(one, entry, "stop_loss") is OrderState.ACKNOWLEDGED
    rest_of_it = one.say(action="close", size=2.0, reasons=("all", "closes:long"))
    one.say(action="close", size=2.0, reasons=("again", "closes:long"))
    assert one.decided(5)[-1].reason == "nothing_to_exit"
    one.turn_until(lambda: client_order_id(rest_of_it, "exit") in venue.placed, "an exit of the rest")
    placed = row(one, rest_of_it, "exit")
    assert placed is not None
    assert placed.quantity == D("1.5")
    one.turn_until(lambda: state(one, waits) is OrderState.CANCELLED, "the end of what waited to enter")
    one.turn_until(lambda: state(one, entry, "stop_loss") is OrderState.CANCELLED, "the end of the stop")
    assert state(one, half, "exit") is OrderState.ACKNOWLEDGED


class NoNews:
    """An OMS that tells its events by a way that is down while somebody `holds` it."""

    def __init__(self, oms: Oms) -> None:
        self.holds = False
        self._oms = oms

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        if self.holds:
            raise EventsUnavailable("nats://127.0.0.1:4222: expected an answer, found none")
        return self._oms.events(from_number, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oms, name)


def test_while_no_fill_is_heard_of_exits_and_cancellations_leave_and_entries_wait(root: Path, venue: OwnVenue) -> None:
    """Nothing left, so that nobody could leave a position or take back an entry while NATS was down."""
    one = Floor(root, TALK)
    way = NoNews(one._open_oms())
    one._open_oms = lambda: way  # type: ignore[assignment, return-value]
    one.start()
    entered = holding(one, venue)
    waiting = rest(one, size=1.0)
    way.holds = True
    one.turn_until(lambda: one.trading.desk.fault, "the fault")
    assert one.trading.desk.fault.startswith(
        "no fill is heard of, so only exits and cancellations leave: nats://127.0."
    )
    one.say(action="cancel", of=waiting, size=None, entry_price=None)
    one.turn_until(lambda: is_over(venue, client_order_id(waiting, "entry")), "the end of the entry")
    closed = one.say(action="close", size=2.0, reasons=("closes:long",))
    late = one.say(size=1.0)
    one.turn_until(lambda: client_order_id(closed, "exit") in venue.placed, "the exit at the venue")
    one.turn_until(lambda: is_over(venue, client_order_id(entered, "stop_loss")), "the end of the stop")
    venue.fill(client_order_id(closed, "exit"))
    assert client_order_id(late, "entry") not in venue.placed
    assert one.trading.record.state.books["talk/X"].quantity == 2
    one.say(action="close", size=2.0, reasons=("closes:long",))
    assert one.decided(6)[-1].reason == "nothing_to_exit", "what is being closed is closed once"
    way.holds = False
    one.turn_until(lambda: one.trading.record.state.books["talk/X"].quantity == 0, "what was filled meanwhile")
    one.turn_until(lambda: client_order_id(late, "entry") in venue.placed, "the entry that waited")
    assert not [entry for entry in one.orders() if isinstance(entry, Contradicted)]
    assert max(venue.placed.values()) == 1
    one.close()


def test_a_position_that_is_turned_takes_the_exits_of_the_other_side_with_it(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    entry = entered(one, venue)
    leave = one.say(action="close", size=2.0, reasons=("far", "closes:long"), terms=OrderTerms(limit_price=110.0))
    one.turn_until(lambda: state(one, leave, "exit") is OrderState.ACKNOWLEDGED, "a resting exit")
    turned = one.say(action="sell", size=3.0, stop_loss=120.0)
    turned_id = client_order_id(turned, "entry")
    one.turn_until(lambda: turned_id in venue.placed, "an entry of the other side at the venue")
    venue.fill(turned_id)
    one.turn_until(lambda: state(one, entry, "stop_loss") is OrderState.CANCELLED, "the end of the stop")
    one.turn_until(lambda: state(one, leave, "exit") is OrderState.CANCELLED, "the end of the resting exit")
    assert state(one, turned, "stop_loss") is OrderState.ACKNOWLEDGED


class LateNews:
    """An OMS whose events come later than its answers, while somebody `holds` them."""

    def __init__(self, oms: Oms) -> None:
        self.holds = True
        self.looks = 0
        self._oms = oms

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        self.looks += 1
        return [] if self.holds else self._oms.events(from_number, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oms, name)


def test_events_of_changes_that_come_after_the_answers_contradict_nothing(root: Path, venue: OwnVenue) -> None:
    one = Floor(root, TALK)
    way = LateNews(one._open_oms())
    one._open_oms = lambda: way  # type: ignore[assignment, return-value]
    one.start()
    signal_id = rest(one, size=3.0)
    for size in (2.0, 1.0):
        change(one, signal_id, size=size)
        one.turn_until(lambda size=size: (found := row(one, signal_id)) and found.quantity == D(size), "a change")  # type: ignore[misc]
    one.say(action="cancel", of=signal_id, size=None, entry_price=None)
    one.turn_until(lambda: state(one, signal_id) is OrderState.CANCELLED, "its end")
    way.holds = False
    one.turn_until(lambda: "cancelled" in told(one), "the event of its end")
    assert told(one)[-3:] == ["modified", "modified", "cancelled"]
    assert not [entry for entry in one.orders() if isinstance(entry, Contradicted)]
    one.close()


@pytest.mark.parametrize("is_asked_about", [False, True], ids=["cancelled", "asked about"])
def test_an_entry_that_is_over_by_an_answer_keeps_its_stop_for_what_is_told_later_that_it_filled(
    root: Path, venue: OwnVenue, is_asked_about: bool
) -> None:
    one = Floor(root, TALK)
    way = LateNews(one._open_oms())
    one._open_oms = lambda: way  # type: ignore[assignment, return-value]
    one.start()
    if is_asked_about:
        venue.calls.fault("lose_reply")
    signal_id = one.say(size=3.0, stop_loss=95.0, terms=OrderTerms(limit_price=99.0))
    entry_id = client_order_id(signal_id, "entry")
    one.turn_until(lambda: entry_id in venue.placed, "an order at the venue")
    venue.fill(entry_id, D(1))
    if is_asked_about:
        venue.backend.cancel(CLIENT, entry_id)
    else:
        one.turn_until(lambda: state(one, signal_id) is OrderState.ACKNOWLEDGED, "the answer")
        one.say(action="cancel", of=signal_id, size=None, entry_price=None)
    one.turn_until(lambda: is_over(venue, entry_id), "its end at the venue")
    one.turn_until(lambda: state(one, signal_id, "stop_loss") is OrderState.ACKNOWLEDGED, "the stop at the venue")
    look_again(one, way)
    way.holds = False
    one.turn_until(lambda: state(one, signal_id) is OrderState.CANCELLED and one.trading.record.state.books, "its fill")
    look_again(one, way)
    assert [book.quantity for book in one.trading.record.state.books.values()] == [D(1)]
    assert state(one, signal_id, "stop_loss") is OrderState.ACKNOWLEDGED
    assert not is_over(venue, client_order_id(signal_id, "stop_loss"))
    one.close()


def is_over(venue: OwnVenue, order_id: str) -> bool:
    (report,) = venue.backend.query(CLIENT, [order_id])
    return report is not None and report.state in FINAL_STATES


def look_again(one: Floor, way: LateNews) -> None:
    """Until the desk has been through all it does a few times."""
    before = way.looks
    one.turn_until(lambda: way.looks > before + 3, "that the desk looks again")


def told(one: Floor) -> list[str]:
    return [entry.event.kind for entry in one.orders() if isinstance(entry, Happened)]


def test_a_change_whose_second_half_a_power_cut_took_is_made_whole(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    signal_id = rest(one, stop_loss=95.0)
    change(one, signal_id, size=1.0, stop_loss=94.0)
    one.turn_until(lambda: (found := row(one, signal_id, "stop_loss")) and found.price == D("94"), "both changes")
    one.kill()
    path = order_log(one.root / "router")
    ends = [end for end, entry in read_orders(path) if isinstance(entry, ModifyWanted)]
    with path.open("r+b") as file:
        file.truncate(ends[0])
    (path.parent / "orders.note").unlink(missing_ok=True)
    one.start()
    one.turn_until(lambda: (found := row(one, signal_id, "stop_loss")) and found.price == D("94"), "both changes again")


# -- a close that is taken back --------------------------------------------------------------------------------------------


def holding(one: Floor, venue: OwnVenue) -> str:
    """Two are held, with their stop at the venue; the signal of it."""
    signal_id = one.say(size=2.0, stop_loss=90.0)
    one.turn_until(lambda: len(venue.placed) == 2, "a bracket at the venue")
    venue.fill(client_order_id(signal_id, "entry"))
    one.turn_until(lambda: one.trading.record.state.books, "its fill")
    return signal_id


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
@pytest.mark.parametrize("by", ["cancel", "modify"])
def test_a_close_that_has_ended_the_stop_of_what_it_closes_is_not_taken_back(
    venue: OwnVenue, floor: Make, by: str, killed: bool
) -> None:
    """Nobody would watch the position."""
    one = floor()
    entered = holding(one, venue)
    closed = one.say(action="close", size=2.0, reasons=("closes:long",))
    one.turn_until(lambda: state(one, entered, "stop_loss") is OrderState.CANCELLED, "the end of the stop")
    if killed:
        one.kill()
        one.start()
    one.say(action=by, of=closed, size=None if by == "cancel" else 0.5, entry_price=None)
    one.say(size=1.0, terms=OrderTerms(limit_price=99.0))
    one.turn_until(lambda: len(venue.placed) == 4, "a later order at the venue")
    found = row(one, closed, "exit")
    assert found and (found.state, found.quantity) == (OrderState.ACKNOWLEDGED, D(2))
    venue.fill(client_order_id(closed, "exit"))
    one.turn_until(lambda: one.trading.record.state.books["talk/X"].quantity == 0, "flat")


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_a_close_of_a_part_may_be_taken_back_and_so_may_one_beside_which_the_stop_stands(
    venue: OwnVenue, floor: Make, size: float
) -> None:
    one = floor()
    entered = holding(one, venue)
    waits = OrderTerms(limit_price=110.0) if size == 2.0 else None
    closed = one.say(action="close", size=size, terms=waits, reasons=("closes:long",))
    one.turn_until(lambda: state(one, closed, "exit") is OrderState.ACKNOWLEDGED, "the exit at the venue")
    one.say(action="cancel", of=closed, size=None, entry_price=None)
    one.turn_until(lambda: state(one, closed, "exit") is OrderState.CANCELLED, "its end")
    assert state(one, entered, "stop_loss") is OrderState.ACKNOWLEDGED


def test_a_close_that_is_to_be_cancelled_before_the_oms_has_said_that_it_has_it_ends_no_stop() -> None:
    book, at = OrderBook(client=CLIENT), {"at_ns": 1}
    x = instrument("X")
    opening, closing = body_of(TALK, 0, size=2.0, stop_loss=90.0), body_of(TALK, 1, action="close", size=2.0)
    closing = msgspec.structs.replace(closing, reasons=("closes:long",))
    for number, body in enumerate((opening, closing)):
        for order in orders_of(body, account="main", instrument=x):
            fold(book, Intended(order=order, decision=number, **at), {"X": x})
            fold(book, Leaving(client_order_ids=(order.client_order_id,), **at), {"X": x})
    entry, stop, exit_ = book.orders
    for order_id in (entry, stop):
        fold(book, told_of(book, order_id), {"X": x})
    account = Account(client=CLIENT, account="main")
    place_of = place("talk", "X")
    position = Position(client=CLIENT, account="main", strategy="talk", symbol="X", quantity=D(2), average_price=D(100))
    book.accounts["main"] = msgspec.structs.replace(account, positions={place_of: position})
    fold(book, CancelWanted(client_order_id=exit_, **at), {"X": x})
    fold(book, told_of(book, exit_), {"X": x})
    assert book.orders[exit_].order.is_known
    assert book.closings == {}


def told_of(book: OrderBook, order_id: str) -> Told:
    """The OMS has it."""
    news = Acknowledged("1")
    return Told(at_ns=1, news=news, report=report_of(advance(book.orders[order_id].order, news)))
