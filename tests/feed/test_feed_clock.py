"""The feed's clock while the host's wall clock is set: it goes on evenly, and the step becomes a record."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from feed_process import FeedProcess, mock_spec

from strategy_runner.assembly import make_feed
from strategy_runner.bus.context import Context, new_context
from strategy_runner.bus.doorbell import StreamDoorbell
from strategy_runner.bus.frames import FramePublisher
from strategy_runner.feed import clock as feed_clock
from strategy_runner.feed.clock import FeedClock
from strategy_runner.feed.feed import Feed
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.model.record import Kind, Record
from strategy_runner.tape.status import StatusFile

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
NOW = 1_800_000_000 * SECOND
NEW_YEAR = 1_830_297_600 * SECOND  # 2028-01-01
STEPS = pytest.mark.parametrize(
    "step_ns", [HOUR, -HOUR, DAY, -DAY, SECOND, -SECOND], ids=["+1h", "-1h", "+1d", "-1d", "+1s", "-1s"]
)


class Host:
    """The two clocks of a host, in the test's hand."""

    def __init__(self, wall_ns: int = NOW, monotonic_ns: int = 12_345 * SECOND) -> None:
        self.wall_ns, self.monotonic_ns = wall_ns, monotonic_ns

    def pass_time(self, ns: int) -> None:
        self.wall_ns += ns
        self.monotonic_ns += ns

    def clock(self, offset_ns: int = 0, received_ns: int = 0) -> FeedClock:
        return FeedClock(offset_ns, received_ns, wall_ns=lambda: self.wall_ns, monotonic_ns=lambda: self.monotonic_ns)


def follow(host: Host, clock: FeedClock, ns: int, *, every_ns: int = SECOND // 10) -> list[int]:
    found = []
    for _ in range(ns // every_ns):
        host.pass_time(every_ns)
        found.append(clock.look())
    return found


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_undisturbed_it_is_the_wall_clock() -> None:
    host = Host()
    clock = host.clock()
    assert follow(host, clock, 10 * SECOND)[-1] == host.wall_ns
    assert clock.take_step_ns() == 0
    assert clock.offset_ns == NOW - 12_345 * SECOND


@STEPS
def test_a_step_moves_it_by_a_tenth_of_the_time_that_passes_and_never_back(step_ns: int) -> None:
    host = Host()
    clock = host.clock()
    follow(host, clock, SECOND)
    host.wall_ns += step_ns
    before_ns = clock.now_ns
    times = follow(host, clock, 60 * SECOND)
    assert times == sorted(times)
    assert abs(times[-1] - before_ns - 60 * SECOND) <= 6 * SECOND
    assert clock.take_step_ns() == step_ns
    assert clock.take_step_ns() == 0
    follow(host, clock, 11 * abs(step_ns), every_ns=max(SECOND, abs(step_ns) // 100))
    assert clock.look() == host.wall_ns, "in ten times as long as the step it is right again"


def test_a_clock_that_believed_its_host_at_once_would_make_every_record_an_hour_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_clock, "FOLLOWED_NS", 0)
    host = Host()
    clock = host.clock()
    before_ns = follow(host, clock, SECOND)[-1]
    host.wall_ns += HOUR
    assert clock.look() - before_ns >= HOUR


def test_a_step_that_is_taken_back_leaves_nothing_behind() -> None:
    host = Host()
    clock = host.clock()
    host.wall_ns += DAY
    follow(host, clock, SECOND)
    host.wall_ns -= DAY
    follow(host, clock, SECOND)
    assert clock.take_step_ns() == 0
    assert clock.now_ns == host.wall_ns


def test_a_host_that_began_in_1970_is_believed_when_somebody_sets_its_clock() -> None:
    host = Host(wall_ns=30 * SECOND, monotonic_ns=25 * SECOND)
    clock = host.clock()
    follow(host, clock, SECOND)
    host.wall_ns = NOW
    assert clock.look() == NOW
    assert clock.take_step_ns() == NOW - 31 * SECOND


def test_a_host_that_falls_back_to_1970_is_not_believed() -> None:
    host = Host()
    clock = host.clock()
    host.wall_ns = 0
    assert follow(host, clock, 100 * SECOND)[-1] == NOW + 100 * SECOND
    assert clock.take_step_ns() == -NOW


def test_a_smeared_leap_second_is_no_step() -> None:
    """A second more in a day: the wall clock goes slower by a 86,400th."""
    host = Host()
    clock = host.clock()
    for _ in range(86_400):
        host.monotonic_ns += SECOND
        host.wall_ns += SECOND - SECOND // 86_400
        clock.look()
    assert clock.take_step_ns() == 0
    assert abs(clock.now_ns - host.wall_ns) < SECOND // 1_000


def test_a_process_that_was_not_run_between_two_readings_sees_no_step() -> None:
    """The wall clock is read, a minute passes, the monotonic clock is read: that is no step of 60 s."""
    host = Host()
    late = [False]

    def monotonic_ns() -> int:
        if late[0]:
            late[0] = False
            host.pass_time(60 * SECOND)
        return host.monotonic_ns

    def wall_ns() -> int:
        return host.wall_ns

    clock = FeedClock(wall_ns=wall_ns, monotonic_ns=monotonic_ns)
    host.pass_time(SECOND)
    late[0] = True
    clock.look()
    assert clock.take_step_ns() == 0
    assert clock.now_ns == host.wall_ns


@STEPS
def test_the_next_process_of_the_boot_goes_on_with_the_same_clock(step_ns: int) -> None:
    host = Host()
    clock = host.clock()
    follow(host, clock, SECOND)
    received_ns, offset_ns = clock.now_ns, clock.offset_ns
    host.wall_ns += step_ns
    host.pass_time(5 * SECOND)
    assert host.clock(offset_ns, received_ns).now_ns == received_ns + 5 * SECOND


def test_an_offset_that_cannot_be_is_not_believed_and_time_does_not_go_back_for_it() -> None:
    host = Host()
    good = host.clock()
    assert host.clock(good.offset_ns ^ 1 << 60, NOW).now_ns == NOW
    assert host.clock(good.offset_ns ^ 1 << 60, NOW + HOUR).now_ns == NOW + HOUR
    assert host.clock(0, 0).now_ns == NOW


# -- a feed by that clock ----------------------------------------------------------------------------------------------


class Market:
    """A feed in this process whose time is in the test's hand, at 60 x real time."""

    def __init__(self, home: FeedProcess, context: Context, host: Host) -> None:
        self.host = host
        self._home = home
        folder = Path(home.spec.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._bells = (
            StreamDoorbell(home.spec.market.doorbell),
            FramePublisher(context, home.spec.market.frames),
        )
        self.feed = self.start()

    def start(self) -> Feed:
        head = self._home.reader().head if (self._home.tape / "head").exists() else None
        clock = self.host.clock(head.clock_offset_ns if head else 0)
        mock = self._home.spec.mock
        assert mock is not None
        status = StatusFile(self._home.status_path)
        self.feed = make_feed(self._home.spec, MockSource(mock, now_ns=0), mock.speed, *self._bells, status, clock)
        self.turns()
        return self.feed

    def turns(self) -> None:
        while self.feed.turn():
            pass

    def records(self) -> list[Record]:
        reader = self._home.reader()
        return [reader.record(seq) for seq in range(reader.head.count)]

    def pass_time(self, seconds: int) -> int:
        """How many records came in it."""
        before = len(self.records())
        for _ in range(seconds):
            self.host.pass_time(SECOND)
            self.turns()
        return len(self.records()) - before

    def close(self) -> None:
        self.feed.stop()
        for bell in self._bells:
            bell.close()


@pytest.fixture
def begin_ns(request: pytest.FixtureRequest) -> int:
    """What the host's wall clock says at first."""
    return getattr(request, "param", NOW)


@pytest.fixture
def market(begin_ns: int) -> Iterator[Market]:
    context = new_context()
    with FeedProcess(("BTC-USD/trade", "BTC-USD/clock.1s", "clock/1s"), mock=mock_spec(0, speed=60.0)) as home:
        opened = Market(home, context, Host(begin_ns))
        yield opened
        opened.close()
    context.destroy(linger=0)


@STEPS
def test_a_step_neither_floods_the_tape_nor_stalls_it_and_is_recorded(market: Market, step_ns: int) -> None:
    even = market.pass_time(5)
    market.host.wall_ns += step_ns
    assert market.pass_time(5) == pytest.approx(even, rel=0.2)
    market.feed.turn()
    times = [record.received_ns for record in market.records()]
    assert times == sorted(times)
    steps = [record for record in market.records() if record.kind == Kind.CLOCK_STEP]
    assert [record.v0 for record in steps] == [step_ns / SECOND]
    assert times[-1] - NOW <= 11 * SECOND


@pytest.mark.parametrize("begin_ns", [NEW_YEAR - 3 * SECOND], indirect=True)
def test_over_midnight_and_a_new_year_everything_goes_on(market: Market) -> None:
    even = market.pass_time(2)
    assert market.pass_time(2) == pytest.approx(even, rel=0.3)
    assert not [record for record in market.records() if record.kind == Kind.CLOCK_STEP]


def test_routers_read_the_clock_from_the_head(market: Market) -> None:
    market.pass_time(2)
    market.host.wall_ns -= HOUR
    market.pass_time(3)
    head = market._home.reader().head
    assert head.clock_offset_ns == market.feed._clock.offset_ns
    assert head.clock_offset_ns + market.host.monotonic_ns >= NOW + 4 * SECOND
    assert head.beat_ns == market.feed._clock.now_ns


def test_a_feed_that_is_started_again_after_a_step_goes_on_and_finds_its_tape_equal(market: Market) -> None:
    """The wall clock's ticks and its step are nobody's derivation: they are stepped over, and no tick comes twice."""
    market.pass_time(3)
    market.host.wall_ns += HOUR
    market.pass_time(3)
    for path in sorted(Path(market._home.spec.folder).glob("*.checkpoint"))[1:]:
        path.unlink()
    market.feed._stopping.set()  # as a killed one leaves it: nothing more is written
    market.feed._published.set()  # for which its thread sleeps
    market.feed._syncer.join()
    count = len(market.records())
    market.start()
    market.pass_time(3)
    records = market.records()
    assert len(records) > count
    times = [record.received_ns for record in records]
    assert times == sorted(times)
    ticks = {record.stream for record in records if record.kind == Kind.CLOCK}
    assert len(ticks) == 2
    for stream in ticks:
        own = [record.event_ns for record in records if record.stream == stream]
        assert own == sorted(set(own))
