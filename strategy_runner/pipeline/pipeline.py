"""The pipeline itself: the steps in their order, and every reason they may refuse for."""

from strategy_runner.pipeline import completion, confidence, protection, validation
from strategy_runner.pipeline.draft import Draft, Moment, Step

STEPS: tuple[Step, ...] = (completion.complete, confidence.confident, validation.validate, protection.protect)

REASONS: dict[str, str] = {
    **completion.REASONS,
    **confidence.REASONS,
    **validation.REASONS,
    **protection.REASONS,
}


def judge(draft: Draft, moment: Moment) -> str | None:
    """Runs the draft through all steps; the first refusal ends it. Returns None or the reason's stable name."""
    for step in STEPS:
        refusal = step(draft, moment)
        if refusal is not None:
            return refusal
    return None
