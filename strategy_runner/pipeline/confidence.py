"""Step: the models must be sure enough. Exits pass: a doubtful model must not keep a position open."""

from strategy_runner.pipeline.draft import Draft, Moment

BELOW_THRESHOLD = "confidence_below_threshold"
REASONS = {BELOW_THRESHOLD: "the models' weighted confidence is below their weighted confidence_threshold"}


def confident(draft: Draft, moment: Moment) -> str | None:
    if draft.action == "close" or moment.threshold is None or draft.confidence is None:
        return None
    return BELOW_THRESHOLD if draft.confidence < moment.threshold else None
