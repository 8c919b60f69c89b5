"""The machine: records in, signals out, and nothing else goes in."""

import random
import sys
from functools import reduce
from math import nan
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker.build import (
    CHATTY,
    MINUTE_NS,
    MODELS,
    START_NS,
    Echo,
    Recorded,
    Row,
    random_rows,
    worker_spec,
)

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import DivergenceError, StateError, StrategyError
from strategy_runner.model.event import Bar, Prediction, Quote, Timer, Trade
from strategy_runner.model.signal import SignalBody, canonical, decode_body
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.strategies.registry import load
from strategy_runner.worker.run import Block

SPEC = worker_spec(Path("unused"))
Chatty = load("chatty", CHATTY)


def spec(*streams: str, **changes: Any) -> WorkerSpec:
    return worker_spec(Path("unused"), streams=streams, **changes)


def trade(number: int, price: float = 100.0) -> Row:
    return "X/trade", START_NS + number, (price, 1.0, 1.0)


def bar(minute: int, close: float = 100.0) -> Row:
    return "X/bar.1m", START_NS + minute * MINUTE_NS, (close, close + 1, close - 1, close, 5.0)


def vote(model: str, minute: int, confidence: float, score: float = 0.5) -> Row:
    return f"X/prediction.{model}.1m", START_NS + minute * MINUTE_NS, (score, confidence)


# -- what a strategy is told -------------------------------------------------------------------------------------------


def test_each_callback_gets_the_events_of_its_kind() -> None:
    run = Recorded(spec("X/trade", "X/quote", "X/bar.1m", "X/prediction.m1.1m", "X/clock.1s", models=MODELS[:1]), Echo)
    run.machine.start()
    run.apply(
        [
            ("X/trade", 1, (100.0, 2.0, -1.0)),
            ("X/quote", 2, (99.0, 101.0, 3.0)),
            ("X/bar.1m", 3, (1.0, 4.0, 0.5, 2.0, 7.0)),
            ("X/prediction.m1.1m", 3, (0.5, 0.75)),
            ("X/clock.1s", 4, ()),
        ]
    )
    heard, quote, *others = run.strategy.told  # type: ignore[attr-defined]  # Echo keeps what it is told
    assert heard == Trade("X", 1, 100.0, 2.0, -1.0)
    assert (quote.symbol, quote.event_ns, quote.mid, quote.bid_size) == ("X", 2, 100.0, 3.0)
    assert quote.ask_size != quote.ask_size
    assert isinstance(quote, Quote)
    assert others == [
        Bar("X", "1m", 3, 1.0, 4.0, 0.5, 2.0, 7.0),
        Prediction("X", "m1", "1m", 3, 0.5, 0.75),
        Timer(4, 1_000_000_000),
    ]


def test_several_models_reach_the_strategy_as_one_prediction_once_all_have_spoken() -> None:
    run = Recorded(spec("X/prediction.m1.1m", "X/prediction.m2.1m", models=MODELS), Echo)
    run.machine.start()
    run.apply([vote("m2", 1, 0.25, score=-0.5)])
    assert run.strategy.told == []  # type: ignore[attr-defined]
    run.apply([vote("m1", 1, 0.75, score=0.5)])
    assert run.strategy.told == [Prediction("X", "combined", "1m", START_NS + MINUTE_NS, 0.25, 0.625)]  # type: ignore[attr-defined]


class NotesTheTime(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.times: list[int] = []

    def on_trade(self, trade: Trade) -> None:
        self.times.append(self.now_ns)


def test_the_strategys_now_is_the_records_time() -> None:
    run = Recorded(spec("X/trade"), NotesTheTime)
    run.machine.start()
    run.apply([trade(5), trade(9)])
    assert run.strategy.times == [START_NS + 5, START_NS + 9]  # type: ignore[attr-defined]


# -- what a signal says ------------------------------------------------------------------------------------------------


def test_signals_are_dense_and_their_ids_derived_also_across_refusals() -> None:
    run = Recorded(SPEC, Chatty, every=3)
    run.machine.start()
    run.apply(random_rows(1, 5))
    numbers = [n for n, _, _ in run.signals]
    assert numbers == list(range(len(numbers)))
    assert [body.id for body in run.bodies] == [f"acme:talk.X@0badcafe/{n}" for n in numbers]
    refused = {body.refusal is not None for body in run.bodies}
    assert refused == {True, False}, "the run should hold both"


def test_the_cause_names_the_record_by_stream_ordinal_time_and_values() -> None:
    run = Recorded(spec("X/trade", "X/quote"), Echo)
    run.machine.start()
    run.apply([trade(1), trade(2), ("X/quote", START_NS + 3, (99.0, 101.0, nan, 4.0))])
    causes = [body.cause for body in run.bodies]
    assert [(cause.stream, cause.ordinal, cause.event_ns - START_NS) for cause in causes] == [
        ("X/trade", 0, 1),
        ("X/trade", 1, 2),
        ("X/quote", 0, 3),
    ]
    assert causes[1].values == (100.0, 1.0, 1.0)
    assert causes[2].values == (99.0, 101.0, None, 4.0)
    assert [seq for _, _, seq in run.signals] == [0, 1, 2]


GOLDEN = (
    b'{"id":"acme:talk.X@0badcafe/0","client":"acme","strategy":"talk","symbol":"X","venue":"test","timeframe":"1m",'
    b'"action":"buy","size":2.0,"entry_price":100.1,"stop_loss":98.098,"take_profit":null,"confidence":0.625,'
    b'"strength":0.25,"strategy_type":"chatty","models":[{"model":"m1","score":0.5,"confidence":0.75,"weight":3.0,'
    b'"stream":"X/prediction.m1.1m","ordinal":0,"event_ns":1700000060000000000},{"model":"m2","score":-0.5,'
    b'"confidence":0.25,"weight":1.0,"stream":"X/prediction.m2.1m","ordinal":0,"event_ns":1700000060000000000}],'
    b'"cause":{"stream":"X/trade","ordinal":0,"event_ns":1700000060000000001,"values":[100.1,1.5,-1.0]},'
    b'"reasons":["Trade"],"refusal":null}'
)


def test_a_bodys_canonical_bytes_never_change() -> None:
    run = Recorded(spec("X/trade", "X/prediction.m1.1m", "X/prediction.m2.1m", models=MODELS), Echo)
    run.machine.start()
    run.strategy.wish = {"strength": 0.25}  # type: ignore[attr-defined]
    run.apply([vote("m1", 1, 0.75), vote("m2", 1, 0.25, score=-0.5)])
    run.apply([("X/trade", START_NS + MINUTE_NS + 1, (100.1, 1.5, -1.0))])
    assert run.bodies[0].refusal == "no_price"
    body = run.bodies[1]
    assert canonical(body).replace(b"0badcafe/1", b"0badcafe/0") == GOLDEN


def test_every_body_of_a_run_reads_back_as_what_it_was() -> None:
    run = Recorded(worker_spec(Path("unused"), models=MODELS), Chatty, every=2)
    run.machine.start()
    run.apply(random_rows(2, 10))
    assert len(run.bodies) > 50
    for body in run.bodies:
        assert decode_body(canonical(body)) == body


@pytest.mark.parametrize(
    "number",
    [np.float64(0.5), np.float32(0.5), np.int64(1), 1, nan, float("inf"), -1.0],
    ids=["float64", "float32", "int64", "int", "nan", "infinity", "negative"],
)
def test_whatever_kind_of_number_a_strategy_gives_its_body_can_be_written_and_read(number: Any) -> None:
    run = Recorded(spec("X/trade"), Echo)
    run.machine.start()
    names = ("size", "entry_price", "stop_loss", "take_profit", "confidence", "strength")
    for name in names:
        run.strategy.wish = {name: number}  # type: ignore[attr-defined]
        run.apply([trade(1)])
    assert len(run.bodies) == len(names)
    for name, body in zip(names, run.bodies, strict=True):
        assert decode_body(canonical(body)) == body
        said = getattr(body, name)
        assert said == float(number) if np.isfinite(number) else said is None


# -- models ------------------------------------------------------------------------------------------------------------


def test_the_models_votes_are_in_the_body_while_they_are_fresh_and_not_after_a_bar() -> None:
    run = Recorded(spec("X/trade", "X/prediction.m1.1m", models=MODELS[:1]), Echo)
    run.machine.start()
    run.apply([vote("m1", 1, 0.9), ("X/trade", START_NS + 2 * MINUTE_NS, (100.0, 1.0, 1.0))])
    run.apply([("X/trade", START_NS + 2 * MINUTE_NS + 1, (100.0, 1.0, 1.0))])
    _, fresh, stale = run.bodies
    assert [(one.model, one.ordinal, one.confidence) for one in fresh.models] == [("m1", 0, 0.9)]
    assert (fresh.confidence, fresh.refusal) == (0.9, None)
    assert stale.models == ()
    assert (stale.confidence, stale.refusal) == (None, "no_fresh_prediction")


def test_a_strategys_own_confidence_does_not_stand_in_for_that_of_its_models() -> None:
    run = Recorded(spec("X/trade", "X/prediction.m1.1m", models=MODELS[:1]), Echo)
    run.machine.start()
    run.apply([vote("m1", 1, 0.1)])
    run.strategy.wish = {"confidence": 1.0}  # type: ignore[attr-defined]
    run.apply([("X/trade", START_NS + MINUTE_NS, (100.0, 1.0, 1.0))])
    assert run.bodies[-1].refusal == "confidence_below_threshold"


def test_a_model_that_misses_a_bar_is_told_of_and_makes_no_signal() -> None:
    run = Recorded(spec("X/bar.1m", "X/prediction.m1.1m", "X/prediction.m2.1m", models=MODELS), Silent)
    run.machine.start()
    run.apply([bar(1), vote("m1", 1, 0.9), vote("m2", 1, 0.9), bar(2), vote("m1", 2, 0.9), bar(3), bar(4)])
    run.apply([vote("m2", 3, 0.9)])
    faults = [
        (fault.model, (fault.event_ns - START_NS) // MINUTE_NS, fault.reason) for fault in run.machine.take_faults()
    ]
    assert faults == [
        ("m2", 2, "prediction_missing"),
        ("m1", 3, "prediction_missing"),
        ("m2", 3, "prediction_missing"),
        ("m2", 3, "prediction_late"),
    ]
    assert run.machine.take_faults() == ()
    assert run.signals == []


class Silent(Strategy):
    inputs = Inputs(bars=True, predictions=True)


class LooksBack(Strategy):
    inputs = Inputs(predictions=True)

    def on_start(self) -> None:
        self.seen: list[tuple[list[float], list[float]]] = []

    def on_prediction(self, prediction: Prediction) -> None:
        first, second = ([one.score for one in self.predictions_of(model)] for model in ("m1", "m2"))
        self.seen.append((first, second))


def test_a_strategy_may_look_back_at_as_many_predictions_of_a_model_as_were_configured() -> None:
    """Also after a restart between any two of them."""
    rows = [
        vote(model, minute, 0.9, sign * minute / 10)
        for minute in range(1, 6)
        for model, sign in (("m1", 1), ("m2", -1))
    ]
    streams = ("X/prediction.m1.1m", "X/prediction.m2.1m")
    whole = Recorded(spec(*streams, models=MODELS), LooksBack)
    whole.machine.start()
    whole.apply(rows)
    seen = whole.strategy.seen  # type: ignore[attr-defined]
    assert seen[0] == ([0.1], [-0.1])
    assert seen[-1] == ([0.3, 0.4, 0.5], [-0.3, -0.4, -0.5])
    for at in range(len(rows)):
        before = Recorded(spec(*streams, models=MODELS), LooksBack)
        before.machine.start()
        before.apply(rows[:at])
        after = Recorded(spec(*streams, models=MODELS), LooksBack)
        after.machine.restore(before.machine.state())
        after._ordinals = dict(before._ordinals)
        after.apply(rows[at:])
        assert after.strategy.seen == seen  # type: ignore[attr-defined]


def test_no_predictions_are_there_of_a_model_that_is_not_configured() -> None:
    run = Recorded(spec("X/prediction.m1.1m", models=MODELS[:1]), LooksBack)
    run.machine.start()
    with pytest.raises(StrategyError, match="expected a model of m1, found 'm2'"):
        run.apply([vote("m1", 1, 0.9)])


# -- prices and positions ----------------------------------------------------------------------------------------------


def test_the_price_is_that_of_the_own_symbol_and_of_this_very_record() -> None:
    run = Recorded(spec("X/trade", "Y/trade"), Echo)
    run.machine.start()
    run.apply([("Y/trade", 1, (7.0, 1.0, 1.0)), trade(2, 100.0), ("Y/trade", 3, (8.0, 1.0, 1.0)), trade(4, 101.0)])
    assert [(body.entry_price, body.refusal) for body in run.bodies] == [
        (None, "no_price"),
        (100.0, None),
        (100.0, None),
        (101.0, None),
    ]


class OpensAndCloses(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.positions: list[float] = []

    def on_trade(self, trade: Trade) -> None:
        self.positions.append(self.position)
        step = len(self.positions)
        if step == 1:
            self.sell(size=3.0)
            self.close(size=1.0)
        elif step == 2:
            self.close(size=9.0)
        elif step == 3:
            self.close()


def test_the_position_follows_accepted_signals_alone_also_within_one_record() -> None:
    run = Recorded(spec("X/trade"), OpensAndCloses)
    run.machine.start()
    run.apply([trade(n) for n in range(4)])
    assert run.strategy.positions == [0.0, -2.0, -2.0, 0.0]  # type: ignore[attr-defined]
    assert [body.refusal for body in run.bodies] == [None, None, "close_exceeds_position", None]
    assert run.bodies[-1].reasons == ("closes:short",)


class Steps(Strategy):
    """Ten steps up, then down again by `downs`; holds nothing then, so it never comes to its last close."""

    inputs = Inputs(trades=True)
    downs: tuple[float, ...] = (0.1,) * 10

    def on_start(self) -> None:
        self.positions: list[float] = []

    def on_trade(self, trade: Trade) -> None:
        self.positions.append(self.position)
        down = len(self.positions) - 11
        if down < 0:
            self.buy("up", size=0.1)
        elif down < len(self.downs):
            self.close("down", size=self.downs[down])
        elif self.position:
            self.close("what the sum of floats left")


class AtOnce(Steps):
    downs = (1.0,)  # ten times 0.1 are 0.9999999999999999


class InThree(Steps):
    downs = (0.7, 0.1, 0.2)


@pytest.mark.parametrize("kind", [Steps, AtOnce, InThree])
def test_the_error_of_a_sum_is_no_position_and_keeps_none_open(kind: type[Steps]) -> None:
    run = Recorded(spec("X/trade"), kind)
    run.machine.start()
    run.apply([trade(n) for n in range(25)])
    positions = run.strategy.positions  # type: ignore[attr-defined]
    assert positions[10] == reduce(add, [0.1] * 10), "while something is held it is the plain sum"
    assert positions[10 + len(kind.downs) :] == [0.0] * (15 - len(kind.downs))
    assert {body.refusal for body in run.bodies} == {None} and len(run.bodies) == 10 + len(kind.downs)


class WantsThreeBars(Strategy):
    inputs = Inputs(trades=True, bars=True, warmup_bars=3)

    def on_bar(self, bar: Bar) -> None:
        self.buy("bar")

    def on_trade(self, trade: Trade) -> None:
        self.buy("trade")


def test_signals_are_refused_as_warming_up_until_the_declared_bars_were_seen() -> None:
    run = Recorded(spec("X/trade", "X/bar.1m"), WantsThreeBars)
    run.machine.start()
    run.apply([trade(0), bar(1), bar(2), trade(3), bar(3), trade(4), bar(4)])
    assert [body.refusal for body in run.bodies] == ["warming_up"] * 5 + [None, None]


def test_signals_are_refused_as_warming_up_while_the_loop_reads_the_past() -> None:
    run = Recorded(spec("X/trade", "X/bar.1m"), WantsThreeBars)
    run.machine.start()
    run.machine.live = False
    run.apply([bar(n) for n in range(1, 6)])
    run.machine.live = True
    run.apply([trade(5)])
    assert [body.refusal for body in run.bodies] == ["warming_up"] * 5 + [None]


# -- faults ------------------------------------------------------------------------------------------------------------


class Faulty(Strategy):
    """Does something wrong at its third trade."""

    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.heard = 0

    def on_trade(self, trade: Trade) -> None:
        self.heard += 1
        if self.heard == 3:
            self.wrong()
        self.buy("fine")

    def wrong(self) -> None:
        raise RuntimeError("no idea")


class Leaves(Faulty):
    def wrong(self) -> None:
        sys.exit(0)


class GivesText(Faulty):
    def wrong(self) -> None:
        self.buy(size="all of it")


class GivesNoReason(Faulty):
    def wrong(self) -> None:
        self.buy(5)  # type: ignore[arg-type]  # the fault under test


class GivesUnwritableReason(Faulty):
    def wrong(self) -> None:
        self.buy("\ud800")


class CancelsWhatCannotBeWritten(Faulty):
    def wrong(self) -> None:
        self.cancel(of="\ud800")


class ModifiesWhatCannotBeWritten(Faulty):
    def wrong(self) -> None:
        self.modify(of="\ud800", size=1.0)


class GivesABook(Faulty):
    def wrong(self) -> None:
        self.buy("x" * 70_000)


class GivesUnknownWish(Faulty):
    def wrong(self) -> None:
        self.buy(amount=3)


FAULTS = [
    (Faulty, "RuntimeError: no idea"),
    (Leaves, "SystemExit: 0"),
    (GivesText, "size: expected a number or None, found 'all of it'"),
    (GivesNoReason, "reasons: expected text, found 5"),
    (GivesUnwritableReason, "surrogates not allowed"),
    (CancelsWhatCannotBeWritten, "surrogates not allowed"),
    (ModifiesWhatCannotBeWritten, "surrogates not allowed"),
    (GivesABook, "reasons: expected at most 65536 characters, found 70000"),
    (GivesUnknownWish, "amount"),
]


def apply_run(run: Recorded, ordinal: int, events: list[Any]) -> memoryview:
    """As a run of a tape whose record n of the stream has seq 10 + 3 * n; returns the word for the record at hand."""
    marks, hand = [11 + 3 * (ordinal + n) for n in range(len(events))], memoryview(bytearray(8)).cast("Q")
    block = Block(marks, np.array(marks), [event.event_ns for event in events], iter(events))

    def note(noted: Block, at: int) -> None:
        assert noted is block and noted.marks[at] == hand[0], "the record at hand"
        run.machine.seq = hand[0] - 1

    run.machine.apply_run(run.machine.subscriptions[0], ordinal, block, hand, note)
    return hand


@pytest.mark.parametrize(("kind", "problem"), FAULTS, ids=[kind.__name__ for kind, _ in FAULTS])
@pytest.mark.parametrize("how", ["records", "blocks", "runs"])
def test_a_strategys_fault_names_the_record_and_keeps_the_signals_before_it(
    kind: type[Strategy], problem: str, how: str
) -> None:
    run = Recorded(spec("X/trade"), kind)
    run.machine.start()
    with pytest.raises(StrategyError) as raised:
        trades = [Trade("X", START_NS + n, 100.0, 1.0, 1.0) for n in range(5)]
        if how == "blocks":
            run.machine.apply_block(run.machine.subscriptions[0], 0, trades)
        elif how == "runs":
            apply_run(run, 0, trades)
        else:
            run.apply([trade(n) for n in range(5)])
    message = str(raised.value)
    assert message.startswith("X/trade ordinal 2: ")
    assert problem in message
    assert f"event_ns={START_NS + 2}" in message
    assert len(run.signals) == 2


@pytest.mark.parametrize("how", ["records", "blocks", "runs"])
def test_a_fault_of_the_signal_log_is_not_blamed_on_the_strategy(how: str) -> None:
    def diverge(n: int, body: SignalBody, seq: int) -> None:
        raise DivergenceError("another signal stands there")

    run = Recorded(spec("X/trade"), Faulty)
    run.machine.start()
    run.machine._record = diverge
    with pytest.raises(DivergenceError):
        if how == "blocks":
            run.machine.apply_block(run.machine.subscriptions[0], 0, [Trade("X", START_NS, 100.0, 1.0, 1.0)])
        elif how == "runs":
            apply_run(run, 0, [Trade("X", START_NS, 100.0, 1.0, 1.0)])
        else:
            run.apply([trade(1)])


class FailsAtTheEnds(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        raise RuntimeError("cannot begin")

    def on_stop(self) -> None:
        raise RuntimeError("cannot end")


def test_a_fault_at_the_start_or_the_stop_names_the_callback() -> None:
    machine = Recorded(spec("X/trade"), FailsAtTheEnds).machine
    with pytest.raises(StrategyError, match="on_start: RuntimeError: cannot begin"):
        machine.start()
    with pytest.raises(StrategyError, match="on_stop: RuntimeError: cannot end"):
        machine.stop()


class KeepsALambda(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.fine = 1
        self.rule = lambda price: price > 1


def test_state_that_cannot_be_kept_is_named() -> None:
    run = Recorded(spec("X/trade"), KeepsALambda)
    run.machine.start()
    with pytest.raises(StrategyError, match=r"state: expected values that pickle, found self\.rule \(function\)"):
        run.machine.state()


class Rules:
    """What decides for a strategy, and asks it for what it wants."""

    def __init__(self, owner: Strategy) -> None:
        self.owner = owner
        self.leave = owner.close

    def look(self, price: float) -> None:
        if self.owner.position == 0.0:
            self.owner.buy(f"nothing held at {price:g}")
        else:
            self.leave(f"held at {price:g}")


class HasRules(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.rules = Rules(self)

    def on_trade(self, trade: Trade) -> None:
        self.rules.look(trade.price)


def test_what_refers_to_its_strategy_speaks_for_it_after_a_restart_too() -> None:
    with_rules = spec("X/trade")
    first, second = Recorded(with_rules, HasRules), Recorded(with_rules, HasRules)
    first.machine.start()
    first.apply([trade(0)])
    second.machine.restore(first.machine.state())
    first.apply([trade(1), trade(2)])
    second.apply([trade(1), trade(2)])
    assert [body.action for body in second.bodies] == ["close", "buy"]
    assert [body.reasons for body in second.bodies] == [body.reasons for body in first.bodies[1:]]


class HasSlots(Strategy):
    inputs = Inputs(trades=True)
    __slots__ = ("seen",)

    def on_start(self) -> None:
        self.seen = 0

    def on_trade(self, trade: Trade) -> None:
        self.seen += 1
        self.buy(f"trade {self.seen}")


def test_what_a_strategy_keeps_in_slots_is_kept_over_a_restart_too() -> None:
    with_slots = spec("X/trade")
    first, second = Recorded(with_slots, HasSlots), Recorded(with_slots, HasSlots)
    first.machine.start()
    first.apply([trade(0)])
    second.machine.restore(first.machine.state())
    second.apply([trade(1)])
    assert [body.reasons for body in second.bodies] == [("trade 2",)]


def test_bytes_that_are_no_state_are_refused() -> None:
    run = Recorded(spec("X/trade"), Silent)
    with pytest.raises(StateError, match=r"snapshot: expected the state of acme:talk\.X"):
        run.machine.restore(b"garbage")


class SpeaksAtTheEnds(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.buy("too early")

    def on_stop(self) -> None:
        self.buy("too late")


def test_what_is_asked_for_at_the_start_and_the_stop_is_no_signal() -> None:
    run = Recorded(spec("X/trade"), SpeaksAtTheEnds)
    run.machine.start()
    run.apply([trade(1)])
    run.machine.stop()
    run.apply([trade(2)])
    assert run.signals == []


# -- the same again ----------------------------------------------------------------------------------------------------


def bodies_of(rows: list[Row], **changes: Any) -> list[bytes]:
    run = Recorded(worker_spec(Path("unused"), models=MODELS, **changes), Chatty, every=3)
    run.machine.start()
    return [canonical(body) for body in run.apply(rows).bodies]


def test_the_same_records_give_the_same_bytes_also_where_a_strategy_draws_lots() -> None:
    rows = random_rows(3, 20)
    once = bodies_of(rows)
    assert len(once) > 50
    assert {b'"action":"buy"' in body for body in once} == {True, False}, "the lots should differ"
    assert bodies_of(rows) == once


def test_another_generation_draws_other_lots() -> None:
    rows = random_rows(3, 20)
    other = bodies_of(rows, generation="0badcaff")
    assert [body.replace(b"0badcaff", b"0badcafe") for body in other] != bodies_of(rows)


def test_a_machine_restored_at_any_point_goes_on_as_if_nothing_had_happened() -> None:
    rows = random_rows(4, 12)
    whole = bodies_of(rows)
    worker = worker_spec(Path("unused"), models=MODELS)
    first = Recorded(worker, Chatty, every=3)
    first.machine.start()
    ordinals = dict(first._ordinals)
    states = []
    for row in rows:
        states.append((first.machine.state(), len(first.signals), dict(ordinals)))
        ordinals[row[0]] += 1
        first.apply([row])
    for at in random.Random(4).sample(range(len(rows)), 40):
        state, spoken, ordinals = states[at]
        second = Recorded(worker, Chatty, every=3)
        second.machine.restore(state)
        second._ordinals = ordinals
        second.apply(rows[at:])
        assert [canonical(body) for body in second.bodies] == whole[spoken:], f"restored before record {at}"


def events(rows: list[Row], run: Recorded) -> list[Any]:
    make = run.machine.subscriptions[0].make
    return [make(event_ns, *values, *(nan,) * (5 - len(values))) for _, event_ns, values in rows]


@pytest.mark.parametrize(
    ("stream", "changes"),
    [("X/trade", {}), ("X/quote", {}), ("X/bar.1m", {}), ("X/bar.1m", {"models": MODELS})],
    ids=["trades", "quotes", "bars", "bars that models speak of"],
)
def test_a_block_gives_what_its_records_give_one_by_one(stream: str, changes: dict[str, Any]) -> None:
    rows = [row for row in random_rows(5, 60) if row[0] == stream]
    one_by_one, by_block = (Recorded(spec(stream, **changes), Chatty, every=3) for _ in range(2))
    one_by_one.machine.start()
    by_block.machine.start()
    one_by_one.apply(rows)
    subscription, whole, at = by_block.machine.subscriptions[0], events(rows, by_block), 0
    luck = random.Random(5)
    while at < len(whole):
        at += by_block.machine.apply_block(subscription, at, whole[at : at + luck.randrange(1, 20)])
    assert len(by_block.bodies) > 5
    assert by_block.bodies == one_by_one.bodies
    assert by_block.machine.state() == one_by_one.machine.state()


@pytest.mark.parametrize("stream", ["X/trade", "X/quote", "X/bar.1m"])
def test_a_run_gives_what_its_block_gives_and_says_which_record_is_at_hand(stream: str) -> None:
    rows = [row for row in random_rows(5, 60) if row[0] == stream]
    by_run, by_block = (Recorded(spec(stream), Chatty, every=3) for _ in range(2))
    by_run.machine.start()
    by_block.machine.start()
    whole, at = events(rows, by_block), 0
    by_block.machine.apply_block(by_block.machine.subscriptions[0], 0, whole)
    luck = random.Random(5)
    while at < len(whole):
        some = whole[at : at + luck.randrange(1, 20)]
        hand = apply_run(by_run, at, some)
        at += len(some)
        assert hand[0] == 11 + 3 * (at - 1)
    assert len(by_run.bodies) > 5
    assert by_run.bodies == by_block.bodies
    assert [seq for _, _, seq in by_run.signals] == [10 + 3 * body.cause.ordinal for body in by_run.bodies]
    assert by_run.machine.state() == by_block.machine.state()


def test_a_block_counts_the_bars_of_a_warm_up_too() -> None:
    run = Recorded(spec("X/bar.1m"), WantsThreeBars)
    run.machine.start()
    block = events([bar(n) for n in range(1, 7)], run)
    assert run.machine.apply_block(run.machine.subscriptions[0], 0, block) == 6
    assert [body.refusal for body in run.bodies] == ["warming_up"] * 3 + [None] * 3


def test_an_empty_block_changes_nothing() -> None:
    run = Recorded(spec("X/trade"), Silent)
    before = run.machine.state()
    assert run.machine.apply_block(run.machine.subscriptions[0], 0, []) == 0
    assert run.machine.state() == before
