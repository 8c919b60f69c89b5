"""The pipeline itself: the steps in their order, and every reason they may refuse for."""

from strategy_runner.model.signal import ORDERING
from strategy_runner.pipeline import bounds, completion, confidence, protection, terms, validation
from strategy_runner.pipeline.draft import Draft, Moment, Step

STEPS: tuple[Step, ...] = (
    terms.place,
    completion.complete,
    confidence.confident,
    validation.validate,
    protection.protect,
    bounds.bound,
)
CHANGE_STEPS: tuple[Step, ...] = (terms.change, bounds.bound)

REASONS: dict[str, str] = {
    **terms.REASONS,
    **completion.REASONS,
    **confidence.REASONS,
    **validation.REASONS,
    **protection.REASONS,
    **bounds.REASONS,
}


def judge(draft: Draft, moment: Moment) -> str | None:
    """Runs the draft through all steps; the first refusal ends it. Returns None or the reason's stable name."""
    for step in STEPS if draft.action in ORDERING else CHANGE_STEPS:
        refusal = step(draft, moment)
        if refusal is not None:
            return refusal
    return None
