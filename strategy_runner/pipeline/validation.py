"""Step: nothing incomplete and nothing that is not a finite number may become a signal."""

from math import isfinite

from strategy_runner.pipeline.draft import Draft, Moment

WARMING_UP = "warming_up"
NO_PRICE = "no_price"
NOT_FINITE = "not_finite"
SIZE_NOT_POSITIVE = "size_not_positive"
OUT_OF_RANGE = "out_of_range"
MORE_THAN_POSITION = "close_exceeds_position"
REASONS = {
    WARMING_UP: "the strategy has not yet seen the records it declared it needs",
    NO_PRICE: "no price of the symbol is known yet",
    NOT_FINITE: "a number of the signal is NaN or infinite",
    SIZE_NOT_POSITIVE: "the size is zero or negative",
    OUT_OF_RANGE: "confidence or strength lies outside [0, 1]",
    MORE_THAN_POSITION: "a close of more than the strategy's own signals ask for",
}


def validate(draft: Draft, moment: Moment) -> str | None:
    if not moment.warm:
        return WARMING_UP
    if draft.entry_price is None:
        return NO_PRICE
    numbers = (draft.size, draft.entry_price, draft.stop_loss, draft.take_profit, draft.confidence, draft.strength)
    if not all(number is None or isfinite(number) for number in numbers):
        return NOT_FINITE
    if draft.size is None or draft.size <= 0:
        return SIZE_NOT_POSITIVE
    if not all(number is None or 0 <= number <= 1 for number in (draft.confidence, draft.strength)):
        return OUT_OF_RANGE
    if draft.action == "close" and draft.size > abs(moment.position):
        return MORE_THAN_POSITION
    return None
