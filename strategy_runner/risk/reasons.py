"""Every reason for which risk refuses a signal or an order, with its sentence: the table of the reference is made from it."""

from strategy_runner.risk import aggregation, changes, checks, priority, sizing

REASONS: dict[str, str] = {
    **aggregation.REASONS,
    **sizing.REASONS,
    **priority.REASONS,
    **checks.REASONS,
    **changes.REASONS,
}
