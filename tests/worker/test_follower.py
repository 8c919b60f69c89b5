"""The follower: a machine along a tape, restarted at any moment, with nothing lost and nothing twice."""

import logging
import random
import resource
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker.build import (
    CHATTY,
    MINUTE_NS,
    MODELS,
    START_NS,
    Echo,
    Followers,
    Recorded,
    Row,
    bodies_on_disk,
    logged,
    new_tape,
    random_rows,
    rerun,
    run_out,
    status_of,
    strategy,
    worker_spec,
    write_rows,
)

from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.config.spec import ModelSpec, WorkerSpec
from strategy_runner.errors import CorruptRecordError, DivergenceError, StrategyError
from strategy_runner.model.event import Bar, Event, Trade
from strategy_runner.model.record import SIZE
from strategy_runner.model.signal import canonical, decode_body
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.strategies.registry import load
from strategy_runner.tape import files
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.worker.follower import SNAPSHOT_SEQS
from strategy_runner.worker.genesis import read_geneses

Chatty = load("chatty", CHATTY)


def spec_in(folder: Path, **changes: Any) -> WorkerSpec:
    return worker_spec(folder, **{"models": MODELS, "params": {"every": 3}, **changes})


def derived(rows: list[Row], **changes: Any) -> list[bytes]:
    """What a machine says of the rows, without tape and loop."""
    run = Recorded(spec_in(Path("unused"), **changes), Chatty, every=3)
    run.machine.start()
    return [canonical(body) for body in run.apply(rows).bodies]


def snapshots(spec: WorkerSpec) -> list[int]:
    return sorted(int(path.stem) for path in Path(spec.folder).glob("*.snapshot"))


# -- along the tape ----------------------------------------------------------------------------------------------------


def test_it_runs_along_a_tape_that_another_thread_writes(folder: Path, followers: Followers) -> None:
    rows = random_rows(1, 120)
    tape, bell = new_tape(folder, segment_records=256), StreamDoorbell(f"ipc://{folder}/bell.sock")
    follower = followers.make(spec_in(folder))

    def write() -> None:
        luck, at = random.Random(1), 0
        while at < len(rows):
            step = luck.randrange(1, 30)
            write_rows(tape, rows[at : at + step])
            at += step
            bell.ring(topic_of("X/trade"), at)
        tape.head.finished = True
        bell.ring(topic_of("X/trade"), len(rows))

    writer = threading.Thread(target=write)
    writer.start()
    while (worked := follower.turn()) or status_of(spec_in(folder)).state is not State.FINISHED:
        if not worked:  # the end may have come with records: for what comes after that it would wait for ever
            follower.wait()
    writer.join()
    bell.close()
    assert bodies_on_disk(folder / "talk.X") == derived(rows)
    assert status_of(spec_in(folder)).records == len(rows)


@pytest.mark.parametrize("models", [(), MODELS], ids=["alone", "models"])
def test_records_that_come_one_by_one_leave_what_they_leave_at_once(
    folder: Path, followers: Followers, monkeypatch: pytest.MonkeyPatch, models: tuple[ModelSpec, ...]
) -> None:
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 40)
    tape, rows, worker = new_tape(folder, segment_records=256), random_rows(7, 30), spec_in(folder, models=models)
    follower = followers.make(worker)
    run_out(follower)
    page, said_at = status_of(worker), 0
    for number, row in enumerate(rows, start=1):
        tape.received_ns, before = number, page.signals
        write_rows(tape, [row])
        assert [follower.turn(), follower.turn()] == [1, 0]
        page, bodies = status_of(worker), [decode_body(body) for body in bodies_on_disk(folder / "talk.X")]
        assert (page.records, page.position, page.progress, page.total) == (number,) * 4
        assert (page.event_ns, page.applying, page.state) == (row[1], 0, State.FOLLOWING)
        said_at = said_at if page.signals == before else number
        assert (page.signals, page.last_signal_ns) == (len(bodies), said_at)
        assert page.last_signal == (bodies[-1].id if bodies else "")
        assert page.refusals == sum(body.refusal is not None for body in bodies)
        assert page.records - snapshots(worker)[-1] < 40 + 1
    assert bodies_on_disk(folder / "talk.X") == derived(rows, models=models)
    assert 10 < page.signals < len(rows) / 2, "else there was no record without a signal"


def test_a_worker_with_nothing_to_do_shows_that_it_lives_and_finds_what_nobody_rang_for(
    folder: Path, followers: Followers
) -> None:
    tape, page = new_tape(folder), spec_in(folder)
    tape.head.beat_ms = 10
    follower = followers.make(page)
    assert not follower.turn()
    beats = {status_of(page).beat_ns}

    def write_when_it_has_beaten() -> None:
        deadline = time.monotonic() + 20
        while len(beats) < 4 and time.monotonic() < deadline:
            beats.add(status_of(page).beat_ns)
            time.sleep(0.001)
        write_rows(tape, random_rows(1, 30))

    writer = threading.Thread(target=write_when_it_has_beaten)
    writer.start()
    follower.wait()
    writer.join()
    assert len(beats) == 4
    assert follower.turn()


def test_several_streams_reach_the_strategy_in_the_order_of_the_tape(folder: Path, followers: Followers) -> None:
    rows = random_rows(2, 40)
    worker = worker_spec(folder, streams=("X/quote", "X/clock.1s", "X/bar.1m", "X/trade"))
    write_rows(new_tape(folder), rows)
    run_out(followers.make(worker, strategy(Echo, worker)))
    bodies = [decode_body(body) for body in bodies_on_disk(folder / "talk.X")]
    heard = [(body.cause.stream, body.cause.event_ns) for body in bodies]
    assert heard == [(name, event_ns) for name, event_ns, _ in rows if "prediction" not in name]
    seqs = [signal.envelope.seq for signal in logged(folder / "talk.X" / "signals.log")]
    assert seqs == [seq for seq, (name, _, _) in enumerate(rows) if "prediction" not in name]


def test_it_catches_up_over_many_index_chunks_and_segments(folder: Path, followers: Followers) -> None:
    """One stream fills its index chunks, another has a record now and then: neither may run ahead."""
    count = 3 * files.INDEX_ENTRIES + 100
    rows: list[Row] = []
    for number in range(count):
        rows.append(("X/trade", START_NS + number, (100.0 + number % 7, 1.0, 1.0)))
        if number % 5_000 == 0:
            rows.append(("X/quote", START_NS + number, (99.0, 101.0, 1.0, 1.0)))
    write_rows(new_tape(folder, segment_records=16_384), rows)
    changes = {"models": (), "streams": ("X/trade", "X/quote")}
    worker = spec_in(folder, params={"every": 997}, **changes)
    follower = followers.make(worker)
    read = follower.turn()
    assert status_of(worker).position == read < len(rows), "one turn is bounded, and its position is what it has read"
    run_out(follower)
    run = Recorded(worker, Chatty, every=997)
    run.machine.start()
    expected = [canonical(body) for body in run.apply(rows).bodies]
    assert len(expected) == len(rows) // 997
    assert bodies_on_disk(folder / "talk.X") == expected
    assert status_of(worker).records == len(rows)


def test_a_stream_that_comes_late_is_read_from_its_beginning(folder: Path, followers: Followers) -> None:
    tape = new_tape(folder)
    write_rows(tape, [("X/trade", 1, (100.0, 1.0, 1.0))])
    worker = worker_spec(folder, streams=("X/trade", "X/quote"))
    follower = followers.make(worker, strategy(Echo, worker))
    run_out(follower)
    write_rows(tape, [("X/quote", 2, (99.0, 101.0, 1.0, 1.0)), ("X/trade", 3, (100.0, 1.0, 1.0))])
    run_out(follower)
    causes = [decode_body(body).cause for body in bodies_on_disk(folder / "talk.X")]
    assert [(cause.stream, cause.ordinal) for cause in causes] == [("X/trade", 0), ("X/quote", 0), ("X/trade", 1)]


# -- beginning ---------------------------------------------------------------------------------------------------------


class FromTheFourthBar(Strategy):
    inputs = Inputs(trades=True, bars=True, warmup_bars=3)

    def on_bar(self, bar: Bar) -> None:
        self.buy("bar")

    def on_trade(self, trade: Trade) -> None:
        self.buy("trade")


def minutes(first: int, last: int) -> list[Row]:
    """A trade in each minute and the bar that closes it."""
    rows: list[Row] = []
    for minute in range(first, last):
        rows.append(("X/trade", START_NS + minute * MINUTE_NS + 1, (100.0, 1.0, 1.0)))
        rows.append(("X/bar.1m", START_NS + (minute + 1) * MINUTE_NS, (100.0, 101.0, 99.0, 100.0, 1.0)))
    return rows


def refusals(folder: Path) -> list[str | None]:
    return [decode_body(body).refusal for body in bodies_on_disk(folder / "talk.X")]


def test_beginning_now_reads_the_bars_to_warm_up_and_signals_only_from_now_on(
    folder: Path, followers: Followers
) -> None:
    tape = new_tape(folder)
    write_rows(tape, minutes(0, 10))
    worker = worker_spec(folder, streams=("X/trade", "X/bar.1m"), from_start=False)
    follower = followers.make(worker, strategy(FromTheFourthBar, worker))
    run_out(follower)
    assert refusals(folder) == ["warming_up"] * 5  # three bars and the two trades between them
    write_rows(tape, minutes(10, 11))
    run_out(follower)
    assert refusals(folder) == ["warming_up"] * 5 + [None, None]


def test_beginning_now_on_a_tape_with_too_few_bars_goes_on_warming_up(folder: Path, followers: Followers) -> None:
    tape = new_tape(folder)
    write_rows(tape, minutes(0, 1))
    worker = worker_spec(folder, streams=("X/trade", "X/bar.1m"), from_start=False)
    follower = followers.make(worker, strategy(FromTheFourthBar, worker))
    write_rows(tape, minutes(1, 4))
    run_out(follower)
    assert refusals(folder) == ["warming_up"] * 5 + [None, None]


def test_beginning_now_behind_what_retention_took_warms_up_with_the_bars_that_are_kept(
    folder: Path, followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of the bars that it would have liked is gone, too."""
    monkeypatch.setattr(files, "INDEX_ENTRIES", 64)
    tape = new_tape(folder, segment_records=64)
    write_rows(tape, minutes(0, 66))
    assert tape.remove_before(130) == 2
    worker = worker_spec(folder, streams=("X/trade", "X/bar.1m"), from_start=False)
    follower = followers.make(worker, strategy(FromTheFourthBar, worker))
    write_rows(tape, minutes(66, 68))
    run_out(follower)
    assert refusals(folder) == ["warming_up"] * 5 + [None, None]


def test_now_is_the_durable_mark_so_that_a_restart_begins_at_the_same_place(folder: Path, followers: Followers) -> None:
    tape = new_tape(folder)
    write_rows(tape, minutes(0, 4))
    write_rows(tape, minutes(4, 5), durable=False)
    worker = worker_spec(folder, streams=("X/trade", "X/bar.1m"), from_start=False)
    run_out(followers.make(worker, strategy(FromTheFourthBar, worker)))
    before = bodies_on_disk(folder / "talk.X")
    run_out(followers.make(worker, strategy(FromTheFourthBar, worker)))
    assert len(before) == 7
    assert bodies_on_disk(folder / "talk.X") == before


def test_a_generation_that_returns_goes_on_behind_its_old_signals(folder: Path, followers: Followers) -> None:
    tape = new_tape(folder)
    write_rows(tape, minutes(0, 1))
    for step, generation in enumerate(("aaaaaaaa", "bbbbbbbb", "aaaaaaaa"), start=1):
        worker = worker_spec(folder, streams=("X/trade",), from_start=False, generation=generation)
        follower = followers.make(worker, strategy(Echo, worker))
        write_rows(tape, minutes(step, step + 1))
        run_out(follower)
    envelopes = [signal.envelope for signal in logged(folder / "talk.X" / "signals.log")]
    assert [(one.generation[0], one.n) for one in envelopes] == [("a", 0), ("b", 0), ("a", 1)]


# -- restarting --------------------------------------------------------------------------------------------------------


def test_killed_and_started_again_at_random_moments_it_says_what_an_undisturbed_run_says(
    folder: Path, followers: Followers
) -> None:
    rows = random_rows(6, 60)
    tape, luck, at = new_tape(folder, segment_records=128), random.Random(6), 0
    follower = followers.make(spec_in(folder))
    for _ in range(40):
        step = luck.randrange(1, 40)
        write_rows(tape, rows[at : at + step], durable=luck.random() < 0.5)
        at += step
        follower.turn()
        fate = luck.random()
        if fate < 0.3:
            follower.stop()
        if fate < 0.6:
            follower = followers.make(spec_in(folder))
    write_rows(tape, rows[at:])
    run_out(follower)
    assert bodies_on_disk(folder / "talk.X") == derived(rows)
    numbers = [signal.envelope.n for signal in logged(folder / "talk.X" / "signals.log")]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("stops", [True, False], ids=["stopped", "killed"])
def test_a_worker_that_ends_while_it_derives_again_has_nothing_twice(
    folder: Path, followers: Followers, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """Its snapshot stands in the middle of what its log holds."""
    rows, worker = random_rows(6, 60), spec_in(folder)
    write_rows(new_tape(folder), rows)
    run_out(followers.make(worker))
    monkeypatch.setattr("strategy_runner.worker.follower.TURN_RECORDS_MAX", 20)
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 10)
    again = followers.make(worker)
    assert again.turn()
    if stops:
        again.stop()
    assert 0 < snapshots(worker)[-1] < len(rows)
    run_out(followers.make(worker))
    assert [signal.envelope.n for signal in logged(folder / "talk.X" / "signals.log")] == list(
        range(len(derived(rows)))
    )
    assert bodies_on_disk(folder / "talk.X") == derived(rows)


def test_a_worker_that_is_killed_when_it_has_begun_to_derive_its_life_again_has_nothing_twice(
    folder: Path, followers: Followers
) -> None:
    rows, worker = random_rows(6, 60), spec_in(folder)
    write_rows(new_tape(folder), rows)
    run_out(followers.make(worker))
    for path in (folder / "talk.X").glob("*.snapshot"):
        path.unlink()
    followers.make(worker)
    assert snapshots(worker) == [0]
    run_out(followers.make(worker))
    assert bodies_on_disk(folder / "talk.X") == derived(rows)


def test_a_clean_stop_waits_for_the_durable_mark_and_leaves_a_snapshot_there(
    folder: Path, followers: Followers
) -> None:
    tape = new_tape(folder)
    rows = random_rows(7, 5)
    write_rows(tape, rows[:10])
    follower = followers.make(spec_in(folder))
    write_rows(tape, rows[10:], durable=False)
    run_out(follower)
    feed = threading.Timer(0.05, tape.make_durable)
    feed.start()
    follower.stop()
    feed.join()
    assert snapshots(spec_in(folder))[-1] == len(rows)
    assert status_of(spec_in(folder)).state is State.STOPPED


def test_a_clean_stop_without_a_feed_ends_all_the_same(folder: Path, followers: Followers) -> None:
    tape = new_tape(folder)
    rows = random_rows(7, 5)
    write_rows(tape, rows, durable=False)
    follower = followers.make(spec_in(folder))
    run_out(follower)
    follower.stop()
    assert snapshots(spec_in(folder)) == [0]
    run_out(followers.make(spec_in(folder)))
    assert bodies_on_disk(folder / "talk.X") == derived(rows)


class Forgets(Echo):
    def on_stop(self) -> None:
        self.told.clear()
        self.wish = {"size": 99.0}


class Slow(Strategy):
    """Computes for a twentieth of a second at each trade."""

    inputs = Inputs(trades=True)

    def on_trade(self, trade: Trade) -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass


def test_a_slow_strategy_shows_where_it_is_as_often_as_another(folder: Path, followers: Followers) -> None:
    worker = worker_spec(folder, models=())
    rows = [row for row in random_rows(4, 400) if row[0] == "X/trade"][:90]
    write_rows(new_tape(folder), rows)
    follower = followers.make(worker, Slow(None, symbol="X", timeframe="1m"))
    shown = []
    while follower.turn():
        shown.append(status_of(worker).position)
    assert shown[-1] == len(rows)
    assert len(shown) > 2, shown
    assert shown[-1] - shown[-2] <= 20, "half a second's of processor time"


def test_what_a_strategy_does_when_it_is_stopped_does_not_change_what_it_says_later(
    folder: Path, followers: Followers
) -> None:
    tape = new_tape(folder)
    worker = worker_spec(folder, streams=("X/trade",))
    for minute in range(2):
        write_rows(tape, minutes(minute, minute + 1))
        follower = followers.make(worker, strategy(Forgets, worker))
        run_out(follower)
        follower.stop()
    assert [decode_body(body).size for body in bodies_on_disk(folder / "talk.X")] == [2.0, 2.0]


def test_a_damaged_newest_snapshot_costs_time_and_nothing_else(folder: Path, followers: Followers) -> None:
    tape, rows, worker = new_tape(folder), random_rows(8, 20), spec_in(folder)
    for at in range(0, len(rows), 60):
        write_rows(tape, rows[at : at + 60])
        follower = followers.make(worker)
        run_out(follower)
        follower.stop()
        newest = Path(worker.folder) / f"{snapshots(worker)[-1]:015d}.snapshot"
        newest.write_bytes(newest.read_bytes()[:-5])
    assert bodies_on_disk(folder / "talk.X") == derived(rows)
    assert status_of(worker).signals == len(derived(rows))


def test_a_signal_that_is_derived_again_is_as_old_as_it_was(folder: Path, followers: Followers) -> None:
    tape, rows, worker = new_tape(folder), random_rows(8, 20), spec_in(folder)
    tape.received_ns = START_NS
    write_rows(tape, rows)
    for _ in range(2):  # the second one has only what the first one recorded
        run_out(followers.make(worker))
        page = status_of(worker)
        assert page.signals == len(bodies_on_disk(folder / "talk.X")) > 0
        assert page.last_signal_ns == START_NS


def test_what_a_restart_reads_again_does_not_grow_with_the_tape(
    folder: Path, followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 100)
    tape, rows, worker, again = new_tape(folder, segment_records=256), random_rows(8, 200), spec_in(folder), []
    for at in range(0, len(rows), 50):
        write_rows(tape, rows[at : at + 50])
        follower = followers.make(worker)
        again.append(sum(iter(follower.turn, 0)))
    assert len(again) > 50 and max(again) <= 100 + 50
    assert bodies_on_disk(folder / "talk.X") == derived(rows)


@pytest.mark.parametrize("is_gone", [False, True], ids=["damaged", "gone"])
def test_without_a_snapshot_that_counts_it_derives_again_from_where_it_began_and_not_from_now(
    folder: Path, followers: Followers, is_gone: bool
) -> None:
    """It began at another now, under the next numbers, and had forgotten what it held."""
    tape, rows, worker = new_tape(folder), random_rows(8, 20), spec_in(folder, from_start=False)
    write_rows(tape, rows[:50])
    run_out(followers.make(worker))
    write_rows(tape, rows[50:150])
    run_out(followers.make(worker))
    before = bodies_on_disk(folder / "talk.X")
    [only] = Path(worker.folder).glob("*.snapshot")
    if is_gone:
        only.unlink()
    else:
        only.write_bytes(only.read_bytes()[:-5])
    write_rows(tape, rows[150:])
    run_out(followers.make(worker))
    after = bodies_on_disk(folder / "talk.X")
    assert after[: len(before)] == before and len(after) > len(before) > 0
    [begun] = read_geneses(Path(worker.folder))
    assert after == rerun(worker, folder / "tape", begun, len(rows))


def test_with_a_damaged_snapshot_and_no_tape_from_where_it_began_it_halts(folder: Path, followers: Followers) -> None:
    tape, rows, worker = new_tape(folder, segment_records=32), random_rows(8, 20), spec_in(folder, from_start=False)
    write_rows(tape, rows[:50])
    run_out(followers.make(worker))
    write_rows(tape, rows[50:])
    [only] = Path(worker.folder).glob("*.snapshot")
    only.write_bytes(only.read_bytes()[:-5])
    tape.remove_before(96)
    with pytest.raises(
        CorruptRecordError, match=r"0050\.snapshot: expected a whole snapshot, or a tape from seq 50 on"
    ):
        followers.make(worker)
    assert only.exists(), "a person may mend it"
    only.unlink()
    run_out(followers.make(worker))
    assert [one.seq for one in read_geneses(Path(worker.folder))] == [50, len(rows)], "asked to, it begins anew"


@pytest.mark.parametrize("from_start", [False, True])
@pytest.mark.parametrize("between", ["", "11111111"], ids=["stopped for long", "another generation meanwhile"])
def test_behind_what_is_kept_a_generation_begins_anew_and_its_numbers_go_on(
    folder: Path, followers: Followers, from_start: bool, between: str
) -> None:
    tape, rows = new_tape(folder, segment_records=32), random_rows(1, 100)
    worker = spec_in(folder, from_start=from_start)
    write_rows(tape, rows[:130])
    follower = followers.make(worker)
    write_rows(tape, rows[130:150])
    run_out(follower)
    follower.stop()
    if between:
        run_out(followers.make(msgspec.structs.replace(worker, generation=between)))
    write_rows(tape, rows[150:300])
    tape.remove_before(224)
    follower = followers.make(worker)
    write_rows(tape, rows[300:])
    run_out(follower)
    signals = logged(Path(worker.folder) / "signals.log")
    numbers = [one.envelope.n for one in signals if one.envelope.generation == worker.generation]
    assert numbers == list(range(len(numbers)))
    assert signals[-1].envelope.seq >= 300


def test_the_status_names_the_lowest_seq_that_a_restart_may_need(folder: Path, followers: Followers) -> None:
    tape, rows, worker = new_tape(folder), random_rows(9, 10), spec_in(folder, from_start=False)
    write_rows(tape, rows[:50])
    follower = followers.make(worker)
    assert status_of(worker).snapshot_seq == 50
    for at in (60, 70):
        write_rows(tape, rows[at - 10 : at])
        run_out(follower)
        follower.stop()
        follower = followers.make(worker)
    assert snapshots(worker) == [60, 70]
    assert status_of(worker).snapshot_seq == 60


@pytest.mark.parametrize(("part", "first"), [(0.0, 40), (0.5, 30), (0.999, 20)])
def test_workers_that_began_together_take_their_first_snapshots_apart_and_then_one_in_so_many_records(
    folder: Path, followers: Followers, monkeypatch: pytest.MonkeyPatch, part: float, first: int
) -> None:
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 40)
    monkeypatch.setattr("strategy_runner.worker.follower.own_part", lambda: part)
    tape, rows, worker = new_tape(folder), random_rows(9, 40), spec_in(folder)
    follower = followers.make(worker)
    taken = []
    for at in range(120):
        write_rows(tape, rows[at : at + 1])
        run_out(follower)
        taken += [seq for seq in snapshots(worker) if seq > max(taken, default=0)]
    assert taken == list(range(first, 121, 40))


def test_a_worker_that_reads_little_of_a_busy_tape_still_moves_its_snapshot_on(
    folder: Path, followers: Followers
) -> None:
    """Or the tape would be kept for it for ever."""
    tape = new_tape(folder, segment_records=1 << 19)
    worker = worker_spec(folder, streams=("X/bar.1m",))
    write_rows(tape, minutes(0, 1))
    follower = followers.make(worker, strategy(Echo, worker))
    run_out(follower)
    tape.head.count = tape.head.durable = SNAPSHOT_SEQS + 5  # others' records, which it never looks at
    run_out(follower)
    follower.turn()
    assert snapshots(worker)[-1] == SNAPSHOT_SEQS + 5


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_strategys_fault_leaves_what_it_said_before_and_the_reason_in_its_status(
    folder: Path, followers: Followers
) -> None:
    rows = random_rows(10, 20)
    write_rows(new_tape(folder), rows)
    worker = spec_in(folder, params={"every": 3, "raise_at": 100})
    follower = followers.make(worker)
    with pytest.raises(StrategyError) as raised:
        run_out(follower)
    follower.fail(raised.value)
    said = bodies_on_disk(folder / "talk.X")
    assert said == derived(rows)[: len(said)]
    assert len(said) == 33
    status = status_of(worker)
    assert (status.state, status.reason, status.signals) == (State.FAILED, "StrategyError", 33)
    assert "RuntimeError: told to raise at record 100" in status.last_error


@pytest.mark.parametrize("streams", [("X/trade",), ("X/trade", "X/quote")])
def test_at_a_damaged_record_it_has_said_what_came_before_and_the_strategy_is_not_blamed(
    folder: Path, followers: Followers, streams: tuple[str, ...]
) -> None:
    """Wherever the record stands in what is read at once."""
    rows = random_rows(13, 100)
    write_rows(new_tape(folder), rows)
    path = files.segment_path(folder / "tape", 0)
    whole = path.read_bytes()
    trades = [seq for seq, (name, _, _) in enumerate(rows) if name == "X/trade"]
    heard = [seq for seq, (name, _, _) in enumerate(rows) if name in streams]
    worker = spec_in(folder, models=(), streams=streams)
    for number, seq in enumerate((trades[0], trades[5], trades[511], trades[512], trades[-1])):
        path.write_bytes(whole)
        worker = msgspec.structs.replace(worker, folder=str(folder / f"talk{number}.X"))
        follower = followers.make(worker, strategy(Echo, worker))
        content = bytearray(whole)
        content[seq * SIZE + 50] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptRecordError, match=rf"seq {seq}: expected crc") as raised:
            run_out(follower)
        follower.fail(raised.value)
        said = [signal.envelope.seq for signal in logged(Path(worker.folder) / "signals.log")]
        assert said == [at for at in heard if at < seq]
        assert status_of(worker).applying == 0


@pytest.mark.parametrize("streams", [("X/trade",), ("X/trade", "X/quote")])
def test_the_record_in_hand_is_on_the_status_page_and_in_the_envelope_while_many_are_read_at_once(
    folder: Path, followers: Followers, streams: tuple[str, ...]
) -> None:
    rows = random_rows(14, 100)
    tape = new_tape(folder)
    for number, row in enumerate(rows):
        tape.received_ns = START_NS + number
        write_rows(tape, [row], durable=False)
    tape.make_durable()
    worker = spec_in(folder, models=(), streams=streams)
    page = StatusFile(Path(worker.folder) / "status")
    in_hand: list[int] = []

    class Looks(Echo):
        def _hear(self, event: Event) -> None:
            in_hand.append(page.applying - 1)
            super()._hear(event)

    run_out(followers.make(worker, strategy(Looks, worker)))
    heard = [seq for seq, (name, _, _) in enumerate(rows) if name in streams]
    assert in_hand == heard
    assert page.applying == 0
    envelopes = [signal.envelope for signal in logged(Path(worker.folder) / "signals.log")]
    assert [(envelope.seq, envelope.received_ns) for envelope in envelopes] == [(seq, START_NS + seq) for seq in heard]


def test_a_tape_that_tells_another_story_is_a_divergence(folder: Path, followers: Followers) -> None:
    write_rows(new_tape(folder), random_rows(11, 5))
    run_out(followers.make(spec_in(folder)))
    for path in (folder / "tape").rglob("*"):
        path.unlink() if path.is_file() else None
    write_rows(new_tape(folder), random_rows(12, 5))
    with pytest.raises(DivergenceError):
        run_out(followers.make(spec_in(folder)))


def test_while_the_disk_is_full_it_reads_nothing_and_then_goes_on_without_a_gap(
    folder: Path, followers: Followers
) -> None:
    rows = random_rows(13, 40)
    tape, worker = new_tape(folder), spec_in(folder)
    write_rows(tape, rows[:100])
    follower = followers.make(worker)
    run_out(follower)
    write_rows(tape, rows[100:])
    said = len(bodies_on_disk(folder / "talk.X"))
    size = (folder / "talk.X" / "signals.log").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        assert follower.turn() > 0
        assert [follower.turn() for _ in range(3)] == [0, 0, 0]
        status = status_of(worker)
        assert "cannot write signals" in status.last_error
        assert status.position == 100, "what is not written was not said"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(bodies_on_disk(folder / "talk.X")) == said
    run_out(follower)
    assert bodies_on_disk(folder / "talk.X") == derived(rows)
    assert status_of(worker).last_error == ""
    assert status_of(worker).position == len(rows)


@pytest.mark.parametrize("at_once", [1, 10_000])
def test_silent_models_are_told_of_in_the_log(
    folder: Path, followers: Followers, caplog: pytest.LogCaptureFixture, at_once: int
) -> None:
    rows = [row for row in random_rows(14, 40) if row[0] != "X/prediction.m2.1m"]
    tape = new_tape(folder)
    follower = followers.make(spec_in(folder, params={"every": 1_000_000}))
    with caplog.at_level(logging.WARNING):
        for at in range(0, len(rows), at_once):
            write_rows(tape, rows[at : at + at_once], durable=False)
            run_out(follower)
    missing = [message for message in caplog.messages if message.startswith("model m2: prediction_missing")]
    assert len(missing) == 6
    assert missing[-1].endswith("no. 32 of this kind")


# -- states ------------------------------------------------------------------------------------------------------------


def test_its_states_are_catching_up_following_finished_and_following_again_when_the_feed_goes_on(
    folder: Path, followers: Followers
) -> None:
    tape, rows, worker = new_tape(folder), random_rows(15, 4), spec_in(folder)
    write_rows(tape, rows[:20])
    follower = followers.make(worker)
    seen = [status_of(worker).state]
    for finished in (False, True, False):
        tape.head.finished = finished
        run_out(follower)
        seen.append(status_of(worker).state)
    assert seen == [State.CATCHING_UP, State.FOLLOWING, State.FINISHED, State.FOLLOWING]
