"""A worker that is cut off: who may see it, and how it comes back once its log can be trusted again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from router.desk import GENERATION, Desk, Talker, body_of

from strategy_runner.model.signal import Envelope, LoggedSignal, canonical, digest
from strategy_runner.router.cut_off import read_cut_off
from strategy_runner.tape.logs import AppendLog

WORKER = "talk.X"


@pytest.fixture
def desk(root: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**changes: Any) -> Desk:
        made.append(Desk(root, WORKER, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Desk]


def spoil(talker: Talker, n: int, generation: str = GENERATION) -> None:
    """A signal that skips numbers."""
    body = canonical(body_of(WORKER, n, generation=generation))
    envelope = Envelope(n=n, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=1, generation=generation)
    AppendLog(talker.path).append(msgspec.msgpack.encode(LoggedSignal(envelope, digest(body), body)))


def cut_off(desk: Desk) -> dict[str, str]:
    desk.decide()
    desk.decide()
    return read_cut_off(desk.root / "router")


def test_who_is_cut_off_is_told_with_the_reason_and_told_again_by_a_restarted_router(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say()]
    assert cut_off(one) == {}
    spoil(talker, 5)
    reason = f"{talker.path}: expected signal {GENERATION}/1, found {GENERATION}/5"
    assert cut_off(one) == {WORKER: reason}
    one.router.stop()
    one.restart()
    assert cut_off(one) == {WORKER: reason}
    assert one.decide() == said


@pytest.mark.parametrize("restarts", [False, True], ids=["", "the router restarts"])
def test_a_new_generation_behind_the_fault_is_trusted_again(root: Path, desk: Make, restarts: bool) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say()]
    spoil(talker, 5)
    spoil(talker, 6)
    assert cut_off(one) != {}
    newer = Talker(root, generation="00c0ffee")
    for _ in range(3):
        said.append(newer.say())
        assert one.decide() == said
        if restarts:
            one.restart()
    assert cut_off(one) == {}
    assert one.status.last_error == ""
    assert one.decide() == said


def test_the_same_generation_stays_cut_off_even_if_its_numbers_fit_again(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say()]
    spoil(talker, 5)
    for n in (0, 1):
        talker = Talker(root)
        talker.n = n
        talker.say()
        assert one.decide() == said
    assert WORKER in cut_off(one)


@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
@pytest.mark.parametrize("restarts", [False, True], ids=["", "the router restarts"])
def test_a_log_in_place_of_a_removed_one_is_read_from_its_start(
    root: Path, desk: Make, restarts: bool, longer: bool
) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say() for _ in range(3)]
    spoil(talker, 9)
    assert cut_off(one) != {}
    if restarts:
        one.router.stop()
    talker.path.unlink()
    newer = Talker(root, generation="00c0ffee")
    said += [newer.say(reasons=("a word more",)) for _ in range(12 if longer else 1)]
    if restarts:
        one.restart()
    assert one.decide() == said
    assert cut_off(one) == {}


def test_a_log_that_says_the_same_again_is_trusted_and_goes_on(root: Path, desk: Make) -> None:
    """A power cut takes what a worker had not synced: it derives the same signals again."""
    talker, one = Talker(root), desk()
    said = [talker.say() for _ in range(3)]
    assert one.decide() == said
    talker.path.unlink()
    again = Talker(root)
    assert [again.say() for _ in range(3)] == said
    said.append(again.say())
    assert one.decide() == said
    assert cut_off(one) == {}


def test_a_log_that_says_something_else_under_a_decided_id_is_cut_off_and_nothing_is_passed_over_in_silence(
    root: Path, desk: Make
) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say() for _ in range(3)]
    assert one.decide() == said
    talker.path.unlink()
    again = Talker(root)
    for _ in range(5):
        again.say(size=77.0)
    assert one.decide() == said
    assert f"signal {GENERATION}/0 was decided before with digest" in cut_off(one)[WORKER]
    newer = Talker(root, generation="00c0ffee")
    said.append(newer.say())
    assert one.decide() == said


def test_a_router_in_bulk_looks_at_the_logs_it_finds(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk(bulk=True)
    said = [talker.say() for _ in range(9)]
    one.router.drain()
    one.router.stop()
    talker.path.unlink()
    said.append(Talker(root, generation="00c0ffee").say())
    one.restart()
    assert one.router.drain() == 1
    assert [decision.signal_id for decision in one.decisions()] == said
