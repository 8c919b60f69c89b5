"""Every reason the pipeline may refuse for, with a draft that triggers it and one that just passes."""

from collections.abc import Callable
from math import inf, nan, nextafter
from typing import Any

import msgspec
import pytest

from strategy_runner.config.spec import ProtectionSpec
from strategy_runner.model.signal import OrderTerms
from strategy_runner.pipeline.draft import Draft, Moment
from strategy_runner.pipeline.pipeline import REASONS, judge

MOMENT = Moment(
    price=100.0,
    position=0.0,
    default_size=2.0,
    protection=ProtectionSpec(),
    votes=(),
    confidence=None,
    threshold=None,
    needs_models=False,
    warm=True,
)
SURE = {"needs_models": True, "confidence": 0.8, "threshold": 0.8}
JUST_BELOW = nextafter(0.8, 0.0)
TINY = 5e-324
LARGEST, JUST_ABOVE = 1e15, nextafter(1e15, inf)

Change = dict[str, Any]


def draft(action: str = "buy", **given: Any) -> Draft:
    empty: Change = dict.fromkeys(
        ("size", "entry_price", "stop_loss", "take_profit", "confidence", "strength"), None
    ) | {"reasons": []}
    return Draft(action=action, **{**empty, **given})  # type: ignore[arg-type]  # the tests name real actions


def moment(**given: Any) -> Moment:
    return msgspec.structs.replace(MOMENT, **given)


def fractions(stop_loss: float | None = None, take_profit: float | None = None) -> ProtectionSpec:
    return ProtectionSpec(stop_loss_fraction=stop_loss, take_profit_fraction=take_profit)


# reason, refused draft, its moment, and by how little the same draft in the same moment differs when it passes
CASES: list[tuple[str, Change, Change, Change, Change]] = [
    ("nothing_to_close", {"action": "close"}, {}, {}, {"position": TINY}),
    ("no_fresh_prediction", {}, {"needs_models": True}, {}, {"needs_models": False}),
    ("no_fresh_prediction", {"confidence": 1.0}, {"needs_models": True}, {}, {"needs_models": False}),
    ("confidence_below_threshold", {}, {**SURE, "confidence": JUST_BELOW}, {}, {"confidence": 0.8}),
    ("confidence_below_threshold", {"confidence": JUST_BELOW}, SURE, {"confidence": 0.8}, {}),
    ("confidence_below_threshold", {"confidence": 1.0}, {**SURE, "confidence": 0.1}, {}, {"confidence": 0.8}),
    ("warming_up", {}, {"warm": False}, {}, {"warm": True}),
    ("no_price", {}, {"price": nan}, {}, {"price": TINY}),
    ("no_price", {}, {"price": nan}, {"entry_price": 1.0}, {}),
    ("size_not_positive", {"size": 0.0}, {}, {"size": TINY}, {}),
    ("size_not_positive", {"size": -1.0}, {}, {"size": 1.0}, {}),
    ("size_not_positive", {}, {"default_size": 0.0}, {}, {"default_size": 1.0}),
    ("price_not_positive", {"entry_price": 0.0}, {}, {"entry_price": TINY}, {}),
    ("price_not_positive", {"stop_loss": 0.0}, {}, {"stop_loss": TINY}, {}),
    ("price_not_positive", {"action": "sell", "take_profit": -1.0}, {}, {"take_profit": TINY}, {}),
    ("out_of_range", {"confidence": 1.0000001}, {}, {"confidence": 1.0}, {}),
    ("out_of_range", {"confidence": -TINY}, {}, {"confidence": 0.0}, {}),
    ("out_of_range", {"strength": 1.0000001}, {}, {"strength": 1.0}, {}),
    ("out_of_range", {"strength": -TINY}, {}, {"strength": 0.0}, {}),
    ("close_exceeds_position", {"action": "close", "size": 3.0000001}, {"position": -3.0}, {"size": 3.0}, {}),
    ("close_exceeds_position", {"action": "close", "size": 1.0}, {"position": nan}, {}, {"position": 1.0}),
    ("stop_loss_on_wrong_side", {"stop_loss": 100.0}, {}, {"stop_loss": 99.99}, {}),
    ("stop_loss_on_wrong_side", {"action": "sell", "stop_loss": 100.0}, {}, {"stop_loss": 100.01}, {}),
    ("take_profit_on_wrong_side", {"take_profit": 100.0}, {}, {"take_profit": 100.01}, {}),
    ("take_profit_on_wrong_side", {"action": "sell", "take_profit": 100.0}, {}, {"take_profit": 99.99}, {}),
    ("protection_out_of_reach", {"action": "sell"}, {"protection": fractions(None, 1.0)}, {"action": "buy"}, {}),
    (
        "protection_out_of_reach",
        {"entry_price": 1.7e308},
        {"protection": fractions(0.1, 0.5)},
        {"entry_price": 1.0},
        {},
    ),
]
LIMIT = OrderTerms(limit_price=99.0)
OWN = {"action": "modify", "of": "acme:talk.X@0/0", "size": 1.0}
CASES += [
    ("terms_need_oms", {"terms": LIMIT}, {}, {"terms": None}, {}),
    ("terms_need_oms", {"action": "cancel", "of": "acme:talk.X@0/0"}, {"worker": "acme:talk.X"}, {}, {"has_oms": True}),
    ("terms_not_finite", {"terms": OrderTerms(stop_price=nan)}, {"has_oms": True}, {"terms": LIMIT}, {}),
    ("terms_not_finite", {**OWN, "size": inf}, {"has_oms": True, "worker": "acme:talk.X"}, {"size": 1.0}, {}),
    ("terms_not_positive", {"terms": OrderTerms(trail=0.0)}, {"has_oms": True}, {"terms": OrderTerms(trail=1.0)}, {}),
    (
        "terms_not_positive",
        {**OWN, "stop_loss": -1.0},
        {"has_oms": True, "worker": "acme:talk.X"},
        {"stop_loss": 1.0},
        {},
    ),
    ("no_order_to_change", OWN, {"has_oms": True, "worker": "acme:talk.Y"}, {}, {"worker": "acme:talk.X"}),
    ("number_too_large", {**OWN, "size": 2e15}, {"has_oms": True, "worker": "acme:talk.X"}, {"size": LARGEST}, {}),
    (
        "number_too_large",
        {**OWN, "terms": OrderTerms(stop_price=1e40)},
        {"has_oms": True, "worker": "acme:talk.X"},
        {"terms": OrderTerms(stop_price=LARGEST)},
        {},
    ),
    ("number_too_large", {"size": JUST_ABOVE}, {}, {"size": LARGEST}, {}),
    ("number_too_large", {}, {"default_size": 1e30}, {}, {"default_size": 1.0}),
    ("number_too_large", {"entry_price": JUST_ABOVE}, {}, {"entry_price": LARGEST}, {}),
    ("number_too_large", {"take_profit": 1e30}, {}, {"take_profit": LARGEST}, {}),
    ("number_too_large", {"action": "sell", "stop_loss": 1e30}, {}, {"stop_loss": LARGEST}, {}),
    ("number_too_large", {}, {"protection": fractions(None, 1e30)}, {"stop_loss": 99.0}, {"protection": fractions()}),
    (
        "number_too_large",
        {"terms": OrderTerms(limit_price=1e40), "entry_price": 100.0},
        {"has_oms": True},
        {"terms": OrderTerms(limit_price=LARGEST)},
        {},
    ),
    ("nothing_to_change", OWN | {"size": None}, {"has_oms": True, "worker": "acme:talk.X"}, {"size": 1.0}, {}),
]
NUMBERS: list[tuple[str, Change, Change, Change, Change]] = [
    ("not_finite", {name: bad}, {}, {name: good}, {})
    for name, good in (
        ("size", 1.0),
        ("entry_price", 100.0),
        ("stop_loss", 99.0),
        ("take_profit", 101.0),
        ("confidence", 0.5),
        ("strength", 0.5),
    )
    for bad in (nan, inf, -inf)
]
TABLE = CASES + NUMBERS


@pytest.mark.parametrize(("reason", "wish", "state", "wish_change", "state_change"), TABLE)
def test_a_draft_is_refused_for_this_reason_and_passes_without_it(
    reason: str, wish: Change, state: Change, wish_change: Change, state_change: Change
) -> None:
    assert judge(draft(**wish), moment(**state)) == reason
    assert judge(draft(**wish | wish_change), moment(**state | state_change)) is None


def test_every_reason_of_the_pipeline_has_a_test_and_a_sentence() -> None:
    assert {reason for reason, *_ in TABLE} == set(REASONS)
    assert all(len(sentence.split()) > 4 for sentence in REASONS.values())


def test_the_first_step_that_refuses_names_the_reason() -> None:
    everything_wrong = draft("close", size=nan, entry_price=-1.0, stop_loss=nan)
    assert judge(everything_wrong, moment(warm=False)) == "nothing_to_close"
    assert judge(draft(size=nan, entry_price=-1.0), moment(warm=False)) == "warming_up"
    assert judge(draft(size=nan, entry_price=-1.0), MOMENT) == "not_finite"


@pytest.mark.parametrize("name", ["size", "entry_price", "stop_loss", "take_profit", "confidence", "strength"])
def test_a_number_that_is_not_given_is_no_reason_to_refuse(name: str) -> None:
    assert judge(draft("buy", **{name: None}), MOMENT) is None


@pytest.mark.parametrize(("position", "side"), [(3.0, "closes:long"), (-3.0, "closes:short")])
def test_a_close_takes_the_whole_position_and_says_which_side_it_closes(position: float, side: str) -> None:
    closing = draft("close", reasons=["held long enough"])
    assert judge(closing, moment(position=position)) is None
    assert closing.size == 3.0
    assert closing.reasons == ["held long enough", side]


def test_a_close_of_a_given_size_takes_no_more_than_that() -> None:
    closing = draft("close", size=1.0)
    assert judge(closing, moment(position=-3.0)) is None
    assert closing.size == 1.0


@pytest.mark.parametrize(
    "models",
    [{"needs_models": True}, {**SURE, "confidence": 0.0}],
    ids=["no model has spoken", "the models doubt"],
)
def test_doubtful_or_silent_models_keep_no_position_open(models: Change) -> None:
    assert judge(draft("close"), moment(position=1.0, **models)) is None
    assert judge(draft("buy"), moment(position=1.0, **models)) is not None


def test_whatever_is_held_may_be_closed_at_whatever_the_price_is() -> None:
    closing = draft("close")
    assert judge(closing, moment(position=-3e18, price=1e30)) is None
    assert (closing.size, closing.entry_price) == (3e18, 1e30)


def test_a_close_needs_no_protection_and_gets_none() -> None:
    closing = draft("close")
    assert judge(closing, moment(position=1.0, protection=fractions(0.02, 0.04))) is None
    assert (closing.stop_loss, closing.take_profit) == (None, None)


@pytest.mark.parametrize(("action", "stop_loss", "take_profit"), [("buy", 75.0, 150.0), ("sell", 125.0, 50.0)])
def test_protection_comes_from_the_configured_fractions(action: str, stop_loss: float, take_profit: float) -> None:
    entry = draft(action)
    assert judge(entry, moment(protection=fractions(0.25, 0.5))) is None
    assert (entry.stop_loss, entry.take_profit) == (stop_loss, take_profit)


def test_protection_that_the_strategy_gave_stays_as_it_is() -> None:
    entry = draft("buy", stop_loss=90.0, take_profit=130.0)
    assert judge(entry, moment(protection=fractions(0.25, 0.5))) is None
    assert (entry.stop_loss, entry.take_profit) == (90.0, 130.0)


def test_what_the_strategy_left_open_is_filled_in() -> None:
    entry = draft("buy")
    assert judge(entry, moment(**SURE)) is None
    assert (entry.size, entry.entry_price, entry.confidence) == (2.0, 100.0, 0.8)


def test_what_the_strategy_gave_is_kept() -> None:
    entry = draft("sell", size=5.0, entry_price=101.0, confidence=0.9)
    assert judge(entry, moment(**SURE)) is None
    assert (entry.size, entry.entry_price, entry.confidence) == (5.0, 101.0, 0.9)


def test_without_models_no_confidence_is_made_up() -> None:
    entry = draft("buy")
    assert judge(entry, MOMENT) is None
    assert entry.confidence is None


def test_judging_asks_for_nothing_but_the_draft_and_the_moment() -> None:
    step: Callable[[Draft, Moment], str | None] = judge
    once, twice = draft("buy"), draft("buy")
    assert step(once, MOMENT) == step(twice, MOMENT)
    assert once == twice
