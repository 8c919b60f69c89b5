"""Attribution: whose a trade's result is, among the models that voted for the signal that opened it.

Each has its part by weight times confidence, as the votes were counted; the parts add up to the result exactly.
"""

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext

from strategy_runner.model.instrument import decimal_of
from strategy_runner.model.signal import ModelVote

NO_MODEL = "(no model)"
PART_DIGITS = Decimal("0.00000001")
_EXACT = Context(prec=200)  # in which all that was taken of a result of any size can be added again


def parts(result: Decimal, votes: Sequence[ModelVote]) -> dict[str, Decimal]:
    """By model. A signal without models, or whose models were not sure of anything, is nobody's."""
    with localcontext(_EXACT):
        return _parts(result, votes)


def _parts(result: Decimal, votes: Sequence[ModelVote]) -> dict[str, Decimal]:
    said = [(vote.model, decimal_of(vote.weight) * decimal_of(vote.confidence)) for vote in votes]
    total = sum((strength for _, strength in said), Decimal(0))
    if total <= 0:
        return {NO_MODEL: result}
    found: dict[str, Decimal] = {}
    left = result
    for model, strength in said[:-1]:
        part = (result * strength / total).quantize(PART_DIGITS)
        found[model] = found.get(model, Decimal(0)) + part
        left -= part
    last = said[-1][0]
    found[last] = found.get(last, Decimal(0)) + left
    return found
