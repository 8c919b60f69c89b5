"""The event window gives what it heard without a gap, or says that the OMS has to be asked."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.event_window import WINDOW_EVENTS, EventWindow


def event(number: int) -> OmsEvent:
    return OmsEvent(number=number, client="acme", kind="acknowledged", event_ns=0, seq=-1)


def test_before_anything_was_heard_the_oms_has_to_be_asked() -> None:
    window = EventWindow()
    assert window.has_news(0)
    assert window.take(0, 10) is None


def test_nothing_new_is_known_from_a_beat() -> None:
    window = EventWindow()
    window.hear_next(3)
    assert not window.has_news(3)
    assert window.take(3, 10) == []
    assert window.take(2, 10) is None
    assert window.take(4, 10) is None, "the asker knows of more than there is: that is for the OMS to say"


def test_what_is_older_than_the_window_has_to_be_asked_for() -> None:
    window = EventWindow()
    window.hear(event(number) for number in range(WINDOW_EVENTS + 5))
    assert window.take(4, 1) is None
    assert window.take(5, 1) == [event(5)]


def test_what_was_heard_of_an_oms_that_lost_it_is_forgotten() -> None:
    """Events that came later with the numbers of those were passed over, and these given in their place."""
    window, later = EventWindow(), msgspec.structs.replace(event(3), event_ns=7)
    window.hear(event(number) for number in range(6))
    window.hear_next(3)
    assert window.take(3, 10) == []
    window.hear((later,))
    assert window.take(2, 10) == [event(2), later]


@given(st.lists(st.integers(0, 12)), st.integers(0, 12), st.integers(1, 5))
def test_whatever_was_heard_what_is_given_is_dense_and_complete(heard: list[int], start: int, limit: int) -> None:
    window = EventWindow()
    for number in heard:
        window.hear((event(number),))
    taken = window.take(start, limit)
    if taken is not None:
        assert [each.number for each in taken] == list(range(start, start + len(taken)))
        assert {each.number for each in taken} <= set(heard)
        if not taken:
            assert start == max(heard) + 1
