"""What is too old is recorded and not traded; while the market data is silent nobody enters, and everybody may leave."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from router.desk import Desk, KeepingSink, Talker, body_of, refusals, router_spec
from worker.build import START_NS, new_tape, write_rows
from worker.processes import await_that

from strategy_runner.config.spec import FreshnessSpec
from strategy_runner.model.signal import decode_body
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.market import Market
from strategy_runner.sinks.quantconnect import QuantConnectSink
from strategy_runner.sinks.quantconnect_row import csv_row
from strategy_runner.tape import files
from strategy_runner.tape.writer import TapeWriter

S_NS = 1_000_000_000
HOUR_NS = 3_600 * S_NS
TALK = "talk.X"
LIMITS = FreshnessSpec(time_to_live_s=60.0, feed_stale_after_s=5.0, symbol_stale_after_s=60.0, asset_class="crypto")
# Tuesday noon, and Saturday, in New York
OPEN_NS, CLOSED_NS = 1_767_718_800 * S_NS, 1_768_064_400 * S_NS


class Stall:
    """A tape whose clock is in the test's hand, and a desk of one worker beside it."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.root = root
        self.tape: TapeWriter = new_tape(root)
        self.now_ns = START_NS
        self.beat()
        self.limits = msgspec.structs.replace(LIMITS, **limits)
        self.trade()
        self.talker = Talker(root, TALK)
        self.desk = Desk(root, TALK, freshness={TALK: self.limits})

    def pass_s(self, seconds: float, *, beat: bool = True) -> None:
        self.now_ns += int(seconds * S_NS)
        self._set_clock()
        if beat:
            self.beat()

    def beat(self) -> None:
        self._set_clock()
        self.tape.head.beat_ns = self.now_ns

    def trade(self, event_ns: int = START_NS) -> None:
        self.tape.received_ns = self.now_ns
        write_rows(self.tape, [("X/trade", event_ns, (100.0, 1.0, 1.0))])

    def say(self, age_s: float = 0.0, **changes: Any) -> str:
        return self.talker.say(received_ns=self.now_ns - int(age_s * S_NS), **changes)

    def close_position(self, side: str = "long", size: float = 1.0) -> str:
        return self.say(action="close", size=size, reasons=("enough", f"closes:{side}"))

    def rulings(self) -> list[tuple[str, str]]:
        self.desk.decide()
        return refusals(self.desk.decisions())

    def _set_clock(self) -> None:
        self.tape.head.clock_offset_ns = self.now_ns - time.monotonic_ns()


Make = Callable[..., Stall]


@pytest.fixture
def stall(root: Path) -> Iterator[Make]:
    made: list[Stall] = []

    def make(**limits: Any) -> Stall:
        made.append(Stall(root, **limits))
        return made[-1]

    yield make
    for one in made:
        one.desk.close()
        one.tape.close()


# -- late --------------------------------------------------------------------------------------------------------------


def test_a_signal_older_than_its_time_to_live_is_recorded_with_its_age_and_not_accepted(stall: Make) -> None:
    one = stall()
    said = [one.say(age_s=59.0), one.say(age_s=61.0), one.say()]
    assert one.rulings() == [("accepted", ""), ("expired", "late"), ("accepted", "")]
    decisions = one.desk.decisions()
    assert [decision.signal_id for decision in decisions] == said
    assert decisions[1].limit_ns == 60 * S_NS
    assert 61 * S_NS <= decisions[1].age_ns < 62 * S_NS
    assert (decisions[0].age_ns, decisions[0].limit_ns) == (0, 0)
    assert (one.desk.status.signals, one.desk.status.refusals) == (3, 1)


def test_what_the_worker_refused_keeps_its_own_reason_however_old(stall: Make) -> None:
    one = stall()
    one.say(age_s=600.0, refusal="no_price", size=None)
    assert one.rulings() == [("refused", "no_price")]


def test_without_limits_or_without_a_feeds_time_nothing_is_late(stall: Make, root: Path) -> None:
    one = stall()
    one.talker.say(received_ns=0)
    assert one.rulings() == [("accepted", "")]
    one.desk.router.stop()
    one.desk.spec = router_spec(root, (TALK,))
    one.desk.restart()
    one.say(age_s=600.0)
    assert one.rulings() == [("accepted", "")] * 2


def test_a_reloaded_time_to_live_holds_from_then_on(stall: Make, root: Path) -> None:
    one = stall()
    one.say(age_s=90.0)
    assert one.rulings() == [("expired", "late")]
    longer = msgspec.structs.replace(one.limits, time_to_live_s=120.0)
    one.desk.router.reload(router_spec(root, (TALK,), freshness={TALK: longer}))
    one.say(age_s=90.0)
    assert one.rulings()[1:] == [("accepted", "")]


@pytest.mark.parametrize("step_ns", [-HOUR_NS, HOUR_NS], ids=["back", "forward"])
def test_a_wall_clock_that_is_an_hour_off_expires_nothing_and_revives_nothing(stall: Make, step_ns: int) -> None:
    """The feed's clock differs from the wall clock by the step; ages are told by the feed's alone."""
    one = stall()
    one.now_ns = time.time_ns() - step_ns
    one.beat()
    one.trade()
    one.say(age_s=1.0)
    one.say(age_s=61.0)
    assert one.rulings() == [("accepted", ""), ("expired", "late")]


def test_a_worker_that_catches_up_after_ten_minutes_trades_nothing_older_than_its_time_to_live(
    stall: Make, root: Path
) -> None:
    one = stall()
    letters: list[object] = []
    sink = QuantConnectSink(root / "quantconnect", "acme", letters.append)
    keeping = KeepingSink()
    journal = decision_log(root / "router")
    one.desk.restart(
        Delivery("csv", lambda: sink, journal, pause_s=0.0), Delivery("all", keeping.open, journal, pause_s=0.0)
    )
    said = [one.say(age_s=age_s + 0.5) for age_s in range(600, -1, -5)]
    one.desk.decide()
    await_that(lambda: len(keeping.kept) == len(said), "every decision in the sink that records all")
    one.desk.router.stop()
    ages = [one.now_ns - decision.envelope.received_ns for decision in keeping.kept]
    accepted = [age for age, decision in zip(ages, keeping.kept, strict=True) if decision.verdict == "accepted"]
    assert [decision.signal_id for decision in keeping.kept] == said
    assert max(accepted) <= 60 * S_NS
    assert len(accepted) == 12
    assert {decision.reason for decision in keeping.kept if decision.verdict != "accepted"} == {"late"}
    (csv,) = (root / "quantconnect" / "signals" / "acme").glob("*.csv")
    traded = [line.split(",")[1] for line in csv.read_text().splitlines()[1:]]
    assert traded == said[-12:]
    assert letters == []


def test_without_a_time_to_live_it_would_trade_what_is_ten_minutes_old(stall: Make) -> None:
    one = stall(time_to_live_s=1e9)
    one.say(age_s=600.0)
    assert one.rulings() == [("accepted", "")]


# -- silence -----------------------------------------------------------------------------------------------------------


def test_while_the_feed_is_silent_entries_are_refused_exits_pass_and_it_ends_with_the_next_beat(stall: Make) -> None:
    one = stall()
    one.say(size=1.0)
    assert one.rulings() == [("accepted", "")]
    one.pass_s(6.0, beat=False)
    one.say(size=2.0)
    one.close_position()
    assert one.rulings()[1:] == [("refused", "feed_stale"), ("accepted", "")]
    assert one.desk.status.reason.startswith("feed stale for 6 s")
    refused = one.desk.decisions()[1]
    assert (refused.age_ns // S_NS, refused.limit_ns) == (6, 5 * S_NS)
    one.beat()
    one.say(size=1.0)
    assert one.rulings()[3:] == [("accepted", "")]
    assert one.desk.status.reason == ""


def test_an_opposite_signal_no_larger_than_the_position_is_an_exit_and_a_larger_one_is_not(stall: Make) -> None:
    one = stall()
    one.say(size=3.0)
    one.rulings()
    one.pass_s(6.0, beat=False)
    for action, size in (("sell", 1.0), ("buy", 1.0), ("sell", 3.5), ("sell", 2.0), ("sell", 0.1)):
        one.say(action=action, size=size)
    assert one.rulings()[1:] == [
        ("accepted", ""),
        ("refused", "feed_stale"),
        ("refused", "feed_stale"),
        ("accepted", ""),
        ("refused", "feed_stale"),
    ]


def test_a_silent_symbol_refuses_entries_and_not_exits(stall: Make) -> None:
    one = stall()
    one.say(size=1.0)
    one.rulings()
    one.pass_s(61.0)
    one.say(size=1.0)
    one.close_position(size=2.0)
    assert one.rulings()[1:] == [("refused", "symbol_stale"), ("accepted", "")]
    refused = one.desk.decisions()[1]
    assert (refused.age_ns // S_NS, refused.limit_ns) == (61, 60 * S_NS)
    one.trade()
    one.say(size=1.0)
    assert one.rulings()[3:] == [("accepted", "")]


@pytest.mark.parametrize("stream", ["X/quote", "X/bar.1m"])
def test_any_market_data_of_the_symbol_is_a_sign_of_life_and_that_of_another_is_not(stall: Make, stream: str) -> None:
    one = stall()
    one.pass_s(61.0)
    one.tape.received_ns = one.now_ns
    write_rows(one.tape, [("Y/trade", START_NS, (1.0, 1.0, 1.0)), ("X/prediction.m.1m", START_NS, (0.5, 0.5))])
    one.say()
    assert one.rulings() == [("refused", "symbol_stale")]
    write_rows(one.tape, [(stream, START_NS, (1.0, 1.0, 1.0, 1.0, 1.0))])
    one.say()
    assert one.rulings()[1:] == [("accepted", "")]


@pytest.mark.parametrize(
    ("event_ns", "expected"),
    [
        (OPEN_NS, ("refused", "symbol_stale")),
        (CLOSED_NS, ("accepted", "")),
        (1_767_709_800 * S_NS + 30 * S_NS, ("accepted", "")),
    ],
    ids=["open", "closed", "just opened"],
)
def test_silence_counts_only_in_a_market_that_has_been_open_for_as_long(
    stall: Make, event_ns: int, expected: tuple[str, str]
) -> None:
    """By event time: a mock market's days pass faster than ours."""
    one = stall(asset_class="equity")
    one.trade(event_ns - 60 * S_NS)
    one.pass_s(61.0)
    one.say(cause=msgspec.structs.replace(body_of(TALK, 0).cause, event_ns=event_ns))
    assert one.rulings() == [expected]


def test_a_symbol_of_which_the_tape_carries_no_market_data_is_not_judged_by_it(stall: Make, root: Path) -> None:
    one = stall()
    talker = Talker(root, "talk.Z")
    both = {TALK: one.limits, "talk.Z": one.limits}
    one.desk.router.reload(router_spec(root, both, freshness=both))
    one.pass_s(61.0)
    talker.say(received_ns=one.now_ns)
    assert one.rulings() == [("accepted", "")]


def test_a_symbol_of_which_retention_has_left_nothing_has_been_silent_since_and_has_no_price(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index may be gone to the last entry."""
    monkeypatch.setattr(files, "INDEX_ENTRIES", 64)
    tape = new_tape(root, segment_records=64)
    for number in range(64):
        write_rows(tape, [("X/trade", number, (100.0, 1.0, 1.0))])
    tape.received_ns = 5
    for number in range(65):
        write_rows(tape, [("Y/trade", number, (100.0, 1.0, 1.0))])
    assert tape.remove_before(64) == 1
    market = Market(root / "tape")
    assert (market.price("X"), market.price("Y")) == (None, 100.0)
    assert (market.silence_ns("X") or 0) > S_NS


# -- exits of what was never entered -----------------------------------------------------------------------------------


def test_an_exit_of_what_was_never_entered_is_refused_whatever_it_is_called(stall: Make) -> None:
    one = stall()
    one.say(age_s=61.0, size=1.0)
    one.close_position()
    one.say(age_s=61.0, action="sell", size=2.0)
    one.say(action="buy", size=2.0)
    one.say(size=1.0)
    one.close_position()
    late, never, accepted = ("expired", "late"), ("refused", "never_entered"), ("accepted", "")
    assert one.rulings() == [late, never, late, never, accepted, accepted]


@pytest.mark.parametrize("action", ["close", "sell"])
@pytest.mark.parametrize("noted", [None, False, True], ids=["at once", "from the decisions", "from the note"])
def test_no_more_of_an_exit_is_let_through_than_was_let_in(stall: Make, action: str, noted: bool | None) -> None:
    """Of a worker that believes to hold both of its entries, of which one came too late."""
    one = stall()
    one.say(size=1.5)
    one.say(age_s=61.0, size=2.0)
    exits = {"action": action, "reasons": ("closes:long",)}
    partial, rest = one.say(size=0.5, **exits), one.say(size=3.0, **exits)
    again = one.say(size=1.0)
    late, accepted = ("expired", "late"), ("accepted", "")
    assert one.rulings() == [accepted, late, accepted, accepted, accepted]
    assert let_through(one) == {partial: "0.5", rest: "1", again: "1"}
    if noted is not None:
        if noted:
            one.desk.router.stop()
        one.desk.restart()
    one.pass_s(6.0, beat=False)
    one.say(size=1.0, **exits)
    one.say(size=1.0)
    assert one.rulings()[5:] == [accepted, ("refused", "feed_stale")]


def let_through(one: Stall) -> dict[str, str]:
    """The quantities of QuantConnect's rows, but of the first, by signal."""
    accepted = [decision for decision in one.desk.decisions() if decision.verdict == "accepted"]
    rows = [csv_row(decision, decode_body(decision.body)).rest.split(",") for decision in accepted[1:]]
    return {row[0]: row[4] for row in rows}


def test_what_floats_sum_up_to_is_left_whole_and_by_exits_alone(stall: Make) -> None:
    one = stall()
    for _ in range(10):
        one.say(size=0.1)
    one.rulings()
    one.pass_s(6.0, beat=False)
    one.say(action="sell", size=1.0)
    one.say(size=0.1)
    assert one.rulings()[10:] == [("accepted", ""), ("refused", "feed_stale")]


@pytest.mark.parametrize("noted", [False, True], ids=["from the decisions", "from the note"])
def test_a_restarted_router_knows_what_each_worker_holds(stall: Make, noted: bool) -> None:
    one = stall()
    one.say(size=2.0)
    one.rulings()
    if noted:
        one.desk.router.stop()
    one.desk.restart()
    one.pass_s(6.0, beat=False)
    one.say(action="sell", size=1.0)
    one.say(action="sell", size=1.5)
    assert one.rulings()[1:] == [("accepted", ""), ("refused", "feed_stale")]


def test_new_code_begins_without_a_position(stall: Make, root: Path) -> None:
    one = stall()
    one.say(size=2.0)
    one.rulings()
    one.talker = Talker(root, TALK, generation="00c0ffee")
    one.pass_s(6.0, beat=False)
    one.say(action="sell", size=1.0)
    assert one.rulings()[1:] == [("refused", "feed_stale")]
