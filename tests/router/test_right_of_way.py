"""The right of way: who is late goes first, and nobody stands back for good."""

import threading
import time
from pathlib import Path

import pytest
from router.desk import Desk, KeepingSink, Talker
from router.own_venue import venue_in
from router.trade import Floor

from strategy_runner.errors import DiskFullError
from strategy_runner.router import right_of_way
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.order_flow import BATCH_ORDERS_MAX
from strategy_runner.router.right_of_way import FLOOD, LATE_NS, RightOfWay


class Watching(Delivery):
    """A sink that notes, whenever decisions have become durable, whether it was to stand back then."""

    def __init__(self, root: Path) -> None:
        super().__init__("watching", KeepingSink().open, decision_log(root / "router"), pause_s=0.0)
        self.way: RightOfWay | None = None
        self.stood_back: list[bool] = []

    def advance(self, below: int) -> None:
        super().advance(below)
        if self.way is not None:
            self.stood_back.append(must_stand_back(self.way))


def must_stand_back(way: RightOfWay) -> bool:
    return not (way._is_free.is_set() and way._is_calm.is_set())


@pytest.mark.parametrize(
    "who, just, more",
    [("give_way", (LATE_NS, FLOOD), (LATE_NS + 1, 1)), ("give_way_to_flood", (LATE_NS + 1, FLOOD - 1), (0, FLOOD))],
)
def test_others_stand_back_until_nobody_is_late(
    monkeypatch: pytest.MonkeyPatch, who: str, just: tuple[int, int], more: tuple[int, int]
) -> None:
    """The desk only while there are many."""
    monkeypatch.setattr(right_of_way, "STAND_BACK_S", 30.0)
    way = RightOfWay()
    stand_back = getattr(way, who)
    stand_back()
    way.tell(*just)
    stand_back()
    way.tell(*more)
    thread = threading.Thread(target=stand_back, daemon=True)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    way.tell(0, 0)
    thread.join(10)
    assert not thread.is_alive()


def test_nobody_stands_back_for_good() -> None:
    way = RightOfWay()
    way.tell(LATE_NS + 1, FLOOD)
    for stand_back in (way.give_way, way.give_way_to_flood):
        thread = threading.Thread(target=stand_back, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("changes", [{}, {"ordered": True}, {"bulk": True}], ids=["in time", "ordered", "bulk"])
def test_signals_that_waited_go_first_where_they_come_in_time(root: Path, changes: dict[str, bool]) -> None:
    talker, sink, one = Talker(root), Watching(root), Desk(root, **changes)
    router = one.restart(sink)
    sink.way = router._right_of_way
    for _ in range(FLOOD):
        talker.say()
    talker.has_read(1)
    time.sleep(LATE_NS / 1e9)
    if changes:
        router.drain()
    else:
        assert router.turn() == FLOOD
        assert (router._right_of_way._is_free.is_set(), router._right_of_way._is_calm.is_set()) == (False, False)
        assert router.turn() == 0
    assert sink.stood_back == [not changes]
    assert not must_stand_back(sink.way), "nothing is left to be decided"
    one.router.stop()
    one.close()


def test_a_router_that_cannot_write_has_nobody_stand_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise DiskFullError("no space")

    talker, one = Talker(root), Desk(root)
    monkeypatch.setattr(one.router._journal, "append", full)
    talker.say()
    time.sleep(LATE_NS / 1e9)
    one.router._next_look = 0.0
    assert one.router.turn() == 0
    assert one.router._undecided
    assert not must_stand_back(one.router._right_of_way)
    one.close()


def test_what_late_signals_asked_for_is_sent_before_a_router_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is left standing back, which would be for longer than a stop waits."""
    count = 2 * BATCH_ORDERS_MAX + 1
    monkeypatch.setattr(right_of_way, "STAND_BACK_S", 60.0)
    with venue_in(root) as venue:
        one = Floor(root)
        router = one.start()
        one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
        for _ in range(count):
            one.say(size=0.1)
        time.sleep(LATE_NS / 1e9)
        one.stop()
        assert not must_stand_back(router._right_of_way)
        assert one.rulings() == [("accepted", "")] * count
        assert len(venue.placed) == count
        one.close()


def test_orders_wait_while_signals_come_in_a_flood(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(right_of_way, "STAND_BACK_S", 60.0)
    with venue_in(root) as venue:
        one = Floor(root)
        router = one.start()
        one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
        for _ in range(FLOOD):
            one.say(size=0.1)
        router._next_look = 0.0
        assert router.turn() == FLOOD
        time.sleep(0.5)
        assert len(venue.placed) == 0
        router.turn()
        one.turn_until(lambda: len(venue.placed) == FLOOD, "orders")
        one.stop()
        one.close()
