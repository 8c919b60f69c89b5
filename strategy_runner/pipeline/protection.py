"""Step: stop loss and take profit, from the strategy if it gave them, else as configured fractions of the price of the entry:
of the one that it waits for, if it waits for one, whatever entry price the strategy names."""

from math import isfinite

from strategy_runner.pipeline.draft import Draft, Moment

STOP_LOSS_SIDE = "stop_loss_on_wrong_side"
TAKE_PROFIT_SIDE = "take_profit_on_wrong_side"
OUT_OF_REACH = "protection_out_of_reach"
REASONS = {
    STOP_LOSS_SIDE: "a stop loss that the entry price has already passed",
    TAKE_PROFIT_SIDE: "a take profit that the entry price has already passed",
    OUT_OF_REACH: "the configured fraction puts the stop loss or take profit where no price can be",
}


def protect(draft: Draft, moment: Moment) -> str | None:
    if draft.action == "close":
        return None
    price, terms = draft.entry_price, draft.terms
    assert price is not None, "validation comes before protection"
    side = 1.0 if draft.action == "buy" else -1.0
    fractions = moment.protection
    trail = None
    if terms is not None:
        trail = terms.trail
        waits_for = [one for one in (terms.limit_price, terms.stop_price) if one is not None]
        if waits_for:  # of a stop-limit the price that is nearer to its stop loss
            price = min(waits_for) if side > 0 else max(waits_for)
    if draft.stop_loss is None and trail is not None:
        draft.stop_loss = price - side * trail
    if draft.stop_loss is None and fractions.stop_loss_fraction is not None:
        draft.stop_loss = price * (1.0 - side * fractions.stop_loss_fraction)
    if draft.take_profit is None and fractions.take_profit_fraction is not None:
        draft.take_profit = price * (1.0 + side * fractions.take_profit_fraction)
    for level in (draft.stop_loss, draft.take_profit):
        # a sell's take profit of 100 % would lie at zero, and a fraction of a huge price may lie beyond all floats
        if level is not None and not (level > 0 and isfinite(level)):
            return OUT_OF_REACH
    if draft.stop_loss is not None and (price - draft.stop_loss) * side <= 0:
        return STOP_LOSS_SIDE
    if draft.take_profit is not None and (draft.take_profit - price) * side <= 0:
        return TAKE_PROFIT_SIDE
    return None
