"""Step: the models must be sure enough. Exits pass: a doubtful model must not keep a position open."""

from strategy_runner.pipeline.draft import Draft, Moment

BELOW_THRESHOLD = "confidence_below_threshold"
NO_FRESH_PREDICTION = "no_fresh_prediction"
REASONS = {
    NO_FRESH_PREDICTION: "models are configured and not all of them have spoken within the last bar",
    BELOW_THRESHOLD: "the models' weighted confidence, or the strategy's own, is below their weighted confidence_threshold",
}


def confident(draft: Draft, moment: Moment) -> str | None:
    """A strategy may doubt more than its models, but a confidence of its own never stands in for theirs."""
    if draft.action == "close" or not moment.needs_models:
        return None
    if moment.threshold is None or moment.confidence is None or draft.confidence is None:
        return NO_FRESH_PREDICTION
    return BELOW_THRESHOLD if min(moment.confidence, draft.confidence) < moment.threshold else None
