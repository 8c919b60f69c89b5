"""The router: one decision for each signal, behind the gate, in an order that can be told."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from router.crash import Killed
from router.desk import GENERATION, Desk, Talker, body_of, refusals, router_spec, symbols
from worker.build import START_NS, short_folder

from strategy_runner.model.signal import Envelope, LoggedSignal, canonical, digest
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.intake import WorkerIntake
from strategy_runner.router.journal import NOTE_DECISIONS
from strategy_runner.router.right_of_way import GiveWay, no_way_given
from strategy_runner.router.router import TURN_SIGNALS_MAX
from strategy_runner.tape.logs import AppendLog
from strategy_runner.tape.status import State


@pytest.fixture
def desk(root: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*workers: str, **changes: Any) -> Desk:
        made.append(Desk(root, *workers, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Desk]

# -- deciding ----------------------------------------------------------------------------------------------------------


def test_each_signal_gets_exactly_one_decision_with_the_workers_own_refusals_as_reasons(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say(refusal=None if n % 2 else "no_price") for n in range(4)]
    assert one.decide() == said
    assert one.decide() == said
    assert refusals(one.decisions()) == [("refused", "no_price"), ("accepted", "")] * 2
    assert [decision.number for decision in one.decisions()] == [0, 1, 2, 3]
    assert (one.status.signals, one.status.refusals, one.status.last_signal) == (4, 2, said[-1])


def test_a_decision_carries_the_signal_as_the_worker_wrote_it(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    talker.say(seq=77, size=3.5)
    one.decide()
    (decision,) = one.decisions()
    assert decision.body == canonical(body_of("talk.X", 0, size=3.5))
    assert (decision.envelope.seq, decision.envelope.n, decision.envelope.generation) == (77, 0, GENERATION)


def test_a_signal_waits_at_the_gate_until_its_record_is_durable(root: Path, desk: Make) -> None:
    quick, slow = Talker(root, "talk.X"), Talker(root, "talk.Y")
    one = desk("talk.X", "talk.Y")
    one.durable = 10
    first, held = quick.say(seq=9), quick.say(seq=10)
    other = slow.say(seq=3)
    assert one.decide() == [first, other]
    one.durable = 11
    assert one.decide() == [first, other, held]


def test_what_waits_at_the_gate_is_looked_at_again_at_once(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    one.durable = 0
    talker.say(seq=5)
    one.decide()
    one.router._next_look = float("inf")
    one.durable = 6
    one.router.wait()
    assert one.router.turn() == 1


def test_a_log_that_was_read_to_its_end_is_read_again_when_its_worker_rings_and_not_before(
    root: Path, desk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker, one = Talker(root), desk()
    reads: list[WorkerIntake] = []
    fill = WorkerIntake.fill
    monkeypatch.setattr(WorkerIntake, "fill", lambda intake: (reads.append(intake), fill(intake))[1])
    one.router._next_look = float("inf")
    for seq in range(3):
        talker.say(seq=seq)
        one.router._due.add("talk.X")  # as it rings
        assert [one.router.turn() for _ in range(3)] == [1, 0, 0]
    assert len(reads) == 3


def test_one_turn_decides_a_bounded_number_of_signals(root: Path, desk: Make) -> None:
    workers = [f"talk.X{number}" for number in range(5)]
    for worker in workers:
        talker = Talker(root, worker)
        for _ in range(TURN_SIGNALS_MAX // 4):
            talker.say()
    one = desk(*workers)
    assert [one.router.turn() for _ in range(3)] == [TURN_SIGNALS_MAX, TURN_SIGNALS_MAX // 4, 0]


def test_a_worker_that_a_reloaded_plan_adds_is_taken_in(root: Path, desk: Make) -> None:
    old, new, one = Talker(root, "talk.X"), Talker(root, "talk.Y"), desk("talk.X")
    first, second = old.say(), new.say()
    assert one.decide() == [first]
    one.router.reload(router_spec(root, ("talk.X", "talk.Y")))
    assert one.decide() == [first, second]


def test_a_worker_that_a_reloaded_plan_leaves_out_is_still_heard(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    one.router.reload(router_spec(root, ()))
    said = talker.say()
    assert one.decide() == [said]


# -- what is not to be trusted -----------------------------------------------------------------------------------------


def frame(n: int, body: bytes, hashed: bytes | None = None, generation: str = GENERATION) -> bytes:
    envelope = Envelope(n=n, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=1, generation=generation)
    return msgspec.msgpack.encode(LoggedSignal(envelope, hashed or digest(body), body))


def signal(n: int, **changes: Any) -> bytes:
    return canonical(body_of("talk.X", n, **changes))


UNTRUSTED = {
    "a gap": (frame(3, signal(3)), "expected signal 0badcafe/2, found 0badcafe/3"),
    "a new generation that does not begin at 0": (
        frame(1, signal(1, generation="0badcaff"), generation="0badcaff"),
        "expected signal 0badcaff/0, found 0badcaff/1",
    ),
    "a wrong digest": (frame(2, signal(2), hashed=b"x" * 16), "signal 0badcafe/2: body and digest differ"),
    "another number in the id": (
        frame(2, signal(9)),
        "expected an id of acme's worker talk.X, found acme:talk.X@0badcafe/9",
    ),
    "another client": (frame(2, signal(2, id="evil:talk.X@0badcafe/2")), "found evil:talk.X@0badcafe/2"),
    "another worker": (frame(2, canonical(body_of("talk.Y", 2))), "found acme:talk.Y@0badcafe/2"),
    "a body that is none": (frame(2, b'{"id": 5}'), "expected a signal, found: "),
    "a body that is no text": (frame(2, b"\xff\xfe"), "expected a signal, found: "),
    "a frame that is no signal": (b"\x93\x01\x02\x03", "expected a signal, found: "),
}


@pytest.mark.parametrize("kind", UNTRUSTED)
@pytest.mark.parametrize("ordered", [False, True], ids=["as they come", "ordered"])
def test_a_log_that_cannot_be_trusted_cuts_off_its_worker_and_no_other(
    root: Path, desk: Make, kind: str, ordered: bool
) -> None:
    bad, good = Talker(root, "talk.X"), Talker(root, "talk.Y")
    one = desk("talk.X", "talk.Y", ordered=ordered)
    payload, problem = UNTRUSTED[kind]
    before = [bad.say(), bad.say()]
    AppendLog(bad.path).append(payload)
    others = [good.say(seq=1)]
    for talker in (bad, good):
        talker.has_read(100)
    one.decide()
    others.append(good.say(seq=2))
    assert one.decide() == [*before, *others]
    assert one.status.last_error.startswith("worker talk.X is cut off: ")
    assert problem in one.status.last_error


def test_two_workers_that_are_cut_off_are_told_of_once_each(
    root: Path, desk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for worker in ("talk.X", "talk.Y"):
        AppendLog(Talker(root, worker).path).append(b"no signal")
    one = desk("talk.X", "talk.Y")
    for _ in range(5):
        one.decide()
    assert sum("is cut off" in message for message in caplog.messages) == 2


# -- restarting --------------------------------------------------------------------------------------------------------


def test_a_killed_router_goes_on_where_its_decisions_end(root: Path, desk: Make) -> None:
    talker, one = Talker(root), desk()
    said = [talker.say(refusal="no_price") for _ in range(3)]
    one.decide()
    said += [talker.say(), talker.say()]
    one.restart()
    assert one.decide() == said
    assert (one.status.signals, one.status.refusals) == (5, 3)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda note: note.unlink(),
    "empty": lambda note: note.write_bytes(b""),
    "torn": lambda note: note.write_bytes(note.read_bytes()[:-3]),
    "zeros": lambda note: note.write_bytes(bytes(100)),
    "of another format": lambda note: note.write_bytes(b"\x8d\xef\x02\xd2" + b"a"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_note_that_is_damaged_or_missing_costs_time_and_nothing_else(root: Path, desk: Make, damage: str) -> None:
    talkers = [Talker(root, "talk.X"), Talker(root, "talk.Y")]
    one = desk("talk.X", "talk.Y")
    said = [talkers[n % 2].say() for n in range(6)]
    assert sorted(one.decide()) == sorted(said)
    one.router.stop()
    DAMAGES[damage](root / "router" / "note")
    said.append(talkers[0].say())
    one.restart()
    assert sorted(one.decide()) == sorted(said)


@pytest.mark.parametrize("noted", [False, True], ids=["no note", "a note from before"])
@pytest.mark.parametrize("generations", ["AB", "ABA", "ABCAB"])
def test_signals_of_older_generations_are_not_decided_again(
    root: Path, desk: Make, generations: str, noted: bool
) -> None:
    one, said = desk(), []
    for step, generation in enumerate(generations):
        talker = Talker(root, generation=generation * 8)
        said += [talker.say(), talker.say()]
        assert one.decide() == said
        if noted and step == 0:
            one.router.stop()
            said.append(talker.say())
        one.restart()
    assert one.decide() == said


def test_a_restart_at_any_point_gives_each_signal_one_decision(root: Path, desk: Make) -> None:
    luck = random.Random(5)
    workers = ["talk.X", "talk.Y", "talk.Z"]
    talkers, one, said = [Talker(root, worker) for worker in workers], desk(*workers), []
    for step in range(150):
        said.append(luck.choice(talkers).say(seq=step))
        one.durable = luck.randrange(step + 1)
        if luck.random() < 0.3:
            one.router.turn()
        if luck.random() < 0.15:
            if luck.random() < 0.5:
                one.router.stop()
            one.restart()
    one.durable = 1_000
    decided = one.decide()
    assert sorted(decided) == sorted(said)
    for worker in workers:
        own = [signal_id for signal_id in decided if worker in signal_id]
        assert own == [signal_id for signal_id in said if worker in signal_id]


# -- ordered -----------------------------------------------------------------------------------------------------------


def test_ordered_the_decisions_are_the_same_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    """By seq, then worker; several signals of one record stay in their order."""
    workers = ["talk.X", "talk.Y", "talk.Z"]
    seqs = {"talk.X": [1, 4, 4, 9, 20], "talk.Y": [2, 4, 8, 8], "talk.Z": [0, 4, 30]}
    expected = sorted((seq, worker, n) for worker in workers for n, seq in enumerate(seqs[worker]))
    for seed in range(8):
        with short_folder() as root:
            luck, talkers, one = (
                random.Random(seed),
                {w: Talker(root, w) for w in workers},
                Desk(root, *workers, ordered=True),
            )
            left = {worker: list(seqs[worker]) for worker in workers}
            while any(left.values()):
                worker = luck.choice([worker for worker in workers if left[worker]])
                talkers[worker].say(seq=left[worker][0])
                talkers[worker].has_read(left[worker].pop(0))
                if luck.random() < 0.7:
                    one.decide()
            for talker in talkers.values():
                talker.has_read(31)
            one.decide()
            found = [
                (d.envelope.seq, d.signal_id.partition(":")[2].partition("@")[0], d.envelope.n) for d in one.decisions()
            ]
            one.close()
        assert found == expected, f"seed {seed}"


def test_ordered_nothing_is_decided_before_the_slowest_worker_has_passed(root: Path, desk: Make) -> None:
    quick, slow = Talker(root, "talk.X"), Talker(root, "talk.Y")
    one = desk("talk.X", "talk.Y", ordered=True)
    said = [quick.say(seq=5)]
    quick.has_read(100)
    slow.has_read(5)
    assert one.decide() == []
    slow.has_read(6)
    assert one.decide() == said


def test_ordered_a_worker_that_failed_or_left_the_plan_is_not_waited_for(root: Path, desk: Make) -> None:
    quick, failed, left = (Talker(root, worker) for worker in ("talk.X", "talk.Y", "talk.Z"))
    one = desk("talk.X", "talk.Y", "talk.Z", ordered=True)
    early = failed.say(seq=1)
    late = quick.say(seq=50)
    quick.has_read(100)
    failed.has_read(2, State.FAILED)
    left.has_read(10, State.STOPPED)
    assert one.decide() == [early]
    one.router.reload(router_spec(root, ("talk.X", "talk.Y"), ordered=True))
    assert one.decide() == [early, late]


# -- in bulk -----------------------------------------------------------------------------------------------------------


def test_a_drain_decides_by_event_time_then_worker_then_n(root: Path, desk: Make) -> None:
    times = {"talk.Y": [5, 7, 7], "talk.X": [7, 7, 8], "talk.Z": [6]}
    for worker, moments in times.items():
        talker = Talker(root, worker)
        for number, moment in enumerate(moments):
            cause = msgspec.structs.replace(body_of(worker, 0).cause, event_ns=START_NS + moment)
            talker.say(cause=cause, size=1.0 + number)
    one = desk("talk.X", "talk.Y", "talk.Z", bulk=True)
    assert one.router.drain() == 7
    assert symbols(one.decisions()) == ["Y", "Z", "X", "X", "Y", "Y", "X"]
    assert [decision.envelope.n for decision in one.decisions()] == [0, 0, 0, 1, 1, 2, 2]
    assert one.router.drain() == 0


class DiesAt(Delivery):
    """The moment right after some batch was decided and noted, as `kill -9` meets it."""

    def __init__(self, journal: Path, batches: int) -> None:
        super().__init__("dying", lambda: None, journal, pause_s=0.0)  # type: ignore[arg-type, return-value]  # never opened
        self._left = batches

    def start(self, give_way: GiveWay = no_way_given) -> None:
        pass

    def advance(self, below: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed


@pytest.mark.parametrize("batches", [1, 3, 4])
def test_a_drain_that_is_killed_loses_no_signal_and_goes_on_in_the_same_order(
    root: Path, desk: Make, batches: int
) -> None:
    """Batches, so that the note of where the logs stood is written between two of them."""
    assert 2 * TURN_SIGNALS_MAX < NOTE_DECISIONS < 3 * TURN_SIGNALS_MAX
    count = 2 * TURN_SIGNALS_MAX + 10
    workers = ["talk.X", "talk.Y"]
    for worker in workers:
        talker = Talker(root, worker)
        for _ in range(count):
            talker._outbox.record(talker.n, body_of(worker, talker.n), 0)
            talker.n += 1
        talker._outbox.flush()
    one = desk(*workers, bulk=True)
    one.restart(DiesAt(root / "router" / "decisions.log", batches))
    with pytest.raises(Killed):
        one.router.drain()
    one.restart()
    one.router.drain()
    expected = [body_of(worker, n).id for n in range(count) for worker in workers]
    assert [decision.signal_id for decision in one.decisions()] == expected
