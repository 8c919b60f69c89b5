"""The order machine: whatever news comes in whatever order, an order is in a known state or the contradiction is named."""

import contextlib
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oms.paper_build import D, fill, request

from strategy_runner.model.order import FINAL_STATES, OrderChange, OrderReport, OrderState
from strategy_runner.oms.order_machine import (
    Absent,
    Acknowledged,
    Cancelled,
    Expired,
    Filled,
    IllegalTransitionError,
    Lost,
    Modified,
    News,
    Order,
    Rejected,
    Sent,
    advance,
    new_order,
    news_of_report,
    report_of,
)

TEN = request(quantity=10)


def after(*news: News) -> Order:
    order = new_order(TEN)
    for one in news:
        order = advance(order, one)
    return order


def part(number: int, quantity: int) -> Filled:
    return Filled(fill("o", number, quantity=D(quantity)))


def test_an_order_goes_from_intent_to_filled_by_its_fills() -> None:
    order = after(Sent(), Acknowledged("venue-1"), part(0, 4), part(1, 6))
    assert order.state is OrderState.FILLED
    assert report_of(order) == OrderReport(
        client_order_id="o",
        client="acme",
        state=OrderState.FILLED,
        quantity=D(10),
        filled=D(10),
        average_price=D(100),
        oms_order_id="venue-1",
    )


def test_a_fill_that_is_told_twice_counts_once() -> None:
    assert after(Sent(), part(0, 4), part(0, 4)).filled == 4


def test_a_fill_that_crossed_with_the_cancellation_counts_and_does_not_revive_the_order() -> None:
    order = after(Sent(), Acknowledged(), Cancelled("asked"), part(0, 4))
    assert (order.state, order.filled) == (OrderState.CANCELLED, D(4))
    assert advance(order, part(1, 6)).state is OrderState.FILLED


def test_an_unknown_order_becomes_whatever_the_answer_says() -> None:
    lost = after(Sent(), Lost())
    assert lost.state is OrderState.UNKNOWN
    assert advance(lost, Acknowledged()).state is OrderState.ACKNOWLEDGED
    assert advance(lost, part(0, 10)).state is OrderState.FILLED
    assert advance(lost, Rejected("no")).state is OrderState.REJECTED
    assert advance(lost, Absent()).state is OrderState.INTENT, "it may be sent again"


def test_an_unknown_order_is_not_sent_again_without_an_answer() -> None:
    with pytest.raises(IllegalTransitionError, match="order o: expected news that may follow unknown"):
        after(Sent(), Lost(), Sent())


def test_an_oms_that_had_an_order_cannot_say_it_never_had_it() -> None:
    with pytest.raises(IllegalTransitionError):
        after(Sent(), Acknowledged(), Lost(), Absent())


def test_more_than_was_asked_for_is_never_filled() -> None:
    with pytest.raises(IllegalTransitionError):
        after(Sent(), part(0, 4), part(1, 7))


def test_late_answers_do_not_change_the_end() -> None:
    done = after(Sent(), part(0, 10))
    for late in (Sent(), Acknowledged("late"), Cancelled("asked"), Expired(), Lost(), Absent()):
        assert advance(done, late) == done


def test_a_modification_to_what_is_filled_fills_the_order() -> None:
    order = after(Sent(), Acknowledged(), part(0, 4), Modified(OrderChange(client_order_id="o", quantity=D(4))))
    assert order.state is OrderState.FILLED


def modified(quantity: int) -> Modified:
    return Modified(OrderChange(client_order_id="o", quantity=D(quantity)))


@pytest.mark.parametrize("end", [Cancelled("asked"), Expired()])
def test_a_modification_from_before_the_end_may_be_told_after_it(end: News) -> None:
    done = after(Sent(), Acknowledged(), part(0, 4), modified(8), modified(6), end)
    assert advance(done, modified(8)) == done
    with pytest.raises(IllegalTransitionError):
        advance(done, modified(3))  # less than was filled by then


@pytest.mark.parametrize("end", [part(0, 10), Rejected("no")])
def test_an_order_that_was_filled_or_rejected_is_not_modified(end: News) -> None:
    done = after(Sent(), end)
    with pytest.raises(IllegalTransitionError):
        advance(done, modified(12))


def test_a_report_speaks_of_the_state_and_never_makes_up_fills() -> None:
    filled = report_of(after(Sent(), part(0, 10)))
    order = advance(after(Sent(), Lost()), news_of_report(filled))
    assert (order.state, order.filled) == (OrderState.ACKNOWLEDGED, D(0))


ANY_NEWS = st.one_of(
    st.sampled_from([Sent(), Acknowledged("a"), Cancelled("c"), Rejected("r"), Expired("e"), Lost(), Absent()]),
    st.builds(part, st.integers(0, 6), st.integers(-1, 11)),
    st.builds(
        lambda quantity: Modified(OrderChange(client_order_id="o", quantity=quantity)),
        st.none() | st.integers(-1, 20).map(Decimal),
    ),
)


@given(st.lists(ANY_NEWS, max_size=14))
def test_no_path_leaves_the_machine_undefined(path: list[News]) -> None:
    order = new_order(TEN)
    for news in path:
        before = order
        with contextlib.suppress(IllegalTransitionError):
            order = advance(order, news)
            assert advance(order, news) == order, "told twice is told once"
        assert order.state in OrderState
        assert 0 <= order.filled <= order.quantity
        assert (order.state is OrderState.FILLED) == (order.filled == order.quantity)
        if before.state in FINAL_STATES:
            assert order.state in (before.state, OrderState.FILLED)
        assert order.filled >= before.filled
        assert order.is_known or order.state in (OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=Order) == order
