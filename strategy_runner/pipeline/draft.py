"""A draft: a proposal on its way through the pipeline, and the moment it is judged in.

Every step takes both and returns None to let the draft pass or the stable name of its reason to refuse it. Steps may
complete the draft; they never look at anything else.
"""

from collections.abc import Callable

import msgspec

from strategy_runner.config.spec import ProtectionSpec
from strategy_runner.model.signal import Action, ModelVote, OrderTerms


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a draft is judged.

    `price` is the last price of the symbol (NaN before the first), `position` the signed size that the strategy holds by its
    fills, or without an OMS asks for by its own signals so far, `threshold` the weighted confidence threshold of the models
    (None without models); with `needs_models` an entry needs the fresh word of every configured model. `has_oms` is whether
    orders are placed at all, or the signals themselves are routed; `worker` is whose signals may be changed.
    """

    price: float
    position: float
    default_size: float
    protection: ProtectionSpec
    votes: tuple[ModelVote, ...]
    confidence: float | None
    threshold: float | None
    needs_models: bool
    warm: bool
    has_oms: bool = False
    worker: str = ""


class Draft(msgspec.Struct, kw_only=True):
    """The proposal, filled in step by step. None means not given."""

    action: Action
    size: float | None
    entry_price: float | None
    stop_loss: float | None
    take_profit: float | None
    confidence: float | None
    strength: float | None
    reasons: list[str]
    terms: OrderTerms | None = None
    of: str = ""


Step = Callable[[Draft, Moment], str | None]
