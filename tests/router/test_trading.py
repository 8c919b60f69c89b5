"""A client that trades: what risk lets through, what stops it, and what survives."""

import errno
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oms.venue import VenueBackend
from router.desk import CLIENT, Talker
from router.own_venue import OwnVenue, venue_in
from router.trade import SECOND, TALK, D, Floor, Make, floors_in, freshness, instrument, trading_spec
from worker.build import START_NS, short_folder
from worker.processes import await_that

from strategy_runner.config.schema import RiskConfig, SizingConfig
from strategy_runner.config.spec import SizingSpec
from strategy_runner.model.order import OrderReport, OrderState, client_order_id
from strategy_runner.model.position import Position
from strategy_runner.model.signal import Cause, OrderTerms, decode_body
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.risk.state import RiskState, encode_state
from strategy_runner.router import desk, hand, trading
from strategy_runner.router.order_entry import Flattened, Scope
from strategy_runner.router.order_journal import order_log, read_orders
from strategy_runner.router.reconciliation import read_reconciliation
from strategy_runner.router.risk_record import decode_turn, read_risk, risk_log
from strategy_runner.sinks.quantconnect import QuantConnectSink
from strategy_runner.tape.logs import START, AppendLog, read_log


@pytest.fixture
def venue(root: Path) -> Iterator[OwnVenue]:
    with venue_in(root, fills=True) as made:
        yield made


@pytest.fixture
def floor(root: Path, venue: OwnVenue) -> Iterator[Make]:
    with floors_in(root) as make:
        yield make


DAY_NS = 86_400 * SECOND


def state_of(one: Floor) -> RiskState:
    return one.trading.record.state


def open_breakers(one: Floor) -> set[tuple[str, str]]:
    return {(latch.breaker, latch.symbol) for latch in state_of(one).latches}


def held(one: Floor, worker: str = TALK) -> Any:
    book = state_of(one).books.get(worker.replace(".", "/", 1))
    return 0 if book is None else book.quantity


def buy(one: Floor, size: float = 1.0, worker: str = TALK) -> None:
    before = held(one, worker)
    one.say(worker, size=size)
    one.turn_until(lambda: held(one, worker) > before, "a fill")


# -- breakers ----------------------------------------------------------------------------------------------------------


def test_a_loss_opens_its_breaker_without_a_signal_and_an_exit_still_passes(floor: Make) -> None:
    one = floor(risk=RiskConfig(max_daily_loss=50.0))
    buy(one, 10.0)
    one.trade("X", 94.0)
    one.trading._next_mark = 0.0
    one.turn_until(lambda: ("daily_loss", "") in open_breakers(one), "the breaker")
    one.say(size=1.0)
    one.say(action="sell", size=10.0)
    assert [(order.verdict, order.reason) for order in one.decided(3)[1:]] == [
        ("refused", "breaker_daily_loss"),
        ("accepted", ""),
    ]
    (leg,) = one.decisions()[-1].orders
    assert (leg.leg, leg.reduce_only) == ("exit", True)
    one.turn_until(lambda: held(one) == 0, "flat")


def test_days_are_those_of_the_tape_also_where_the_router_was_there_first(floor: Make) -> None:
    one = floor(price=None, risk=RiskConfig(max_daily_loss=50.0))
    one.turn_until(one.trading.desk.reconciled.is_set, "an answer of the OMS")
    one.trade("X", 100.0)
    begun = datetime.fromtimestamp(START_NS // SECOND, UTC).date().toordinal()
    one.turn_until(lambda: state_of(one).day == begun, "the first day")
    buy(one, 10.0)
    one.at_ns += DAY_NS
    one.trade("X", 104.0)
    one.trading._next_mark = 0.0
    one.turn_until(lambda: state_of(one).day == begun + 1, "the next day")
    assert state_of(one).day_start_equity == state_of(one).equity == D("100039.99")


def test_what_was_filled_while_no_router_ran_is_not_held_at_the_prices_of_now(root: Path) -> None:
    with venue_in(root) as quiet:
        one = Floor(root, risk=RiskConfig(max_daily_loss=150.0, max_drawdown=0.001))
        try:
            one.start()
            one.say(size=10.0, stop_loss=95.0)
            entry, stop = (order.client_order_id for order in one.decided(1)[0].orders)
            one.turn_until(lambda: stop in quiet.placed, "the bracket at the venue")
            quiet.fill(entry)
            one.turn_until(lambda: held(one) == 10, "the entry's fill")
            one.kill()
            quiet.backend.price = D(95)
            quiet.fill(stop)
            one.at_ns += DAY_NS
            one.trade("X", 80.0)  # at which ten would have lost 200, on a day before they were sold
            one.start()
            one.turn_until(lambda: held(one) == 0, "the stop's fill")
            one.turn_until(lambda: one.trading._next_mark, "a look at the prices")
            state = state_of(one)
            assert (state.equity, state.day_start_equity, state.latches) == (D("99949.98"), D("99949.98"), [])
        finally:
            one.close()


def test_what_risk_knows_survives_a_kill_to_the_byte(floor: Make) -> None:
    one = floor(risk=RiskConfig(max_drawdown=0.05, runaway_signals=3, runaway_window_s=60.0))
    buy(one, 100.0)
    for price in (300.0, 150.0):
        one.trade("X", price)
        one.trading._next_mark = 0.0
        one.turn_until(lambda: one.trading._next_mark > 0.0, "a look at the price")
    assert ("drawdown", "") in open_breakers(one)
    peak, latches = state_of(one).peak_equity, list(state_of(one).latches)
    assert peak > 119_000
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    assert (state_of(one).peak_equity, state_of(one).latches) == (peak, latches)
    one.say()
    assert one.decided(2)[-1].reason == "breaker_drawdown"


def test_a_price_that_comes_after_a_fill_comes_after_it_again(floor: Make) -> None:
    one = floor(risk=RiskConfig(max_daily_loss=50.0))
    one.say(size=10.0)
    one.decided(1)
    await_that(one.fills, "a fill")
    record = one.trading.record
    await_that(lambda: record.follow() or held(one) == 10, "the fill in the risk state")
    record.mark(1, "X", D(90))
    assert ("daily_loss", "") in open_breakers(one)
    record.keep()
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    assert ("daily_loss", "") in open_breakers(one)


def test_what_an_observed_worker_has_signalled_is_routed_nowhere_though_a_trading_router_comes_to_it(
    floor: Make, venue: OwnVenue
) -> None:
    """Its own router was stopped before."""
    one = floor(TALK, "walk.X")
    one.talkers["walk.X"] = Talker(one.root, "walk.X", is_observed=True)
    one.say("walk.X", size=3.0)
    buy(one)
    told = {decode_body(one.body).strategy: (one.verdict, one.is_observed, len(one.orders)) for one in one.decisions()}
    assert told == {"walk": ("accepted", True, 0), "talk": ("accepted", False, 1)}
    assert len(venue.placed) == 1
    assert "walk/X" not in state_of(one).books


def test_signals_that_come_too_late_to_be_traded_are_no_runaway(floor: Make) -> None:
    one = floor(risk=RiskConfig(runaway_signals=3, runaway_window_s=60.0), freshness={TALK: freshness()})
    for _ in range(10):
        one.say(received_ns=START_NS - 3_600 * SECOND)  # as after a long stop
    one.decided(10)
    one.say()
    one.decided(11)
    assert one.rulings() == [("expired", "late")] * 10 + [("accepted", "")]
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.kill()
    one.start()
    for _ in range(3):
        one.say()
    one.decided(14)
    assert [reason for _, reason in one.rulings()[11:]] == ["", "", "breaker_runaway"]


def test_a_runaway_is_stopped_at_its_count_and_others_trade_on(floor: Make) -> None:
    one = floor(TALK, "calm.Y", risk=RiskConfig(runaway_signals=5, runaway_window_s=60.0))
    for _ in range(2_000):
        one.say(size=1.0)
    one.say("calm.Y", size=1.0)
    decisions = one.decided(2_001)
    mad = [decision for decision in decisions if ":talk.X" in decision.signal_id]
    assert [decision.verdict for decision in mad[:5]] == ["accepted"] * 5
    assert {decision.reason for decision in mad[5:]} == {"breaker_runaway"}
    assert next(one for one in decisions if ":calm.Y" in one.signal_id).verdict == "accepted"


def test_a_size_a_thousand_times_too_large_is_refused(floor: Make) -> None:
    one = floor(risk=RiskConfig(max_position_notional=10_000.0))
    one.say(size=1_000.0)
    one.say(size=1e300)
    one.say(size=10.0)
    reasons = [decision.reason for decision in one.decided(3)]
    assert reasons == ["position_notional_above_limit", "size_beyond_counting", ""]


@pytest.mark.parametrize(
    ("absurd", "reason"),
    [
        ({"take_profit": 1e30}, "off_tick"),
        ({"stop_loss": 1e-300}, "order_not_positive"),
        ({"terms": OrderTerms(limit_price=1e40)}, "off_tick"),
        ({"terms": OrderTerms(trail=1.7e308), "stop_loss": 95.0}, "off_tick"),
        ({"size": 1e30}, "size_beyond_counting"),
        ({"size": 1e-300}, "size_below_lot"),
    ],
    ids=str,
)
def test_an_absurd_number_that_a_worker_let_pass_is_refused_and_others_are_decided(
    floor: Make, absurd: dict[str, Any], reason: str
) -> None:
    one = floor()
    one.say(**{"size": 1.0, **absurd})
    one.say(size=1.0)
    assert [decision.reason for decision in one.decided(2)] == [reason, ""]


def test_nobody_loses_to_a_size_that_cannot_be_counted(floor: Make) -> None:
    one = floor(TALK, "calm.X", risk=RiskConfig(aggregation="net"))
    one.say(size=1e30)
    one.say("calm.X", size=1.0, action="sell")
    assert {decision.reason for decision in one.decided(2)} == {"size_beyond_counting", ""}


def test_risk_that_is_noted_can_be_read_by_others_and_is_this_clients_alone(floor: Make) -> None:
    one = floor()
    buy(one, 2.0)
    one.stop()
    noted = read_risk(one.root / "router", CLIENT, "mock")
    assert noted is not None and encode_state(noted) == encode_state(state_of(one))


def test_only_crypto_is_entered_at_the_weekend_and_everything_may_be_left(floor: Make) -> None:
    saturday = START_NS // DAY_NS * DAY_NS + 4 * DAY_NS + 15 * 3_600 * SECOND  # START_NS is a Tuesday
    calendars = ("crypto", "fx", "equity", "commodity")
    workers = [f"talk.{name}" for name in calendars]
    one = floor(*workers, instruments={name: instrument(name, asset_class=name) for name in calendars})
    for worker in workers:
        symbol = worker.partition(".")[2]
        for at_ns in (START_NS, saturday):  # Tuesday 22:13 UTC: after the close of equities, which is no day off
            one.say(worker, cause=Cause(stream=f"{symbol}/trade", ordinal=0, event_ns=at_ns, values=(100.0,)))
    found = {(each.signal_id.split(".")[1].split("@")[0], each.reason) for each in one.decided(8) if each.reason}
    assert found == {(name, "market_day_off") for name in calendars[1:]}


# -- sizes and several strategies ----------------------------------------------------------------------------------------


def test_an_entry_that_names_no_size_is_sized_by_equity(floor: Make) -> None:
    sizing = {"talk": SizingSpec(size=3.0, sizing=SizingConfig(kind="equity_fraction", fraction=0.01))}
    one = floor(sizing=sizing)
    one.say(size=3.0)
    one.say(size=2.0)
    quantities = [decision.orders[0].quantity for decision in one.decided(2)]
    assert quantities == [D(10), D(2)]


def test_an_entry_is_anothers_duplicate_whichever_of_them_was_sized(floor: Make) -> None:
    sizing = {"talk": SizingSpec(size=3.0, sizing=SizingConfig(kind="equity_fraction", fraction=0.01))}
    one = floor(sizing=sizing, risk=RiskConfig(duplicate_window_s=600.0))
    one.say(size=3.0)
    one.say(size=10.0)
    one.decided(2)
    assert one.rulings() == [("accepted", ""), ("refused", "duplicate_order")]


def test_an_entry_that_waits_for_a_price_is_sized_by_what_it_costs_and_may_lose_there(floor: Make) -> None:
    """Equity is 100,000, of which 1 % may be lost at the stop, and the market stands at 100.00."""
    sizing = {"talk": SizingSpec(size=3.0, sizing=SizingConfig(kind="fixed_risk", fraction=0.01, max_fraction=50.0))}
    one = floor(sizing=sizing)
    for action, stop_loss, terms in (
        ("buy", 98.0, OrderTerms(stop_price=108.0)),
        ("buy", 88.0, OrderTerms(limit_price=90.0)),
        ("sell", 102.0, OrderTerms(stop_price=92.0)),
        ("sell", 112.0, OrderTerms(limit_price=110.0)),
        ("buy", 95.0, OrderTerms(limit_price=105.0)),  # is filled at once, at the market's price
        ("sell", 105.0, OrderTerms(stop_price=101.0)),
        ("buy", 98.0, OrderTerms(stop_price=103.0, limit_price=108.0)),
    ):
        one.say(action=action, size=3.0, stop_loss=stop_loss, terms=terms)
    quantities = [decision.orders[0].quantity for decision in one.decided(7)]
    assert quantities == [D(100), D(500), D(100), D(500), D(200), D(200), D(200)]


def test_a_row_of_quantconnect_asks_for_as_much_as_the_order(floor: Make) -> None:
    """Netted, sized by equity, or limited to what is held."""
    sizing = {"sized": SizingSpec(size=3.0, sizing=SizingConfig(kind="equity_fraction", fraction=0.01))}
    one = floor("high.X", "low.X", "sized.X", risk=RiskConfig(aggregation="net"), sizing=sizing)
    one.say("high.X", size=3.0)
    one.say("low.X", action="sell", size=1.0)
    one.decided(2)
    one.turn_until(lambda: held(one, "high.X") == 2, "a fill")
    one.say("sized.X", size=3.0)
    one.decided(3)
    one.say("high.X", action="close", size=2.57, reasons=("closes:long",))
    decisions = one.decided(4)
    sink = QuantConnectSink(one.root / "quantconnect", CLIENT, lambda letter: None)
    sink.write(decisions)
    rows = (one.root / "quantconnect" / "signals" / CLIENT / "X.csv").read_text().splitlines()[1:]
    asked = [(order.side.upper(), str(order.quantity)) for one in decisions for order in one.orders[:1]]
    assert [tuple(row.split(",")[4:6]) for row in rows] == asked
    assert asked == [("BUY", "2"), ("BUY", "9.9"), ("SELL", "2")]  # a fee was paid


def test_strategies_that_disagree_are_ruled_and_the_winner_is_named(floor: Make) -> None:
    one = floor("high.X", "low.X", risk=RiskConfig(aggregation="priority", priorities=("high", "low")))
    winner = one.say("high.X", size=1.0)
    one.turn_until(lambda: held(one, "high.X") == 1, "a fill")
    one.say("low.X", action="sell", size=1.0)
    loser = one.decided(2)[-1]
    assert (loser.reason, loser.detail) == ("lower_priority", f"lost to {winner}")
    one.kill()
    one.start()
    one.say("low.X", action="sell", size=2.0)
    assert one.decided(3)[-1].detail == f"lost to {winner}"


@pytest.mark.parametrize("policy", ["priority", "vote", "confidence"])
def test_an_entry_that_the_oms_has_rejected_speaks_for_nobody(floor: Make, venue: OwnVenue, policy: Any) -> None:
    """A strategy that holds what it bought, and whose wish to go short was rejected, spoke for the short side."""
    one = floor("high.X", "low.X", risk=RiskConfig(aggregation=policy, priorities=("high", "low")))
    bought = one.say("high.X", size=1.0, confidence=0.9)
    one.turn_until(lambda: held(one, "high.X") == 1, "a fill")
    venue.backend.rejecting = True
    rejected = one.say("high.X", action="sell", size=3.0, confidence=0.9)
    order_id = client_order_id(rejected, "entry")
    one.turn_until(lambda: one.decisions()[1:] and order_id not in state_of(one).orders, "a rejection")
    assert one.decisions()[1].verdict == "accepted"
    venue.backend.rejecting = False
    one.say("low.X", action="sell", size=1.0, confidence=0.1)
    assert one.decided(3)[2].detail == f"lost to {bought}"
    one.kill()
    one.start()
    one.say("low.X", action="sell", size=2.0, confidence=0.1)
    assert one.decided(4)[3].detail == f"lost to {bought}"
    buy(one, 2.0, "low.X")
    assert held(one, "low.X") == 2


@pytest.mark.parametrize("policy", ["priority", "net", "vote", "confidence"])
def test_nobody_loses_to_an_entry_that_risk_refuses(floor: Make, policy: Any) -> None:
    risk = RiskConfig(aggregation=policy, priorities=("high", "low"), max_order_value=500.0)
    one = floor("high.X", "low.X", risk=risk)
    one.say("high.X", size=9.0, confidence=0.9)
    one.say("low.X", action="sell", size=1.0, confidence=0.1)
    one.decided(2)
    assert set(one.rulings()) == {("refused", "order_value_above_limit"), ("accepted", "")}
    one.turn_until(lambda: held(one, "low.X") == -1, "a fill")


def test_what_is_left_of_an_entry_by_netting_is_what_risk_judges(floor: Make) -> None:
    one = floor("high.X", "low.X", risk=RiskConfig(aggregation="net", max_order_value=500.0))
    one.say("high.X", size=9.0)
    one.say("low.X", action="sell", size=5.0)
    one.decided(2)
    assert set(one.rulings()) == {("accepted", ""), ("refused", "netted")}
    one.turn_until(lambda: held(one, "high.X") == 4, "a fill")


# -- time ----------------------------------------------------------------------------------------------------------------


class Unreachable:
    """An OMS that answers nothing."""

    def __init__(self) -> None:
        self.calls: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any) -> Any:
            self.calls.add(name)
            raise OmsUnavailable("down for maintenance")

        return (lambda *_: None) if name in ("wake", "close") else fail


@pytest.mark.parametrize("is_decided_first", [False, True], ids=["", "decided before the desk looks"])
def test_an_order_that_is_too_late_when_it_could_go_is_never_sent_and_its_worker_is_told(
    floor: Make, is_decided_first: bool
) -> None:
    oms, may_look = Unreachable(), threading.Event()

    def open_oms() -> Unreachable:
        may_look.wait()
        return oms

    one = floor(freshness={TALK: freshness(0.3)}, open_oms=open_oms)
    one.trading.desk.reconciled.set()
    if not is_decided_first:
        may_look.set()
    signal_id = one.say(received_ns=one.trading._market.clock_ns(), stop_loss=90.0)
    one.decided(1)
    may_look.set()
    one.turn_until(lambda: len(one.fills()) == 2, "word to the worker")
    assert one.rulings() == [("accepted", "")]
    entry, leg = (told.event for told in one.fills())
    assert entry.report is not None and leg.report is not None
    assert entry.report.client_order_id == client_order_id(signal_id, "entry")
    assert (entry.report.state, entry.report.reason) == (OrderState.EXPIRED, "late")
    assert (leg.report.state, leg.report.reason) == (OrderState.CANCELLED, "entry_ended")
    one.turn_until(lambda: not state_of(one).orders, "no order open")
    assert "submit" not in oms.calls


def test_entries_wait_for_the_first_comparison_and_are_refused_if_there_is_none(
    floor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trading, "RECONCILE_WAIT_S", 0.1)
    one = floor(open_oms=Unreachable)
    one.say()
    assert one.decided(1)[0].reason == "not_reconciled"
    one.turn_until(lambda: "OMS: down for maintenance" in one.trading.faults(), "a word of the desk")


# -- the OMS and this client disagree --------------------------------------------------------------------------------------


def at_oms(venue: OwnVenue, quantity: int | str) -> None:
    """Somebody traded by hand."""
    position = Position(
        client=CLIENT, account="main", strategy="talk", symbol="X", quantity=D(quantity), average_price=D(100)
    )

    def positions(client: str) -> list[Position]:
        return [position, *(one for one in VenueBackend.positions(venue.backend, client) if one.symbol != "X")]

    venue.backend.positions = positions  # type: ignore[method-assign]


def test_a_difference_blocks_entries_until_somebody_accepts_what_the_oms_says(
    root: Path, venue: OwnVenue, floor: Make
) -> None:
    one = floor(TALK, "talk.Y")
    buy(one, 2.0)
    at_oms(venue, 5)
    one.trading.desk.reconcile(1)
    one.turn_until(lambda: ("reconciliation", "X") in open_breakers(one), "a difference")
    outcome = read_reconciliation(root / "router")
    assert outcome is not None
    (difference,) = outcome.differences
    assert (difference.kind, difference.ours, difference.theirs) == ("position", "2", "5")
    one.say(size=1.0)
    one.say("talk.Y", size=1.0)
    one.say(action="sell", size=1.0)
    found = {one.signal_id.split("@")[0] + one.verdict: one.reason for one in one.decided(4)[1:]}
    assert found == {"acme:talk.Xrefused": "not_reconciled", "acme:talk.Yaccepted": "", "acme:talk.Xaccepted": ""}
    one.turn_until(lambda: held(one) == 1, "the exit's fill")
    one.trading.desk.reconcile(2, accept=True)
    one.turn_until(lambda: one.trading.desk.acted == 2 and not open_breakers(one), "no difference any more")
    assert held(one) == 5
    assert one.fills()[-1].position.quantity == 5
    buy(one, 1.0)
    one.kill()
    one.start()
    assert held(one) == 6


@pytest.mark.parametrize("quantity", ["sNaN", "NaN", "1E+999999"])
def test_a_position_that_is_no_quantity_is_a_difference_that_nobody_can_accept(
    venue: OwnVenue, floor: Make, quantity: str
) -> None:
    one = floor(TALK)
    buy(one, 2.0)
    at_oms(venue, quantity)
    one.trading.desk.reconcile(1, accept=True)
    one.turn_until(lambda: bool(one.trading.desk.differences), "the comparison")
    (difference,) = one.trading.desk.differences
    assert (difference.ours, difference.theirs) == ("2", quantity)
    assert held(one) == 2
    assert one.trading.desk.fault == ""


def test_a_difference_that_goes_away_by_itself_lets_entries_through_again(
    venue: OwnVenue, floor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand, "COMPARE_AGAIN_S", 0.02)
    one = floor()
    at_oms(venue, 3)
    one.trading.desk.reconcile(1)
    one.turn_until(lambda: open_breakers(one), "a difference")
    at_oms(venue, 0)
    one.turn_until(lambda: not open_breakers(one), "no difference any more")
    buy(one)


def test_accepting_what_the_oms_says_is_carried_on_after_a_kill(root: Path, venue: OwnVenue, floor: Make) -> None:
    one = floor()
    buy(one, 2.0)
    one.kill()
    at_oms(venue, 5)
    one._open_oms, reachable = Unreachable, one._open_oms  # type: ignore[assignment]
    one.start()
    one.trading.desk.reconcile(1, accept=True)
    one.trading.desk.cancel_entries(2, Scope(strategy="nobody"))
    one.turn_until(lambda: one.trading.desk.acted == 2, "both actions on the disk")
    one.kill()
    one._open_oms = reachable
    one.start()
    one.turn_until(lambda: held(one) == 5, "what the OMS says")
    one.turn_until(lambda: (found := read_reconciliation(root / "router")) and found.action == 1, "word to people")
    one.turn_until(lambda: not open_breakers(one), "no difference any more")


# -- the operator's hand ---------------------------------------------------------------------------------------------------


def test_flattening_a_scope_exits_what_it_holds_once_and_nothing_else(venue: OwnVenue, floor: Make) -> None:
    one = floor(TALK, "talk.Y")
    buy(one, 2.0)
    buy(one, 3.0, "talk.Y")
    for _ in range(2):
        one.trading.desk.flatten(1, Scope(symbol="X"))
    one.turn_until(lambda: held(one) == 0, "flat")
    one.kill()
    one.start()
    buy(one, 1.0)
    one.trading.desk.flatten(1, Scope(symbol="X"))
    one.trading.desk.flatten(2, Scope(strategy="nobody"))
    one.turn_until(lambda: one.trading.desk.acted == 2, "the second action")
    assert (held(one), held(one, "talk.Y")) == (1, 3)
    assert len(venue.placed) == 4 and set(venue.placed.values()) == {1}


def test_flattening_leaves_what_a_strategy_enters_after_it(root: Path) -> None:
    with venue_in(root) as quiet:
        one = Floor(root)
        try:
            one.start()
            one.say(size=2.0)
            (entry,) = (order.client_order_id for order in one.decided(1)[0].orders)
            one.turn_until(lambda: entry in quiet.placed, "the entry at the venue")
            quiet.fill(entry)
            one.turn_until(lambda: held(one) == 2, "its fill")
            one.trading.desk.flatten(1, Scope())
            one.turn_until(lambda: len(quiet.placed) == 2, "the exit at the venue")
            (leaving,) = quiet.placed.keys() - {entry}
            one.say(size=1.0, terms=OrderTerms(limit_price=99.0))
            (later,) = (order.client_order_id for order in one.decided(2)[1].orders)
            one.turn_until(lambda: later in quiet.placed, "another entry, which waits for its price")
            one.kill()
            one.start()
            quiet.fill(leaving)
            one.turn_until(lambda: held(one) == 0, "flat")
            journal = one.orders
            one.turn_until(lambda: any(isinstance(own, Flattened) and own.is_over for own in journal()), "it is over")
            quiet.fill(later)
            one.turn_until(lambda: held(one) == 1, "the later entry's fill")
            one.trading.desk.flatten(2, Scope(strategy="nobody"))
            one.turn_until(lambda: one.trading.desk.acted == 2, "another action")
            assert (held(one), set(quiet.placed)) == (1, {entry, leaving, later})
        finally:
            one.close()


def test_flattening_is_carried_on_after_a_kill(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    buy(one, 2.0)
    oms = Unreachable()
    one.kill()
    one._open_oms, reachable = lambda: oms, one._open_oms  # type: ignore[assignment, return-value]
    one.start()
    one.trading.desk.flatten(1, Scope())
    one.turn_until(lambda: one.trading.desk.acted == 1, "the action on the disk")
    one.kill()
    one._open_oms = reachable
    one.start()
    one.turn_until(lambda: held(one) == 0, "flat")
    assert len(venue.placed) == 2 and set(venue.placed.values()) == {1}


def test_cancelling_takes_back_what_is_open_and_leaves_what_protects(root: Path) -> None:
    with short_folder() as folder, venue_in(folder) as quiet:
        one = Floor(folder)
        one.start()
        entry = one.say(size=1.0, stop_loss=90.0)
        one.turn_until(lambda: len(quiet.placed) == 2, "a bracket at the venue")
        quiet.fill(client_order_id(entry, "entry"))
        one.turn_until(lambda: held(one) == 1, "a fill")
        second = one.say(size=1.0)
        one.turn_until(lambda: len(quiet.placed) == 3, "an entry more")
        one.trading.desk.cancel_entries(1, Scope())
        one.turn_until(lambda: len(state_of(one).orders) == 1, "one order open")
        assert state_of(one).orders.keys() == {client_order_id(entry, "stop_loss")}
        assert quiet.backend._reports[CLIENT, client_order_id(second, "entry")].state is OrderState.CANCELLED
        one.close()


def test_orders_that_the_oms_refuses_to_cancel_keep_nobody_waiting() -> None:
    with short_folder() as folder, venue_in(folder) as quiet:
        one = Floor(folder)
        one.start()
        for _ in range(6):
            one.say(size=1.0)
        one.turn_until(lambda: len(quiet.placed) == 6, "six entries at the venue")

        def refuse(client: str, order_id: str) -> OrderReport:
            raise OmsRefused("refused", "not while the auction is on")

        quiet.backend.cancel, cancel = refuse, quiet.backend.cancel  # type: ignore[method-assign]
        one.trading.desk.cancel_entries(1, Scope())
        one.trading.desk.reconcile(2)
        one.turn_until(lambda: (found := read_reconciliation(folder / "router")) and found.action == 2, "a comparison")
        one.turn_until(lambda: "not while the auction is on" in str(one.trading.faults()), "a word in the status")
        quiet.backend.cancel = cancel  # type: ignore[method-assign]
        one.turn_until(lambda: not state_of(one).orders and not one.trading.faults(), "no order open")
        one.close()


def test_an_oms_that_has_lost_its_events_blocks_entries_until_that_is_accepted(venue: OwnVenue, floor: Make) -> None:
    one = floor()
    buy(one, 2.0)
    one.stop()
    venue.backend._events[CLIENT].clear()
    one.start()
    one.turn_until(lambda: ("reconciliation", "") in open_breakers(one), "a difference")
    one.say(size=1.0)
    assert one.decided(2)[-1].reason == "not_reconciled"
    one.trading.desk.reconcile(1, accept=True)
    one.turn_until(lambda: one.trading.desk.acted == 1 and not open_breakers(one), "no difference any more")
    assert held(one) == 0
    buy(one, 1.0)


def test_news_that_cannot_be_true_change_no_position_and_block_the_symbol(venue: OwnVenue, floor: Make) -> None:
    one = floor(TALK, "talk.Y")
    one.turn_until(one.trading.desk.reconciled.is_set, "reconciled")
    buy(one, 2.0)
    with venue.backend._lock:
        venue.backend._fill(venue.backend._orders[CLIENT, next(iter(venue.placed))])
    venue.server.on_news(CLIENT, venue.backend.last_number(CLIENT))
    one.turn_until(lambda: ("reconciliation", "X") in open_breakers(one), "the contradiction")
    assert held(one) == 2
    assert any(fault.startswith("not reconciled: X contradiction") for fault in one.trading.faults())
    one.say("talk.Y", size=1.0)
    one.say(size=1.0)
    found = {one.signal_id.split("@")[0]: one.reason for one in one.decided(3)[1:]}
    assert found == {"acme:talk.Y": "", "acme:talk.X": "not_reconciled"}


def test_a_router_whose_symbol_has_left_the_configuration_begins_again_after_a_kill(floor: Make) -> None:
    """It reads the fills of that symbol again."""
    one = floor(TALK, "talk.Y")
    buy(one, worker="talk.Y")
    one.say("talk.Y", action="sell", size=1.0)
    one.turn_until(lambda: held(one, "talk.Y") == 0, "flat")
    one.spec = trading_spec(one.root)
    assert one.router is not None
    one.router.reload(one.spec)
    one.kill()
    (one.root / "router" / "orders.note").unlink()
    one.start()
    buy(one)
    assert not one.trading.faults()


@pytest.mark.parametrize("fills_before", [0, 1])
def test_what_is_filled_of_a_symbol_that_has_left_the_configuration_counts(fills_before: int) -> None:
    with short_folder() as folder, venue_in(folder) as quiet:
        one = Floor(folder, TALK, "talk.Y")
        one.start()
        entry = one.say("talk.Y", size=1.0, stop_loss=90.0)
        one.turn_until(lambda: len(quiet.placed) == 2, "a bracket at the venue")

        def fill(leg: str, left: int) -> None:
            quiet.fill(client_order_id(entry, leg))
            one.turn_until(lambda: held(one, "talk.Y") == left, f"a fill of the {leg}")

        fills = [("entry", 1), ("stop_loss", 0)]
        for leg, left in fills[:fills_before]:
            fill(leg, left)
        one.stop()
        one.spec = trading_spec(folder)
        one.start()
        for leg, left in fills[fills_before:]:
            fill(leg, left)
        assert not one.trading.faults()
        one.close()


@pytest.mark.parametrize("price", ["0", "-37.63"])
def test_a_fill_at_a_price_that_is_not_above_zero_is_counted_and_ends_no_router(
    venue: OwnVenue, floor: Make, price: str
) -> None:
    one = floor()
    venue.backend.price = D(price)
    buy(one, 2.0)
    known = encode_state(state_of(one))
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    assert (held(one), encode_state(state_of(one))) == (2, known)
    one.trade("X", 100.0)
    one.say(action="sell", size=2.0)
    one.turn_until(lambda: held(one) == 0, "flat")
    assert one.rulings() == [("accepted", ""), ("accepted", "")]


@pytest.mark.parametrize(
    ("fill", "report"),
    [
        ({"client": "evil"}, {}),
        ({"price": D("1e30")}, {}),
        ({"quantity": D("1e-2000000")}, {}),
        ({}, {"quantity": D(0)}),
        ({}, {"filled": D("NaN")}),
    ],
)
def test_news_that_nobody_can_count_block_the_symbol_and_end_no_router(
    venue: OwnVenue, floor: Make, fill: dict[str, Any], report: dict[str, Any]
) -> None:
    one = floor()
    one.say(size=1.0)
    one.turn_until(lambda: held(one) == 1, "a fill of the venue")
    made = venue.backend.events(CLIENT, 1, 1)[0]
    venue.backend.fills = False
    one.say(size=2.0)
    one.turn_until(lambda: len(state_of(one).orders) == 1, "an order that is open")
    (order_id,) = state_of(one).orders
    assert made.fill is not None
    assert made.report is not None
    venue.tell(
        msgspec.structs.replace(
            made,
            number=venue.backend.last_number(CLIENT),
            fill=msgspec.structs.replace(made.fill, fill_id="odd", client_order_id=order_id, **fill),
            report=msgspec.structs.replace(
                made.report, client_order_id=order_id, state=OrderState.PARTIALLY_FILLED, **report
            ),
        )
    )
    one.trading.desk.reconcile(1)
    one.turn_until(lambda: ("reconciliation", "X") in open_breakers(one), "the contradiction")
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    one.say(size=1.0)
    assert one.decided(3)[-1].reason == "not_reconciled"
    assert held(one) == 1


# -- a power cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [8, 12])
@pytest.mark.parametrize("version", ["now", "earlier"])
def test_orders_that_a_power_cut_took_are_not_those_that_came_after_it(
    floor: Make, monkeypatch: pytest.MonkeyPatch, lost: int, version: str
) -> None:
    """Of a cut that an earlier version has come back from, its risk log does not say how many entries were left."""
    one = floor(risk=RiskConfig(max_open_orders=1))
    for _ in range(3):
        buy(one)
    one.turn_until(lambda: not one.trading.record._is_moved, "all of it kept")
    one.kill()
    ends = [START, *(end for end, _ in read_orders(order_log(one.root / "router")))]
    os.truncate(order_log(one.root / "router"), ends[-1 - lost])
    (one.root / "router" / "orders.note").unlink()
    reboot(monkeypatch, 2)
    one.start()
    one.turn_until(lambda: one.trading.desk.reconciled.is_set() and held(one) == 3, "what was lost is known again")
    for _ in range(4):
        buy(one)
    one.stop()
    if version == "earlier":
        forget_the_cut(risk_log(one.root / "router"))
    reboot(monkeypatch, 3)
    one.start()
    assert (held(one), state_of(one).orders) == (7, {})
    buy(one)


def reboot(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for module in ("risk_record", "journal"):
        monkeypatch.setattr(f"strategy_runner.router.{module}.this_boot", lambda: number)


def forget_the_cut(path: Path) -> None:
    """Takes out the turn that says how many entries were left."""
    payloads = list(read_log(path))
    counts = [decode_turn(payload).orders for payload in payloads]
    (cut,) = (place for place, (before, after) in enumerate(pairwise(counts), 1) if after < before)
    path.unlink()
    log = AppendLog(path)
    log.append_many([*payloads[:cut], *payloads[cut + 1 :]])
    log.close()


# -- the disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["decisions.log", "orders.log", "fills.log", "risk.log"])
def test_a_disk_that_is_full_for_a_while_loses_nothing_and_doubles_nothing(
    venue: OwnVenue, floor: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    one = floor(risk=RiskConfig(runaway_signals=3, runaway_window_s=60.0))
    buy(one, 2.0)
    append, refused = AppendLog.append_many, []

    def full(log: AppendLog, payloads: Any) -> int:
        if log.path.name == name and len(refused) < 3:
            refused.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.path))
        return append(log, payloads)

    monkeypatch.setattr(AppendLog, "append_many", full)
    monkeypatch.setattr(desk, "RETRY_S_MAX", 0.05)
    one.say(size=1.0)
    one.turn_until(lambda: held(one) == 3, "a fill")
    assert refused
    one.say(size=1.0)
    assert [decision.reason for decision in one.decided(3)] == ["", "", ""]
    one.turn_until(lambda: held(one) == 4, "another fill")
    assert set(venue.placed.values()) == {1}
    before = encode_state(state_of(one))
    one.kill()
    (one.root / "router" / "risk.note").unlink(missing_ok=True)
    one.start()
    assert encode_state(state_of(one)) == before


def test_what_an_operator_asks_while_the_disk_is_full_is_done_when_it_is_not(
    floor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = floor()
    buy(one, 2.0)
    append, refused = AppendLog.append_many, []

    def full(log: AppendLog, payloads: Any) -> int:
        if log.path.name == "orders.log" and not refused:
            refused.append(log.path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.path))
        return append(log, payloads)

    monkeypatch.setattr(AppendLog, "append_many", full)
    monkeypatch.setattr(desk, "RETRY_S_MAX", 0.05)
    one.trading.desk.flatten(1, Scope())
    one.turn_until(lambda: held(one) == 0, "flat")
    assert refused
