"""Whatever numbers a strategy gives: a signal that is not refused can be traded on."""

from math import isfinite

from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.config.spec import ProtectionSpec
from strategy_runner.model.position_sum import is_within
from strategy_runner.model.signal import Action
from strategy_runner.pipeline.draft import Draft, Moment
from strategy_runner.pipeline.pipeline import REASONS, judge

EDGES = (0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1.7e308, -1.7e308, 1.0, 0.5, float("nan"), float("inf"), float("-inf"))
PLAIN = st.floats(min_value=0.01, max_value=1_000.0)
NUMBERS = st.one_of(PLAIN, st.sampled_from(EDGES), st.floats())
MAYBE = st.none() | NUMBERS
SHARES = st.none() | st.floats(min_value=0.0, max_value=1.0) | NUMBERS
DRAFTS = st.builds(
    Draft,
    action=st.sampled_from(("buy", "sell", "close")),
    size=MAYBE,
    entry_price=MAYBE,
    stop_loss=MAYBE,
    take_profit=MAYBE,
    confidence=SHARES,
    strength=SHARES,
    reasons=st.lists(st.text(max_size=3), max_size=2),
)
UNIT = st.floats(min_value=0.0, max_value=1.0)
MOMENTS = st.builds(
    Moment,
    price=NUMBERS,
    position=NUMBERS,
    default_size=PLAIN,
    # as the configuration allows them: (0, 1) and above 0
    protection=st.builds(
        ProtectionSpec,
        stop_loss_fraction=st.none() | st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True),
        take_profit_fraction=st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    ),
    votes=st.just(()),
    confidence=st.none() | UNIT,
    threshold=st.none() | UNIT,
    needs_models=st.booleans(),
    warm=st.booleans(),
)


@settings(max_examples=800, deadline=None)
@given(DRAFTS, MOMENTS)
def test_an_accepted_signal_has_finite_numbers_a_size_and_protection_on_the_right_side(
    draft: Draft, moment: Moment
) -> None:
    wanted: Action = draft.action
    refusal = judge(draft, moment)
    if refusal is not None:
        assert refusal in REASONS
        return
    assert draft.action == wanted
    assert moment.warm
    assert draft.size is not None
    assert draft.entry_price is not None
    given_numbers = (
        draft.size,
        draft.entry_price,
        draft.stop_loss,
        draft.take_profit,
        draft.confidence,
        draft.strength,
    )
    assert all(number is None or isfinite(number) for number in given_numbers)
    assert draft.size > 0
    assert draft.entry_price > 0
    if draft.action == "close":
        assert is_within(draft.size, moment.position)
        assert draft.reasons[-1] == ("closes:long" if moment.position > 0 else "closes:short")
        return
    assert all(number is None or number <= 1e15 for number in given_numbers)
    if draft.stop_loss is not None:
        assert 0 < draft.stop_loss < draft.entry_price if draft.action == "buy" else draft.stop_loss > draft.entry_price
    if draft.take_profit is not None:
        assert (
            draft.take_profit > draft.entry_price
            if draft.action == "buy"
            else 0 < draft.take_profit < draft.entry_price
        )
    if moment.needs_models:
        assert moment.confidence is not None
        assert moment.threshold is not None
        assert moment.confidence >= moment.threshold
