"""The pipeline itself: the steps in their order, and every reason they may refuse for."""

from strategy_runner.model.signal import ORDERING
from strategy_runner.pipeline import completion, confidence, protection, terms, validation
from strategy_runner.pipeline.draft import Draft, Moment, Step

STEPS: tuple[Step, ...] = (
    terms.place,
    completion.complete,
    confidence.confident,
    validation.validate,
    protection.protect,
)

REASONS: dict[str, str] = {
    **terms.REASONS,
    **completion.REASONS,
    **confidence.REASONS,
    **validation.REASONS,
    **protection.REASONS,
}


def judge(draft: Draft, moment: Moment) -> str | None:
    """Runs the draft through all steps; the first refusal ends it. Returns None or the reason's stable name."""
    if draft.action not in ORDERING:
        return terms.change(draft, moment)
    for step in STEPS:
        refusal = step(draft, moment)
        if refusal is not None:
            return refusal
    return None
