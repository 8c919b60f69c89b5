"""A strategy's wish on its way into the pipeline: its numbers and words checked, and the position it leads to.

A strategy may hand over whatever its libraries count with. A body holds Python floats and text alone, or its canonical
bytes could not be written here and read again by the router.
"""

from math import isfinite
from typing import Any, get_args

from strategy_runner.model.order import TimeInForce
from strategy_runner.model.position_sum import moved
from strategy_runner.model.signal import OrderTerms
from strategy_runner.pipeline.draft import Draft
from strategy_runner.strategies.interface import Proposal

REASONS_CHARS_MAX = 65_536
LIFETIMES = get_args(TimeInForce)
_NUMBERS = ("size", "entry_price", "stop_loss", "take_profit", "confidence", "strength")
_NOT_GIVEN = (None, None, None)


def draft_of(proposal: Proposal) -> Draft:
    """The draft of a proposal. Raises TypeError, ValueError or OverflowError for what is no number or no text."""
    return Draft(
        action=proposal.action,
        size=_number("size", proposal.size),
        entry_price=_number("entry_price", proposal.entry_price),
        stop_loss=_number("stop_loss", proposal.stop_loss),
        take_profit=_number("take_profit", proposal.take_profit),
        confidence=_number("confidence", proposal.confidence),
        strength=_number("strength", proposal.strength),
        reasons=_texts(proposal.reasons),
        terms=_terms(proposal),
        of=_written(str(proposal.of)),
    )


def leave_out_not_finite(draft: Draft) -> None:
    """JSON has no NaN and no infinity, so a refused draft goes without them; in an accepted one there are none."""
    for name in _NUMBERS:
        number = getattr(draft, name)
        if number is not None and not isfinite(number):
            setattr(draft, name, None)
    terms = draft.terms
    if terms is not None:
        prices = {name: getattr(terms, name) for name in ("limit_price", "stop_price", "trail")}
        kept = {name: number for name, number in prices.items() if number is not None and isfinite(number)}
        draft.terms = OrderTerms(**kept, time_in_force=terms.time_in_force)


def position_after(draft: Draft, position: float) -> float:
    """The signed size that the strategy's own signals ask for once this draft is accepted."""
    assert draft.size is not None, "an accepted draft has a size"
    rises = draft.action == "buy" or (draft.action == "close" and position <= 0)
    return moved(position, draft.size if rises else -draft.size)


def _terms(proposal: Proposal) -> OrderTerms | None:
    """None for an order to the market that stays until it is cancelled, as most are."""
    lifetime = proposal.time_in_force
    given = proposal.limit_price, proposal.stop_price, proposal.trail
    if lifetime == "gtc" and given == _NOT_GIVEN:
        return None
    if lifetime not in LIFETIMES:
        raise ValueError(f"time_in_force: expected one of {', '.join(LIFETIMES)}, found {lifetime!r}")
    limit_price, stop_price, trail = map(_number, ("limit_price", "stop_price", "trail"), given)
    return OrderTerms(limit_price=limit_price, stop_price=stop_price, trail=trail, time_in_force=lifetime)


def _number(name: str, value: Any) -> float | None:
    if value is None or type(value) is float:
        return value
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number or None, found {value!r}")
    return float(value)


def _texts(reasons: tuple[Any, ...]) -> list[str]:
    chars = 0
    for reason in reasons:
        if not isinstance(reason, str):
            raise TypeError(f"reasons: expected text, found {reason!r}")
        chars += len(_written(reason))
    if chars > REASONS_CHARS_MAX:
        raise ValueError(f"reasons: expected at most {REASONS_CHARS_MAX} characters, found {chars}")
    return [*map(str, reasons)]


def _written(text: str) -> str:
    """The text, if it can be written: a lone surrogate cannot. Raises UnicodeEncodeError."""
    text.encode()
    return text
