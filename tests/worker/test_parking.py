"""When a worker is parked: what a life leaves on its page, what the next ones make of it, and what is held against nobody."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker.build import (
    MODELS,
    Followers,
    Row,
    bodies_on_disk,
    new_tape,
    random_rows,
    rerun,
    run_out,
    worker_spec,
    write_rows,
)

from strategy_runner.config.spec import LimitsSpec, WorkerSpec
from strategy_runner.errors import DivergenceError, StateError, StrategyError
from strategy_runner.tape.status import STATE_AND_PID, UNFORESEEN, State, Status, StatusFile, read_status
from strategy_runner.worker import parking
from strategy_runner.worker.genesis import read_geneses
from strategy_runner.worker.parking import (
    ON_START,
    Trouble,
    begin_life,
    descent_of,
    latest_trouble,
    long_reason,
    park,
    read_trouble,
    resumed,
    trouble_path,
    write_trouble,
)
from strategy_runner.worker.skips import Skip, Skips, note_skip, read_skips

SECOND_NS = 1_000_000_000


def spec_in(folder: Path, /, **changes: Any) -> WorkerSpec:
    limits = LimitsSpec(memory_limit_mb=64, cpu_limit=1.0, crash_limit=4, crash_window_s=60.0)
    return worker_spec(folder, **{"limits": limits, "models": MODELS, **changes})


def page_of(spec: WorkerSpec) -> Status:
    status = read_status(Path(spec.folder) / "status")
    assert status is not None
    return status


Leave = Callable[[StatusFile], None]


def killed_at(seq: int) -> Leave:
    def leave(file: StatusFile) -> None:
        file.enter(State.FOLLOWING)
        file.applying = seq + 1

    return leave


def raised_at(seq: int) -> Leave:
    def leave(file: StatusFile) -> None:
        file.applying, file.status.last_error = seq + 1, f"X/trade ordinal {seq}: told to"
        file.enter(State.FAILED, "StrategyError")

    return leave


def ended_as(state: State, reason: str = "", *, total: int = 9) -> Leave:
    def leave(file: StatusFile) -> None:
        file.status.total = total
        file.enter(state, reason)

    return leave


def live(spec: WorkerSpec, *lives: Leave) -> Trouble:
    """One life after the other, each leaving its page behind; then what the next one finds."""
    for leave in lives:
        trouble, file = begin_life(spec)
        assert not trouble.is_parked
        leave(file)
    return begin_life(spec)[0]


# -- one record --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [killed_at, raised_at])
def test_three_lives_that_end_at_one_record_park_the_worker_and_two_do_not(
    folder: Path, leave: Callable[[int], Leave]
) -> None:
    two = live(spec_in(folder), leave(7), leave(7))
    assert (two.is_parked, two.seq, two.tries) == (False, 7, 2)
    three = live(spec_in(folder), leave(7))
    assert (three.is_parked, three.seq, three.tries) == (True, 7, 3)
    assert three.is_at_a_record
    told = "told to" if leave is raised_at else "without a word"
    assert told in three.error


def test_without_the_count_a_record_that_kills_would_kill_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "TRIES", 1_000)
    limits = LimitsSpec(memory_limit_mb=64, cpu_limit=1.0, crash_limit=1_000, crash_window_s=60.0)
    assert not live(spec_in(folder, limits=limits), *[killed_at(7)] * 20).is_parked


def test_another_record_begins_to_count_anew(folder: Path) -> None:
    trouble = live(spec_in(folder), killed_at(7), killed_at(7), killed_at(8), killed_at(7))
    assert (trouble.is_parked, trouble.seq, trouble.tries) == (False, 7, 1)


def test_record_0_is_a_record(folder: Path) -> None:
    assert live(spec_in(folder), killed_at(0), raised_at(0), killed_at(0)).is_parked


def test_a_parked_worker_stays_parked_over_any_number_of_starts_and_knows_since_when(folder: Path) -> None:
    write_rows(new_tape(folder), random_rows(1, 2))
    spec = spec_in(folder)
    parked = live(spec, killed_at(7), killed_at(7), killed_at(7))
    for _ in range(3):
        trouble, file = begin_life(spec)
        park(spec, trouble, file)
        page = page_of(spec)
        assert (page.state, page.since_ns) == (State.PARKED, parked.parked_ns)
        assert "seq 7" in page.reason
        assert page.last_error == long_reason(read_trouble(Path(spec.folder), spec.generation))
        assert page.applying == 0


def test_it_is_told_by_name_which_record_it_was_and_how_far_the_worker_had_come(folder: Path) -> None:
    rows = random_rows(1, 2)
    write_rows(new_tape(folder), rows)
    spec = spec_in(folder)
    seq = [name for name, _, _ in rows].index("X/quote")

    def leave(file: StatusFile) -> None:
        file.status.position, file.status.signals = seq, 12
        killed_at(seq)(file)

    live(spec, leave, leave, leave)
    trouble, file = begin_life(spec)
    park(spec, trouble, file)
    named = read_trouble(Path(spec.folder), spec.generation)
    assert (named.stream, named.ordinal, named.seq) == ("X/quote", 0, seq)
    assert f"seq {seq} (X/quote ordinal 0): 3 tries: " in page_of(spec).last_error
    assert (page_of(spec).position, page_of(spec).signals) == (seq, 12)


def test_faults_that_nobody_foresaw_count_wherever_they_come(folder: Path) -> None:
    spec = spec_in(folder)
    bug = ended_as(State.FAILED, UNFORESEEN)
    assert not live(spec, *[bug] * spec.limits.crash_limit).is_parked
    bug(begin_life(spec)[1])
    assert begin_life(spec)[0].is_parked


def raised_in_on_start(after_ns: int) -> Leave:
    def leave(file: StatusFile) -> None:
        file.status.started_ns -= after_ns
        file.status.last_error = "on_start: KeyError: 'missing'"
        file.enter(State.FAILED, "StrategyError")

    return leave


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (ended_as(State.STARTING, ON_START, total=0), "the process ended inside on_start without a word"),
        (raised_in_on_start(2 * SECOND_NS), "on_start: KeyError: 'missing'"),
    ],
)
def test_three_lives_that_end_in_on_start_park_the_worker_where_supervisord_would_start_it_for_ever(
    folder: Path, leave: Leave, error: str
) -> None:
    spec = spec_in(folder)
    two = live(spec, leave, leave)
    assert (two.is_parked, two.tries) == (False, 2)
    trouble = live(spec, leave)
    assert trouble.is_parked and not trouble.is_at_a_record and not trouble.is_nameless
    trouble, file = begin_life(spec)
    park(spec, trouble, file)
    page = page_of(spec)
    assert (page.state, page.reason) == (State.PARKED, "ended 3 times before its first record")
    assert page.last_error.startswith(f"ended 3 times before its first record: {error}")
    raised_at_once = raised_in_on_start(0)
    assert latest_trouble(Path(spec.folder)) == trouble
    other = spec_in(folder, generation="11111111")
    assert not live(other, *[raised_at_once] * 12).ends_ns, "that one supervisord gives up"


# -- what does not count -----------------------------------------------------------------------------------------------

INNOCENT = [
    ("stopped", ended_as(State.STOPPED)),
    ("finished", ended_as(State.FINISHED)),
    ("gone before it followed", ended_as(State.STARTING)),
    ("raised before it followed", ended_as(State.FAILED, "StrategyError", total=0)),
    ("unforeseen before it followed", ended_as(State.FAILED, UNFORESEEN, total=0)),
    ("diverged", ended_as(State.FAILED, "DivergenceError")),
    ("damaged tape", ended_as(State.FAILED, "CorruptRecordError")),
    ("full disk", ended_as(State.FAILED, "OSError")),
]


@pytest.mark.parametrize("leave", [leave for _, leave in INNOCENT], ids=[name for name, _ in INNOCENT])
def test_what_is_not_the_strategys_fault_is_not_held_against_it(folder: Path, leave: Leave) -> None:
    trouble = live(spec_in(folder), *[leave] * 12)
    assert not trouble.is_parked
    assert trouble.ends_ns == ()
    assert latest_trouble(folder / "talk.X") is None


def test_one_life_is_counted_once_however_often_its_page_is_found(folder: Path) -> None:
    """Killed between the note of a trouble and its own first mark on the page, a life leaves the page of the one before."""
    spec = spec_in(folder)
    live(spec, killed_at(7))
    path = Path(spec.folder) / "status"
    killed_at(7)(begin_life(spec)[1])
    left = path.read_bytes()
    for _ in range(4):
        path.write_bytes(left)
        assert begin_life(spec)[0].tries == 2


def test_a_life_begins_on_a_page_that_cannot_be_read_and_heals_it(folder: Path) -> None:
    spec = spec_in(folder)
    _, file = begin_life(spec)
    file.words[STATE_AND_PID] ^= 1 << 3
    assert read_status(Path(spec.folder) / "status") is None
    trouble, _ = begin_life(spec)
    assert not trouble.ends_ns
    assert page_of(spec).state is State.STARTING


def test_ends_that_came_with_the_end_of_the_daemon_do_not_count(folder: Path) -> None:
    """Each life is a child of another process here, as workers of a daemon that is killed again and again."""
    spec = spec_in(folder)
    write_rows(new_tape(folder), random_rows(1, 1))
    path = folder / "spec.json"
    path.write_bytes(msgspec.json.encode(spec))
    code = (
        "import sys, msgspec, pathlib\n"
        "from strategy_runner.config.spec import WorkerSpec\n"
        "from strategy_runner.tape.status import State\n"
        "from strategy_runner.worker.parking import begin_life\n"
        "spec = msgspec.json.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=WorkerSpec)\n"
        "_, file = begin_life(spec)\n"
        "file.enter(State.FOLLOWING); file.applying = 8\n"
    )
    for _ in range(4):
        # the shell is the parent, and another one each time; `true` keeps it from becoming the child
        subprocess.run(["/bin/sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, code, str(path)], check=True)
    trouble, _ = begin_life(spec)
    assert (trouble.tries, trouble.ends_ns) == (0, ())
    assert descent_of("00000001") != descent_of("00000002")


def test_new_code_begins_without_the_troubles_of_the_old(folder: Path) -> None:
    old, new = spec_in(folder), spec_in(folder, generation="11111111")
    assert live(old, killed_at(7), killed_at(7), killed_at(7)).is_parked
    assert live(new, killed_at(7)) == msgspec.structs.replace(
        read_trouble(Path(new.folder), new.generation), generation="11111111"
    )
    killed_at(7)(begin_life(spec_in(folder, generation="22222222"))[1])
    trouble, _ = begin_life(spec_in(folder, generation="33333333"))
    assert (trouble.tries, trouble.is_parked) == (0, False), "the page that it found is another generation's"


def test_a_damaged_file_of_troubles_is_named(folder: Path) -> None:
    spec = spec_in(folder)
    Path(spec.folder).mkdir()
    trouble_path(Path(spec.folder)).write_text("{")
    with pytest.raises(StateError, match=r"trouble\.json: expected a worker's troubles, found"):
        begin_life(spec)


# -- too often ---------------------------------------------------------------------------------------------------------


def test_more_unclean_ends_than_the_limit_allows_in_its_window_park_the_worker(folder: Path) -> None:
    spec, leave = spec_in(folder), ended_as(State.FOLLOWING)
    assert not live(spec, *[leave] * 4).is_parked
    parked = live(spec, leave)
    assert parked.is_parked
    assert not parked.is_at_a_record
    assert parked.why == "ended 5 times within 60 s, limits.crash_limit is 4"


def test_ends_that_lie_further_apart_do_not(folder: Path) -> None:
    spec = spec_in(folder)
    for number in range(12):
        trouble, file = begin_life(spec)
        assert not trouble.is_parked, number
        file.enter(State.FOLLOWING)
        page = bytearray((Path(spec.folder) / "status").read_bytes())
        beat_ns = page_of(spec).beat_ns
        later = (beat_ns + number * 20 * SECOND_NS).to_bytes(8, "little")
        page = page.replace(beat_ns.to_bytes(8, "little"), later)
        (Path(spec.folder) / "status").write_bytes(page)


# -- going on ----------------------------------------------------------------------------------------------------------


def test_a_resumed_worker_has_all_its_tries_again(folder: Path) -> None:
    spec = spec_in(folder)
    parked = live(spec, killed_at(7), killed_at(7), killed_at(7))
    write_trouble(Path(spec.folder), resumed(parked, reason="a cosmic ray", now_ns=5))
    again = live(spec, killed_at(7), killed_at(7))
    assert (again.is_parked, again.tries, again.resumed_why) == (False, 2, "a cosmic ray")
    assert live(spec, killed_at(7)).is_parked


def skip_of(spec: WorkerSpec, seq: int, stream: str, ordinal: int, /, **changes: Any) -> Skip:
    skip = Skip(generation=spec.generation, seq=seq, stream=stream, ordinal=ordinal, reason="", at_ns=1)
    return msgspec.structs.replace(skip, **changes)


def ordinal_of(rows: list[Row], seq: int) -> int:
    return sum(name == rows[seq][0] for name, _, _ in rows[:seq])


def test_a_skipped_record_is_not_applied_its_place_is_passed_and_the_oracle_agrees(
    folder: Path, followers: Followers
) -> None:
    rows = random_rows(5, 30)
    write_rows(new_tape(folder), rows)
    spec = spec_in(folder, params={"every": 3, "raise_at": 50})
    follower = followers.make(spec)
    with pytest.raises(StrategyError, match="told to raise at record 50") as raised:
        run_out(follower)
    follower.fail(raised.value)
    seq = page_of(spec).applying - 1
    name, ordinal = rows[seq][0], ordinal_of(rows, seq)
    assert f"{name} ordinal {ordinal}: " in page_of(spec).last_error
    calm = spec_in(folder, params={"every": 3}, folder=str(folder / "calm"))
    note_skip(Path(calm.folder), skip_of(calm, seq, name, ordinal))
    run_out(followers.make(calm))
    assert page_of(calm).position == len(rows)
    bodies = bodies_on_disk(Path(calm.folder))
    assert bodies == rerun(calm, folder / "tape", read_geneses(Path(calm.folder))[-1], len(rows))
    whole = spec_in(folder, params={"every": 3}, folder=str(folder / "whole"))
    run_out(followers.make(whole))
    assert bodies != bodies_on_disk(Path(whole.folder)), "the record should have made a difference"


def test_a_skip_is_of_one_record_of_one_generation_and_survives(folder: Path) -> None:
    spec = spec_in(folder)
    one = skip_of(spec, 4, "X/trade", 2, reason="nonsense price")
    note_skip(Path(spec.folder), one)
    note_skip(Path(spec.folder), skip_of(spec, 9, "X/trade", 4, generation="11111111"))
    assert read_skips(Path(spec.folder), spec.generation) == [one]
    assert not Skips([])
    assert Skips([one])


def test_a_skip_that_names_another_record_at_this_place_leaves_the_record_in(
    folder: Path, followers: Followers
) -> None:
    """A tape that was made anew has other records at the same seqs."""
    rows = random_rows(6, 10)
    write_rows(new_tape(folder), rows)
    bodies = []
    for number, changes in enumerate([None, {"seq": 21}, {"ordinal": 77}, {"stream": "X/funding"}, {}]):
        spec = spec_in(folder, params={"every": 3}, folder=str(folder / str(number)))
        if changes is not None:
            note_skip(Path(spec.folder), skip_of(spec, 20, rows[20][0], ordinal_of(rows, 20), **changes))
        run_out(followers.make(spec))
        bodies.append(bodies_on_disk(Path(spec.folder)))
    assert bodies[1] == bodies[2] == bodies[3] == bodies[0]
    assert bodies[4] != bodies[0]


# -- the follower's side -----------------------------------------------------------------------------------------------


def test_between_records_the_page_names_none(folder: Path, followers: Followers) -> None:
    write_rows(new_tape(folder), random_rows(7, 5))
    spec = spec_in(folder)
    run_out(followers.make(spec))
    assert page_of(spec).applying == 0


def test_a_divergence_is_not_the_records_fault(folder: Path, followers: Followers) -> None:
    write_rows(new_tape(folder), random_rows(8, 10))
    first = followers.make(spec_in(folder, params={"every": 3}))
    run_out(first)
    other = spec_in(folder, params={"every": 4})  # the same generation gives other signals
    follower = followers.make(other)
    with pytest.raises(DivergenceError) as raised:
        run_out(follower)
    assert page_of(other).applying > 0
    follower.fail(raised.value)
    assert (page_of(other).applying, page_of(other).reason) == (0, "DivergenceError")


def test_the_word_of_the_record_at_hand_survives_the_death_of_its_process(folder: Path) -> None:
    pid = os.fork()
    if not pid:
        killed_at(41)(StatusFile(folder / "status"))
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    status = read_status(folder / "status")
    assert status is not None
    assert (status.applying, status.pid) == (42, pid)
