"""The way into an OMS over ZeroMQ: an answer, or OmsUnavailable in time; and after it what the OMS says is final."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from oms.venue import LATE_S, Venue
from orders import eventually, follow, order

from strategy_runner.bus.context import Context
from strategy_runner.model.order import OrderState
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.oms.zeromq import SILENCE_S, ZeroMqOms

TIMEOUT_S = 0.25

Way = Callable[..., ZeroMqOms]


@pytest.fixture
def venue(folder: Path) -> Iterator[Venue]:
    with Venue(folder) as venue:
        yield venue


@pytest.fixture
def way(context: Context, folder: Path) -> Iterator[Way]:
    """Makes ways into the venue of this folder."""
    made: list[ZeroMqOms] = []

    def make(timeout_s: float = TIMEOUT_S) -> ZeroMqOms:
        made.append(ZeroMqOms(context, "acme", f"ipc://{folder}/venue.sock", timeout_s=timeout_s))
        return made[-1]

    yield make
    for oms in made:
        oms.close()


def test_nobody_there_is_unavailable_within_the_time_limit_and_found_when_it_comes(folder: Path, way: Way) -> None:
    oms = way()
    begun = time.monotonic()
    with pytest.raises(OmsUnavailable, match=r"expected an answer within 0\.25 s, found none"):
        oms.submit([order()])
    assert time.monotonic() - begun < 10 * TIMEOUT_S
    with Venue(folder) as venue:
        sent = order()
        assert eventually(lambda: oms.submit([sent]), "an answer")[0].state is OrderState.ACKNOWLEDGED
        assert venue.placed() == {sent.client_order_id: 1}


@pytest.mark.parametrize(("fault", "is_placed"), [("lose_request", False), ("lose_reply", True), ("late_reply", True)])
def test_after_silence_a_query_says_for_certain_whether_the_order_was_taken(
    venue: Venue, way: Way, fault: str, is_placed: bool
) -> None:
    oms, sent = way(), order()
    oms.open_orders()
    venue.fault(fault)
    with pytest.raises(OmsUnavailable):
        oms.submit([sent])
    (found,) = oms.query([sent.client_order_id])
    assert (found is not None) == is_placed
    assert oms.submit([sent])[0].state is OrderState.ACKNOWLEDGED
    assert venue.placed() == {sent.client_order_id: 1}


def test_a_request_that_arrives_after_the_query_is_not_executed_any_more(venue: Venue, way: Way) -> None:
    """Else an order that the OMS said it never took, and that was given up for that, would be placed all the same."""
    oms, ghost, marker = way(), order(), order()
    oms.open_orders()
    venue.fault("late_request")
    with pytest.raises(OmsUnavailable):
        oms.submit([ghost])
    assert oms.query([ghost.client_order_id]) == [None]
    due = time.monotonic() + LATE_S
    eventually(lambda: time.monotonic() > due + 0.3, "the late request to come in")
    oms.submit([marker])
    assert venue.placed() == {marker.client_order_id: 1}


@pytest.mark.parametrize(("fault", "is_placed"), [("die_before", False), ("die_after", True)])
def test_an_oms_that_dies_with_a_request_and_returns_knows_what_it_took(
    venue: Venue, way: Way, fault: str, is_placed: bool
) -> None:
    oms, sent = way(), order()
    venue.fault(fault)
    with pytest.raises(OmsUnavailable):
        oms.submit([sent])
    venue.wait_dead()
    venue.start()
    (found,) = eventually(lambda: oms.query([sent.client_order_id]), "an answer")
    assert (found is not None) == is_placed
    assert oms.submit([sent])[0].state is OrderState.ACKNOWLEDGED
    assert venue.placed() == {sent.client_order_id: 1}


def test_an_oms_that_stood_still_answers_the_next_question_and_not_an_old_one(venue: Venue, way: Way) -> None:
    oms, lost = way(), order()
    oms.open_orders()
    venue.freeze()
    for _ in range(3):
        with pytest.raises(OmsUnavailable):
            oms.submit([lost])
    venue.thaw()
    later = order()
    report = eventually(lambda: oms.submit([later]), "an answer")[0]
    assert report.client_order_id == later.client_order_id
    assert venue.placed()[later.client_order_id] == 1
    assert venue.placed().get(lost.client_order_id, 0) <= 1


def test_a_session_of_before_the_restart_is_opened_anew_without_a_word(venue: Venue, way: Way) -> None:
    oms = way(timeout_s=5.0)
    oms.submit([order()])
    venue.kill()
    venue.start()
    assert oms.submit([order()])[0].state is OrderState.ACKNOWLEDGED


def test_who_was_replaced_is_told_so_and_asks_nothing_more(venue: Venue, way: Way) -> None:
    old, new = way(), way()
    old.submit([order()])
    new.submit([order()])
    with pytest.raises(OmsRefused, match="superseded") as refused:
        old.submit([order()])
    assert refused.value.code == "superseded"
    assert len(venue.placed()) == 2
    with pytest.raises(OmsUnavailable, match="another router of this client is at work"):
        old.submit([order()])
    new.submit([order()])
    assert len(venue.placed()) == 3


def test_a_rejected_order_is_a_report_and_no_error(venue: Venue, way: Way) -> None:
    oms = way()
    venue.fault("reject")
    (report,) = oms.submit([order()])
    assert (report.state, report.reason) == (OrderState.REJECTED, "venue_says_no")
    assert not venue.placed()


def test_events_come_in_order_and_each_once(venue: Venue, way: Way) -> None:
    oms = way(timeout_s=5.0)
    assert oms.events(0, 10) == []
    orders = [order() for _ in range(30)]
    for sent in orders:
        oms.submit([sent])
    for sent in orders:
        venue.fill(sent.client_order_id)
    events = follow(oms, 0, 60)
    assert [event.number for event in events] == list(range(60))
    assert [event.fill.client_order_id for event in events if event.fill] == [sent.client_order_id for sent in orders]
    assert oms.events(60, 10) == []


def test_events_are_complete_over_deaths_of_the_oms_and_of_the_reader(venue: Venue, way: Way) -> None:
    oms = way()
    sent = [order() for _ in range(40)]
    seen = []
    for index, one in enumerate(sent):
        if index % 10 == 5:
            venue.kill()
            venue.start()
        if index % 16 == 9:
            oms.close()  # a reader that comes late: what was told before it listened is asked for
            oms = way()
        eventually(partial(oms.submit, [one]), "an answer")
        if index % 3 == 0:
            seen += eventually(partial(oms.events, len(seen), 100), "events")
    seen += follow(oms, len(seen), len(sent) - len(seen))
    assert [event.number for event in seen] == list(range(40))
    assert [event.report.client_order_id for event in seen if event.report] == [one.client_order_id for one in sent]


def test_many_events_are_read_a_few_at_a_time(venue: Venue, way: Way) -> None:
    oms = way(timeout_s=5.0)
    oms.submit([order() for _ in range(1_200)])
    late = way(timeout_s=5.0)
    assert [event.number for event in late.events(0, 7)] == list(range(7))
    assert [event.number for event in late.events(1_190, 100)] == list(range(1_190, 1_200))
    assert [event.number for event in follow(late, 0, 1_200)] == list(range(1_200))


def test_waiting_ends_with_news_and_with_the_time_given(venue: Venue, way: Way) -> None:
    oms = way(timeout_s=5.0)
    oms.events(0, 10)
    sent = order()
    oms.submit([sent])
    assert oms.wait(10_000)
    assert len(follow(oms, 0, 1)) == 1
    eventually(lambda: not oms.wait(0), "nothing new")
    begun = time.monotonic()
    assert not oms.wait(150)
    assert time.monotonic() - begun >= 0.14
    venue.fill(sent.client_order_id)
    assert oms.wait(10_000)
    assert oms.events(1, 10)[0].kind == "fill"


def test_an_oms_that_falls_silent_is_noticed_by_who_waits_for_events(venue: Venue, way: Way) -> None:
    oms = way()
    oms.events(0, 10)
    venue.kill()
    eventually(lambda: oms.wait(int(SILENCE_S * 1e3)), "silence is news")
    with pytest.raises(OmsUnavailable):
        oms.events(0, 10)


def test_events_that_never_happened_there_are_refused(venue: Venue, way: Way) -> None:
    """The router knows of events that the OMS does not: one of them has lost its memory, and that must not go unseen."""
    oms = way(timeout_s=5.0)
    oms.submit([order()])
    with pytest.raises(OmsRefused, match=r"ahead: .*expected at most 1, found 5"):
        oms.events(5, 10)
