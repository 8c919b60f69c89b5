"""Delivery: each sink at its own pace, from its own cursor, and nobody waits for one that is down."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from router.desk import Desk, KeepingSink, Talker, unavailable
from worker.processes import await_that

from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import Envelope
from strategy_runner.router.delivery import BATCH_READS, RETRY_S_MIN, Delivery
from strategy_runner.router.journal import Journal, decision_log
from strategy_runner.sinks.interface import SinkUnavailable
from strategy_runner.tape.logs import LogReader


@pytest.fixture
def desk(root: Path) -> Iterator[Desk]:
    made = Desk(root)
    yield made
    made.router.stop(deliver_s=5.0)
    made.close()


def delivery(root: Path, name: str, sink: KeepingSink) -> Delivery:
    return Delivery(name, sink.open, decision_log(root / "router"), pause_s=0.0)


def kept(sink: KeepingSink) -> list[str]:
    return [decision.signal_id for decision in sink.kept]


def test_every_sink_gets_every_decision_once_and_in_order(root: Path, desk: Desk) -> None:
    sinks = first, second = KeepingSink(), KeepingSink()
    talker = Talker(root)
    said = [talker.say()]
    desk.restart(*(delivery(root, f"sink{number}", sink) for number, sink in enumerate(sinks)))
    desk.decide()
    said += [talker.say(refusal="no_price"), talker.say()]
    desk.decide()
    await_that(lambda: len(first.kept) + len(second.kept) == 6, "three decisions in both")
    assert kept(first) == kept(second) == said


def test_a_sink_that_is_down_holds_up_neither_the_router_nor_another_sink(root: Path, desk: Desk) -> None:
    down, up, talker = KeepingSink(unavailable), KeepingSink(), Talker(root)
    desk.restart(delivery(root, "down", down), delivery(root, "up", up))
    said = [talker.say() for _ in range(5)]
    assert desk.decide() == said
    await_that(lambda: len(up.kept) == 5, "the other sink's decisions")
    await_that(lambda: down.tries >= 2, "another try")
    said.append(talker.say())
    assert desk.decide() == said
    await_that(lambda: len(up.kept) == 6, "the next decision")
    desk.router.turn()
    assert down.kept == []
    assert desk.status.reason == "sink down: down for maintenance"
    assert desk.status.progress == 0


def test_a_sink_that_comes_back_gets_what_it_missed_and_its_fault_is_forgotten(root: Path, desk: Desk) -> None:
    def twice_down(tries: int) -> None:
        if tries <= 2:
            raise SinkUnavailable("not yet")

    sink, talker = KeepingSink(twice_down), Talker(root)
    one = delivery(root, "moody", sink)
    desk.restart(one)
    said = [talker.say() for _ in range(3)]
    desk.decide()
    await_that(lambda: len(sink.kept) == 3, "the third try")
    assert kept(sink) == said
    await_that(lambda: one.fault == "", "no fault")
    assert sink.opened == 3, "after a failure the sink is opened, and asked for its cursor, again"
    assert one._retry_s == RETRY_S_MIN, "the next trouble begins with short waits again"


def test_a_fault_nobody_thought_of_is_told_and_tried_again(root: Path, desk: Desk) -> None:
    def once_broken(tries: int) -> None:
        if tries == 1:
            raise ZeroDivisionError("oh")

    sink, talker = KeepingSink(once_broken), Talker(root)
    desk.restart(delivery(root, "broken", sink))
    said = [talker.say()]
    desk.decide()
    await_that(lambda: sink.kept, "the second try")
    assert kept(sink) == said


def test_a_sink_that_cannot_be_opened_is_tried_again(root: Path, desk: Desk) -> None:
    sink, talker, doors = KeepingSink(), Talker(root), [SinkUnavailable("locked")]

    def open_late() -> KeepingSink:
        if doors:
            raise doors.pop()
        return sink

    desk.restart(Delivery("late", open_late, decision_log(root / "router"), pause_s=0.0))
    talker.say()
    desk.decide()
    await_that(lambda: sink.kept, "the second opening")


def test_a_sink_with_more_than_the_decision_log_holds_is_told_of_and_gets_nothing(root: Path, desk: Desk) -> None:
    """Its data are of another life of this client; to wait until the numbers fit would leave decisions out in silence."""
    rich, talker = KeepingSink(), Talker(root)
    desk.restart(delivery(root, "rich", rich))
    for _ in range(3):
        talker.say()
    desk.decide()
    await_that(lambda: len(rich.kept) == 3, "three decisions")
    desk.router.stop()
    for name in ("decisions.log", "note"):
        (root / "router" / name).unlink()
    (root / "workers" / "talk.X" / "signals.log").unlink()
    again = delivery(root, "rich", rich)
    desk.restart(again)
    Talker(root).say()
    desk.decide()
    await_that(lambda: again.fault, "a fault")
    assert "expected the 3 decisions that the sink has, found" in again.fault
    assert len(rich.kept) == 3


def test_no_sink_sees_a_decision_before_it_is_durable(root: Path, desk: Desk) -> None:
    sink, talker = KeepingSink(), Talker(root)
    one = delivery(root, "early", sink)
    for _ in range(3):
        talker.say()
    desk.decide()
    ends = frame_ends(decision_log(root / "router"))
    one.start()
    one.advance(ends[1])
    await_that(lambda: len(sink.kept) == 2, "two decisions")
    one.stop(5.0)
    assert len(sink.kept) == 2


def frame_ends(path: Path) -> list[int]:
    return [offset for offset, _ in LogReader(path).read()]


def test_a_stop_lets_a_sink_finish_and_leaves_one_that_is_down(root: Path, desk: Desk) -> None:
    down, slow, talker = KeepingSink(unavailable), KeepingSink(), Talker(root)
    desk.restart(delivery(root, "down", down), delivery(root, "slow", slow))
    said = [talker.say() for _ in range(4)]
    desk.router.stop(deliver_s=5.0)
    assert kept(slow) == said
    assert down.kept == []


def test_each_time_a_sink_is_asked_where_to_go_on(root: Path, desk: Desk) -> None:
    sink, talker = KeepingSink(), Talker(root)
    said = [talker.say() for _ in range(4)]
    desk.restart(delivery(root, "one", sink))
    desk.decide()
    await_that(lambda: len(sink.kept) == 4, "four decisions")
    desk.router.stop()
    del sink.kept[2:]
    desk.restart(delivery(root, "one", sink))
    await_that(lambda: len(sink.kept) == 4, "the two it lost")
    assert kept(sink) == said


def test_a_sink_that_is_behind_does_not_pause(root: Path) -> None:
    path, body = decision_log(root / "router"), b"x" * 400_000
    envelope = Envelope(n=0, seq=0, epoch=0, mode="mock", received_ns=0, recorded_ns=0, generation="0")
    journal, sink = Journal(path.parent), KeepingSink()
    many = range(5 * BATCH_READS)
    journal.append([Decision(one, f"acme:talk.X@0/{one}", "refused", "", 0, envelope, body) for one in many], {})
    one = Delivery("slow", sink.open, path, pause_s=3_600.0)
    one.start()
    one.advance(journal.synced)
    await_that(lambda: len(sink.kept) == len(many), "all that there was, without a pause")
    one.stop(5.0)
    journal.close()
