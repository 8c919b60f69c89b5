"""The order queue: who goes first when not everybody may go, and what becomes of the rest."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.risk.limits import Rate
from strategy_runner.risk.priority import OrderQueue, Waiting

SECOND_NS = 1_000_000_000
FOREVER = 1 << 62


def entry(number: int, *, rank: int = 0, since_ns: int = 0, expires_ns: int = FOREVER) -> Waiting:
    return Waiting(1, rank, since_ns, number, f"signal-{number}", expires_ns)


def leaving(number: int, **given: int) -> Waiting:
    return msgspec.structs.replace(entry(number, **given), urgency=0)


def numbers(waiting: list[Waiting]) -> list[int]:
    return [one.number for one in waiting]


def queue_of(*waiting: Waiting, count: int = 2, size: int = 100) -> OrderQueue:
    queue = OrderQueue.empty(Rate(count, SECOND_NS), size, 0)
    for one in waiting:
        assert queue.put(one) is None
    return queue


def test_exits_go_first_then_the_first_priority_then_the_oldest() -> None:
    queue = queue_of(entry(1, rank=1), entry(2, since_ns=5), entry(3, since_ns=4), leaving(4, rank=9), count=3)
    assert numbers(queue.take(10).ready) == [4, 3, 2]
    assert numbers(queue.waiting) == [1]


def test_entries_go_as_fast_as_they_may_and_no_faster() -> None:
    queue = queue_of(*(entry(n) for n in range(10)), count=2)
    assert numbers(queue.take(0).ready) == [0, 1]
    assert numbers(queue.take(SECOND_NS // 2 - 1).ready) == []
    assert queue.next_ns() == SECOND_NS // 2
    assert numbers(queue.take(SECOND_NS // 2).ready) == [2]
    assert numbers(queue.take(100 * SECOND_NS).ready) == [3, 4], "what was not used is not saved up beyond one span"


def test_exits_do_not_wait_for_entries_nor_entries_for_exits() -> None:
    queue = queue_of(*(leaving(n) for n in range(25)), entry(99), count=1)
    assert numbers(queue.take(0).ready) == [*range(10), 99]


def test_what_is_not_asked_for_stays_with_its_credit() -> None:
    queue = queue_of(entry(1), leaving(2), entry(3), entry(4), count=4)
    assert numbers(queue.take(0, 2).ready) == [2, 1]
    assert numbers(queue.waiting) == [3, 4]
    assert queue.next_ns() == 0
    assert numbers(queue.take(0, 2).ready) == [3, 4]


def test_what_waits_longer_than_its_time_to_live_expires_and_is_not_sent() -> None:
    queue = queue_of(entry(1, expires_ns=5), entry(2), count=1)
    taken = queue.take(5)
    assert (numbers(taken.expired), numbers(taken.ready)) == ([1], [2])
    assert queue.next_ns() is None


def test_a_full_queue_gives_up_the_least_urgent_even_if_that_is_the_new_one() -> None:
    queue = queue_of(entry(1), entry(2), size=2)
    assert queue.put(leaving(3)) == entry(2)
    assert queue.put(entry(4)) == entry(4)
    assert numbers(queue.waiting) == [3, 1]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    queue = queue_of(*(entry(n) for n in range(5)), count=1)
    queue.take(10 * SECOND_NS)
    assert numbers(queue.take(0).ready) == []
    assert numbers(queue.take(10 * SECOND_NS).ready) == []
    assert numbers(queue.take(11 * SECOND_NS).ready) == [1]


def test_a_queue_goes_on_after_a_restart_where_it_stood() -> None:
    queue = queue_of(*(entry(n) for n in range(5)), leaving(9))
    queue.take(3)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(queue), type=OrderQueue)
    assert again == queue
    assert again.take(SECOND_NS) == queue.take(SECOND_NS)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 3 * SECOND_NS), st.integers(0, SECOND_NS)),
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_everything_that_was_put_comes_out_once_and_never_more_than_may_go_in_a_span(
    drawn: list[tuple[int, int, int, int]], count: int
) -> None:
    queue = OrderQueue.empty(Rate(count, SECOND_NS), 20, 0)
    out: list[int] = []
    sent: list[int] = []
    moment = 0
    for number, (urgency, rank, life_ns, step_ns) in enumerate(drawn):
        moment += step_ns
        dropped = queue.put(Waiting(urgency, rank, moment, number, "", moment + life_ns))
        taken = queue.take(moment)
        assert all(one.expires_ns > moment for one in taken.ready)
        assert taken.ready == sorted(taken.ready)
        sent += [moment for one in taken.ready if not one.is_exit]
        out += numbers(taken.ready) + numbers(taken.expired) + ([] if dropped is None else [dropped.number])
    assert sorted(out + numbers(queue.waiting)) == list(range(len(drawn)))
    for first in sent:
        assert sum(first <= at < first + SECOND_NS for at in sent) <= 2 * count
