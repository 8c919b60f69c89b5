"""Step: no price and no size so large that no order can have it, as comes of a division by almost nothing."""

from strategy_runner.pipeline.draft import Draft, Moment

NUMBER_MAX = 1e15  # beyond it a float64 does not tell tenths apart
TOO_LARGE = "number_too_large"
REASONS = {
    TOO_LARGE: "a size, price or trail above 1e15; whatever is held may be closed at whatever the market's price is"
}


def bound(draft: Draft, _moment: Moment) -> str | None:
    """The last step, so that what others refuse has their reason."""
    if draft.action != "close":
        size, entry, stop, target = draft.size, draft.entry_price, draft.stop_loss, draft.take_profit
        # plain lines, as in validation
        if (size is not None and size > NUMBER_MAX) or (entry is not None and entry > NUMBER_MAX):
            return TOO_LARGE
        if (stop is not None and stop > NUMBER_MAX) or (target is not None and target > NUMBER_MAX):
            return TOO_LARGE
    terms = draft.terms
    if terms is None:
        return None
    given = (terms.limit_price, terms.stop_price, terms.trail)
    return TOO_LARGE if any(number is not None and number > NUMBER_MAX for number in given) else None
