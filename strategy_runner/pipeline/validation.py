"""Step: nothing incomplete, nothing that is not a finite number and no price at or below zero may become a signal."""

from math import isfinite

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
    if draft.entry_price is None:
        return NO_PRICE
    prices = (draft.entry_price, draft.stop_loss, draft.take_profit)
    shares = (draft.confidence, draft.strength)
    for number in (draft.size, *prices, *shares):  # plain loops: `all` over a generator costs three times as much
        if number is not None and not isfinite(number):
            return NOT_FINITE
    if draft.size is None or draft.size <= 0:
        return SIZE_NOT_POSITIVE
    for price in prices:
        if price is not None and price <= 0:
            return PRICE_NOT_POSITIVE
    for share in shares:
        if share is not None and not 0 <= share <= 1:
            return OUT_OF_RANGE
    if draft.action == "close" and not draft.size <= abs(moment.position):  # a position that is NaN allows nothing
        return MORE_THAN_POSITION
    return None
