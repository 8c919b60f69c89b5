"""Step: nothing incomplete, nothing that is not a finite number and no price at or below zero may become a signal."""

from math import isfinite

from strategy_runner.model.position_sum import is_within
from strategy_runner.pipeline.draft import Draft, Moment

WARMING_UP = "warming_up"
NO_PRICE = "no_price"
NOT_FINITE = "not_finite"
SIZE_NOT_POSITIVE = "size_not_positive"
PRICE_NOT_POSITIVE = "price_not_positive"
OUT_OF_RANGE = "out_of_range"
MORE_THAN_POSITION = "close_exceeds_position"
REASONS = {
    WARMING_UP: "the strategy has not yet seen the records it declared it needs",
    NO_PRICE: "no price of the symbol is known yet",
    NOT_FINITE: "a number of the signal is NaN or infinite",
    SIZE_NOT_POSITIVE: "the size is zero or negative",
    PRICE_NOT_POSITIVE: "the entry price, stop loss or take profit is zero or negative",
    OUT_OF_RANGE: "confidence or strength lies outside [0, 1]",
    MORE_THAN_POSITION: "a close of more than the strategy holds",
}


def validate(draft: Draft, moment: Moment) -> str | None:
    if not moment.warm:
        return WARMING_UP
    size, entry, stop, target = draft.size, draft.entry_price, draft.stop_loss, draft.take_profit
    if entry is None:
        return NO_PRICE
    confidence, strength = draft.confidence, draft.strength
    # plain lines: most signals give few of these numbers, and a loop over all of them costs twice as much
    if not (isfinite(entry) and _is_finite(size) and _is_finite(stop) and _is_finite(target)):
        return NOT_FINITE
    if not (_is_finite(confidence) and _is_finite(strength)):
        return NOT_FINITE
    if size is None or size <= 0:
        return SIZE_NOT_POSITIVE
    if entry <= 0 or (stop is not None and stop <= 0) or (target is not None and target <= 0):
        return PRICE_NOT_POSITIVE
    if (confidence is not None and not 0 <= confidence <= 1) or (strength is not None and not 0 <= strength <= 1):
        return OUT_OF_RANGE
    if draft.action == "close" and not is_within(size, moment.position):
        return MORE_THAN_POSITION
    return None


def _is_finite(number: float | None) -> bool:
    return number is None or isfinite(number)
