"""Step: fill in what the strategy left open: size, entry price, confidence, and the side that a close takes."""

from strategy_runner.pipeline.draft import Draft, Moment

NOTHING_TO_CLOSE = "nothing_to_close"
REASONS = {NOTHING_TO_CLOSE: "a close while the strategy holds nothing, by its fills or, without an OMS, its signals"}


def complete(draft: Draft, moment: Moment) -> str | None:
    """A close takes the whole position unless a size is given, and says which side it closes."""
    if draft.entry_price is None and moment.price == moment.price:
        draft.entry_price = moment.price
    if draft.confidence is None:
        draft.confidence = moment.confidence
    if draft.action != "close":
        if draft.size is None:
            draft.size = moment.default_size
        return None
    if moment.position == 0:
        return NOTHING_TO_CLOSE
    if draft.size is None:
        draft.size = abs(moment.position)
    draft.reasons.append("closes:long" if moment.position > 0 else "closes:short")
    return None
