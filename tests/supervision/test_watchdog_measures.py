"""What the watchdog measures: memory, processor, children, logs, progress along the tape, and silent markets."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_home import FleetHome, until
from watch import Watch, cpu_s, is_gone
from worker.processes import is_alive

from strategy_runner.config.spec import FeedSpec, LimitsSpec, MarketSpec, ModelProviderSpec, TapeSpec
from strategy_runner.model.record import SIZE
from strategy_runner.model.stream import bars, trades
from strategy_runner.supervision.conditions import read_conditions
from strategy_runner.supervision.watchdog.agent import TRY_AGAIN_S
from strategy_runner.supervision.watchdog.log_rotation import LogWatch, rotate
from strategy_runner.tape import files
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.tape.writer import TapeWriter

ROUND_S = 5.5
TWO_ROUNDS_S = 10.5


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    # what is measured here does not beat either
    watch = Watch(tmp_path, hang_s=3_000.0)
    yield watch
    watch.close()


# -- memory, processor -------------------------------------------------------------------------------------------------


def test_a_worker_over_its_memory_limit_is_killed_and_told_how_much_it_used(watch: Watch) -> None:
    limits = LimitsSpec(memory_limit_mb=32, cpu_limit=8.0)
    leaking = watch.worker("leaking", "leak", limits=limits)
    modest = watch.worker("modest", "silent", limits=limits)
    until(lambda: "bytes" in (watch.root / "leaking" / "status").read_bytes().decode(errors="replace"))
    watch.look()
    watch.pass_time(TWO_ROUNDS_S)
    until(lambda: is_gone(leaking))
    assert is_alive(modest)
    [action] = watch.actions()
    used, _, rest = action.reason.removeprefix("uses ").partition(" MB of memory, ")
    assert rest == "memory_limit_mb is 32" and 160 <= int(used) < 250


def test_a_worker_over_its_cpu_limit_runs_at_the_lowest_priority_until_it_is_calm(watch: Watch) -> None:
    busy = watch.worker("busy", "spin", limits=LimitsSpec(memory_limit_mb=1024, cpu_limit=0.001))
    watch.look()
    for _ in range(3):
        used_s = cpu_s(busy)
        until(lambda used_s=used_s: cpu_s(busy) > used_s + 0.05)  # type: ignore[misc]
        watch.pass_time(ROUND_S)
    assert os.sched_getscheduler(busy) == os.SCHED_IDLE
    assert watch.deeds() == [("acme:busy", "slowed")]
    reason = watch.conditions("acme:busy")["over cpu_limit"]
    assert reason.endswith("of a core, cpu_limit is 0.001: runs at the lowest priority")
    os.kill(busy, signal.SIGSTOP)  # calm
    watch.pass_time(90)
    assert watch.conditions("acme:busy") == {}
    assert watch.deeds()[-1] == ("acme:busy", "released")
    assert os.sched_getscheduler(busy) == os.SCHED_OTHER


# -- children ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["fork", "fork away"])
def test_a_worker_that_starts_a_process_is_ended_with_it(watch: Watch, behaviour: str) -> None:
    parent = watch.worker("parent", behaviour)
    child = int((watch.root / "parent" / "child").read_text())
    watch.look()
    watch.pass_time(ROUND_S)
    until(lambda: is_gone(parent) and is_gone(child))
    [action] = watch.actions()
    assert action.reason == f"started process {child} (sleep), which no strategy may"


def test_what_a_worker_left_behind_at_its_end_is_ended_at_once(watch: Watch) -> None:
    """It would hold the lock of the folder, and the worker could not begin anew."""
    parent = watch.worker("parent", "silent")
    watch.look()
    sleeper = os.fork()
    if sleeper == 0:
        os.setpgid(0, parent)
        os.execvp("sleep", ["sleep", "600"])
    until(lambda: os.getpgid(sleeper) == parent)
    os.kill(parent, signal.SIGKILL)
    # no time passes, so no round comes: it is told of the end, which may be a moment after others can see it
    until(lambda: watch.look() or is_gone(sleeper))
    os.waitpid(sleeper, 0)


# -- logs --------------------------------------------------------------------------------------------------------------


def test_a_log_over_its_limit_becomes_the_older_one_and_its_writer_goes_on(watch: Watch) -> None:
    watch.worker("talker", "silent")
    path = watch.root / "talker.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"first line\n" + b"x" * (1 << 20))
        watch.look()
        watch.pass_time(ROUND_S)
        log.write(b"next line\n")
    assert path.read_bytes() == b"next line\n"
    older = path.with_name("talker.log.1").read_bytes()
    assert older.startswith(b"first line\n") and len(older) == (1 << 20) + 11
    assert watch.deeds() == [("acme:talker", "rotated")]


def test_a_flooded_log_is_looked_at_each_time_and_shown_until_it_is_calm(watch: Watch) -> None:
    watch.worker("talker", "silent")
    path = watch.root / "talker.log"
    path.touch()
    watch.look()
    watch.pass_time(ROUND_S)
    most = 0
    with path.open("ab", buffering=0) as log:
        for _ in range(40):
            log.write(b"x" * (200 << 10))
            watch.pass_time(0.5)
            most = max(most, path.stat().st_size)
    assert watch.conditions("acme:talker")["floods"].startswith("floods its log: 0.")
    assert most <= 4 << 20, "five seconds of it before it is noticed, and then its limit"
    watch.pass_time(70)
    assert watch.conditions("acme:talker") == {}


def test_a_log_on_a_disk_that_takes_no_copy_is_cut_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "talker.log"
    path.write_bytes(b"x" * (2 << 20))
    (tmp_path / "talker.log.new").mkdir()  # no file can be written there
    watched = LogWatch(path, 1.0)
    with pytest.raises(OSError):
        watched.look(1.0)
    assert path.stat().st_size == 0
    (tmp_path / "talker.log.new").rmdir()
    path.write_bytes(b"again")
    assert rotate(path) == 5


# -- the tape ----------------------------------------------------------------------------------------------------------


class Market:
    """A tape that the test writes, and the status page of its feed."""

    def __init__(self, watch: Watch) -> None:
        folder = watch.root / "feed"
        market = MarketSpec(tape=str(watch.root / "tape"), doorbell="", frames="")
        spec = FeedSpec(
            mode="mock",
            streams=("X/trade", "Y/trade", "Z/bar.1h"),
            mock=None,
            replay=None,
            models=ModelProviderSpec(provider="mock", seed=1),
            tape=TapeSpec(
                segment_records=64, durable_interval_ms=5.0, retention_hours=1.0, retention_gb=1.0, reserve_mb=1
            ),
            market=market,
            beat_interval_s=1.0,
            readers=(),
            folder=str(folder),
            log=str(watch.root / "feed.log"),
            log_level="info",
        )
        self.writer = TapeWriter(Path(market.tape), segment_records=64)
        self.streams = {one.symbol: self.writer.stream_id(one) for one in (trades("X"), trades("Y"), bars("Z", "1h"))}
        self.page = StatusFile(folder / "status")
        self.page.enter(State.FOLLOWING)
        watch.write("market/feed", spec)

    def put(self, symbol: str, age_s: float, *, beat_age_s: float = 0.0) -> None:
        now_ns = time.time_ns()
        self.writer.received_ns = now_ns - int(age_s * 1e9)
        self.writer.append(self.streams[symbol], self.writer.received_ns, 1.0, 1.0, 1.0, 1.0, 1.0)
        self.writer.publish()
        self.writer.head.beat_ns = now_ns - int(beat_age_s * 1e9)
        self.writer.head.event_ns = now_ns


def test_a_symbol_without_records_is_stale_until_the_next_and_the_others_are_not(watch: Watch) -> None:
    market = Market(watch)
    market.put("X", 70)
    market.put("Z", 70)  # bars of an hour
    market.put("Y", 1)
    watch.look()
    watch.pass_time(3)
    [stale] = read_conditions(watch.root / "monitor")["market:feed"]
    assert (stale.kind, stale.subject, stale.reason) == ("stale", "X", "X: no trade, quote or bar")
    assert 70 <= (time.time_ns() - stale.since_ns) / 1e9 < 90, "since its last record, not since the look"
    market.put("X", 0)
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {}


def test_silence_out_of_hours_is_no_fault(tmp_path: Path) -> None:
    watch = Watch(tmp_path, trading_hours=dict.fromkeys("XYZ", "equity"))
    market = Market(watch)
    market.put("X", 70)
    sunday_ns = 1_767_520_800_000_000_000  # 2026-01-04 10:00 UTC
    market.writer.head.event_ns = sunday_ns
    watch.look()
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {}
    market.writer.head.event_ns = sunday_ns + 29 * 3_600_000_000_000  # Monday, 10:00 in New York
    watch.pass_time(3)
    stale = read_conditions(watch.root / "monitor")["market:feed"]
    assert [one.subject for one in stale] == ["X", "Y"]
    watch.close()


def test_a_silent_feed_is_named_alone_and_one_that_says_why_it_halts_is_not_named(watch: Watch) -> None:
    market = Market(watch)
    market.put("X", 70, beat_age_s=6)
    watch.look()
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {"stale": "the feed is silent"}
    market.page.enter(State.HALTED, "disk full")
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {}


def test_a_tape_that_a_power_cut_left_is_not_looked_at_before_its_feed_has_recovered_it(watch: Watch) -> None:
    """Its indexes may be anything; the watchdog fell over them, and with it its word on everybody else."""
    market = Market(watch)
    market.put("X", 70)
    market.put("Y", 1)
    head = market.writer.head
    this = head.boot
    counts = files.counts_path(market.writer.folder)
    whole = counts.read_bytes()
    head.boot = 1
    counts.write_bytes(b"\x07" * len(whole))
    watch.look()
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {}
    counts.write_bytes(whole)
    head.boot = this
    watch.pass_time(3)
    assert watch.conditions("market:feed") == {"stale": "X: no trade, quote or bar"}


def test_damage_of_the_tape_does_not_end_the_watchdog(tmp_path: Path) -> None:
    watch = Watch(tmp_path, hang_s=5.0)
    market = Market(watch)
    market.put("X", 70)
    market.put("X", 70)
    segment = files.segment_path(market.writer.folder, 0)
    with segment.open("r+b") as file:
        file.seek(SIZE + 20)
        file.write(b"\xff")
    silent = watch.worker("silent", "silent")
    watch.look()
    watch.pass_time(6)
    until(lambda: is_gone(silent))
    assert watch.deeds() == [("acme:silent", "killed")]
    watch.close()


def test_a_worker_that_beats_and_reads_nothing_is_ended_unless_it_says_why(tmp_path: Path) -> None:
    watch = Watch(tmp_path, hang_s=3.0)
    market = Market(watch)
    for _ in range(500):
        market.put("X", 0)
    deaf, blocked = watch.worker("deaf", "beat"), watch.worker("blocked", "beat with a word")
    watch.look()
    watch.pass_time_with_beats(20, "deaf", "blocked")
    assert watch.deeds() == [], "both have read all that there is"
    market.put("X", 0)
    watch.pass_time_with_beats(15, "deaf", "blocked")
    assert watch.deeds() == [] and is_alive(deaf)
    watch.pass_time_with_beats(TWO_ROUNDS_S, "blocked")
    until(lambda: is_gone(deaf))
    assert is_alive(blocked)
    [action] = watch.actions()
    assert action.name == "acme:deaf" and action.reason.endswith(": stands at seq 500, the tape at 501")
    assert watch.conditions("acme:blocked") == {"blocked": "no space left on device"}
    watch.close()


# -- given up by supervisord -------------------------------------------------------------------------------------------


def test_the_feed_is_tried_again_where_supervisord_gave_up_and_a_worker_is_not(
    fleet: FleetHome, tmp_path: Path
) -> None:
    feed = fleet.program("feed", "crash", group="market", kind="feed", startsecs=1, startretries=0)
    fleet.start(feed, fleet.program("dip", "crash", group="acme", startsecs=1, startretries=0))
    fleet.await_started("feed", "dip")
    fleet.await_state("feed", "FATAL")
    fleet.await_state("dip", "FATAL")
    watch = Watch(tmp_path, home=str(fleet.root))
    watch.add("dip")
    Market(watch)
    watch.pass_time(TWO_ROUNDS_S)
    for name in ("market:feed", "acme:dip"):
        assert watch.conditions(name)["given up"].startswith("supervisord gave it up: Exited too quickly")
    assert watch.deeds() == []
    watch.pass_time(TRY_AGAIN_S)
    assert watch.deeds() == [("market:feed", "tried again")]
    assert set(fleet.await_started("feed")) == {"feed"}
    fleet.await_state("feed", "FATAL")
    watch.pass_time(TRY_AGAIN_S / 2)
    assert len(watch.deeds()) == 1, "not at once"
    watch.pass_time(TRY_AGAIN_S)
    assert watch.deeds() == [("market:feed", "tried again")] * 2
    watch.close()
