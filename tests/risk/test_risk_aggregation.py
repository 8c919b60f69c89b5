"""Strategies that want different things of one symbol: who gets it, and what the others are told."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.model.order import Side
from strategy_runner.risk.aggregation import REASONS, Wish, aggregate
from strategy_runner.risk.limits import Aggregation

POLICIES: tuple[Aggregation, ...] = ("all", "priority", "net", "vote", "confidence")


def wish(
    strategy: str, side: Side, size: str = "1", *, confidence: float | None = 0.5, is_exit: bool = False, n: int = 0
) -> Wish:
    return Wish(
        signal_id=f"{strategy}/{n}",
        strategy=strategy,
        side=side,
        size=Decimal(size),
        confidence=confidence,
        is_exit=is_exit,
    )


def told(
    policy: Aggregation, *wishes: Wish, standing: tuple[Wish, ...] = (), priorities: tuple[str, ...] = ()
) -> list[str]:
    """`ok SIZE`, or the reason and the winner."""
    return [
        f"ok {ruling.size.normalize():f}"
        if ruling.accepted
        else f"{ruling.reason} by {ruling.winner}".removesuffix(" by ")
        for ruling in aggregate(policy, wishes, standing, priorities)
    ]


def test_all_lets_everybody_have_his_own() -> None:
    assert told("all", wish("a", "buy"), wish("b", "sell")) == ["ok 1", "ok 1"]


def test_the_first_priority_wins_and_the_loser_knows_against_whom() -> None:
    wishes = wish("a", "buy"), wish("b", "sell"), wish("c", "sell")
    assert told("priority", *wishes, priorities=("b", "a")) == ["lower_priority by b/0", "ok 1", "ok 1"]
    assert told("priority", *wishes, priorities=("a",)) == ["ok 1", "lower_priority by a/0", "lower_priority by a/0"]


def test_who_was_refused_refuses_nobody() -> None:
    wishes = wish("a", "buy"), wish("b", "sell"), wish("c", "buy")
    assert told("priority", *wishes, priorities=("a", "b", "c")) == ["ok 1", "lower_priority by a/0", "ok 1"]


def test_a_position_speaks_for_its_strategy_and_never_against_a_higher_one() -> None:
    standing = (wish("a", "buy", n=7),)
    assert told("priority", wish("b", "sell"), standing=standing, priorities=("a", "b")) == ["lower_priority by a/7"]
    assert told("priority", wish("b", "sell"), standing=standing, priorities=("b", "a")) == ["ok 1"]
    assert told("priority", wish("b", "sell"), standing=standing) == ["lower_priority by a/7"], "of equals the earlier"


def test_a_strategy_may_change_its_own_mind() -> None:
    assert told("priority", wish("a", "sell"), standing=(wish("a", "buy", n=7),), priorities=("a",)) == ["ok 1"]


def test_net_leaves_the_difference_to_the_side_that_wants_more() -> None:
    wishes = wish("a", "buy", "6"), wish("b", "buy", "2"), wish("c", "sell", "4")
    assert told("net", *wishes) == ["ok 3", "ok 1", "netted by a/0"]


def test_what_cancels_out_is_refused_on_both_sides() -> None:
    assert told("net", wish("a", "buy", "2"), wish("b", "sell", "2")) == ["netted by b/0", "netted by a/0"]


def test_the_majority_wins_and_a_tie_stops_everybody() -> None:
    a, b, c = wish("a", "buy"), wish("b", "sell", "9"), wish("c", "buy")
    assert told("vote", a, b, c) == ["ok 1", "outvoted by a/0", "ok 1"]
    assert told("vote", a, b) == ["vote_tied by b/0", "vote_tied by a/0"]
    assert told("vote", b, standing=(a, c)) == ["outvoted by a/0"]
    assert told("vote", a) == ["ok 1"]
    changed = wish("a", "buy", n=1)
    assert told("priority", changed, wish("b", "buy"), standing=(wish("a", "sell", n=7),)) == ["ok 1", "ok 1"]


def test_a_strategy_has_one_vote_its_latest() -> None:
    wishes = wish("a", "buy", n=0), wish("a", "buy", n=1), wish("b", "sell")
    assert told("vote", *wishes) == ["vote_tied by b/0", "vote_tied by b/0", "vote_tied by a/1"]


def test_the_more_confident_side_wins() -> None:
    a, b, c = wish("a", "buy", confidence=0.9), wish("b", "sell", confidence=0.5), wish("c", "sell", confidence=0.3)
    assert told("confidence", a, b, c) == ["ok 1", "less_confident by a/0", "less_confident by a/0"]
    even = wish("b", "sell", confidence=0.9)
    assert told("confidence", a, even) == ["confidence_tied by b/0", "confidence_tied by a/0"]


@pytest.mark.parametrize("confidence", [None, float("nan"), float("inf"), -0.1, 1.1])
def test_a_missing_confidence_loses_and_is_never_zero_or_one(confidence: float | None) -> None:
    unsure, sure = wish("a", "buy", confidence=confidence), wish("b", "sell", confidence=0.1)
    assert told("confidence", unsure, sure) == ["confidence_missing", "ok 1"]
    assert told("confidence", unsure, wish("b", "buy")) == ["ok 1", "ok 1"], "nobody disagrees"


@pytest.mark.parametrize("policy", POLICIES)
def test_exits_pass_whatever_others_want(policy: Aggregation) -> None:
    leaving = wish("a", "sell", is_exit=True)
    others = [wish(name, "buy", confidence=1.0) for name in "bcd"]
    assert told(policy, leaving, *others, priorities=("b",))[0] == "ok 1"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", ["NaN", "Infinity", "0", "-1"])
def test_a_size_that_is_none_is_refused_and_counts_for_nobody(policy: Aggregation, size: str) -> None:
    assert told(policy, wish("a", "buy", size), wish("b", "sell")) == ["aggregation_size_invalid", "ok 1"]


WISHES = st.builds(
    wish,
    st.sampled_from("abc"),
    st.sampled_from(("buy", "sell")),
    st.sampled_from(("1", "2.5", "0.001", "1e9", "NaN", "0", "-3")),
    confidence=st.none() | st.floats() | st.floats(0, 1),
    is_exit=st.booleans(),
)


@given(st.sampled_from(POLICIES), st.lists(WISHES, max_size=8), st.lists(WISHES, max_size=3), st.permutations("abc"))
def test_every_signal_gets_exactly_one_ruling(
    policy: Aggregation, drawn: list[Wish], before: list[Wish], priorities: list[str]
) -> None:
    numbered = [
        Wish(
            signal_id=f"now/{n}",
            strategy=one.strategy,
            side=one.side,
            size=one.size,
            confidence=one.confidence,
            is_exit=one.is_exit,
        )
        for n, one in enumerate(drawn)
    ]
    standing = [
        wish(one.strategy, one.side, n=n) for n, one in enumerate({one.strategy: one for one in before}.values())
    ]
    rulings = aggregate(policy, numbered, standing, priorities)
    assert [ruling.signal_id for ruling in rulings] == [one.signal_id for one in numbered]
    assert rulings == aggregate(policy, numbered, standing, priorities)
    known = {one.signal_id: one for one in (*numbered, *standing)}
    for ruling, asked in zip(rulings, numbered, strict=True):
        if ruling.accepted:
            assert (ruling.reason, ruling.winner) == ("", "")
            assert asked.is_exit or 0 < ruling.size <= asked.size
        else:
            assert ruling.reason in REASONS
            assert ruling.size == 0
            assert not asked.is_exit
        if ruling.winner:
            assert known[ruling.winner].side != asked.side
    if policy not in ("all",):
        sides = {
            asked.side for ruling, asked in zip(rulings, numbered, strict=True) if ruling.accepted and not asked.is_exit
        }
        if policy != "priority":
            assert len(sides) <= 1, "no policy but these two trades against itself"
