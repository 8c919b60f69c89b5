"""Step: how an order is to be placed, and what is to be changed of one that was. Both need somebody who places orders."""

from math import isfinite

from strategy_runner.model.signal import ORDERING
from strategy_runner.pipeline.draft import Draft, Moment

NEEDS_OMS = "terms_need_oms"
TERMS_NOT_FINITE = "terms_not_finite"
TERMS_NOT_POSITIVE = "terms_not_positive"
NO_ORDER = "no_order_to_change"
NOTHING_TO_CHANGE = "nothing_to_change"
REASONS = {
    NEEDS_OMS: "a limit, stop, trail or time in force, a modification or a cancellation, without a route to an OMS",
    TERMS_NOT_FINITE: "a limit price, stop price or trail is NaN or infinite",
    TERMS_NOT_POSITIVE: "a limit price, stop price or trail is zero or negative",
    NO_ORDER: "a modification or cancellation before this strategy has asked for anything, or of another's signal",
    NOTHING_TO_CHANGE: "a modification that names nothing to change",
}


def place(draft: Draft, moment: Moment) -> str | None:
    """A limit or stop price is what an entry is judged by, and where its stop loss begins to trail."""
    terms = draft.terms
    if terms is None:
        return None
    if not moment.has_oms:
        return NEEDS_OMS
    numbers = [one for one in (terms.limit_price, terms.stop_price, terms.trail) if one is not None]
    if not all(map(isfinite, numbers)):
        return TERMS_NOT_FINITE
    if any(one <= 0 for one in numbers):
        return TERMS_NOT_POSITIVE
    price = terms.limit_price if terms.limit_price is not None else terms.stop_price
    if draft.entry_price is None and price is not None and draft.action in ORDERING:
        draft.entry_price = price
    return None


def change(draft: Draft, moment: Moment) -> str | None:
    """For a modification or cancellation, which the steps of an entry do not judge: nothing new is entered by it."""
    refusal = NEEDS_OMS if not moment.has_oms else place(draft, moment)
    if refusal is not None:
        return refusal
    if not draft.of.startswith(f"{moment.worker}@"):
        return NO_ORDER
    numbers = [one for one in (draft.size, draft.stop_loss, draft.take_profit) if one is not None]
    if not all(map(isfinite, numbers)):
        return TERMS_NOT_FINITE
    if any(one <= 0 for one in numbers):
        return TERMS_NOT_POSITIVE
    terms = draft.terms
    has_price = terms is not None and (terms.limit_price is not None or terms.stop_price is not None)
    return NOTHING_TO_CHANGE if draft.action == "modify" and not numbers and not has_price else None
