"""Aggregation: several strategies of one client want something of one symbol at once. Each signal gets exactly one ruling, and
a refused one knows which signal it lost to.

Exits always pass and concern their own strategy's position alone: nobody's disagreement keeps a position open, and nobody
closes another's. A standing wish, the position a strategy already asked for, speaks like a signal that came earlier.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from strategy_runner.model.order import Side, signed
from strategy_runner.risk.limits import Aggregation

ZERO = Decimal(0)
LOWER_PRIORITY = "lower_priority"
NETTED = "netted"
OUTVOTED = "outvoted"
TIED = "vote_tied"
LESS_CONFIDENT = "less_confident"
CONFIDENCE_TIED = "confidence_tied"
NO_CONFIDENCE = "confidence_missing"
BAD_SIZE = "aggregation_size_invalid"
REASONS: dict[str, str] = {
    LOWER_PRIORITY: "policy `priority`: a strategy that comes before it in `priorities` wants the other side of the symbol",
    NETTED: "policy `net`: what the strategies want of the symbol at once cancels out, or is more on the other side",
    OUTVOTED: "policy `vote`: more strategies want the other side of the symbol",
    TIED: "policy `vote`: as many strategies want one side of the symbol as the other",
    LESS_CONFIDENT: "policy `confidence`: the confidence of those who want the other side adds up to more",
    CONFIDENCE_TIED: "policy `confidence`: both sides are equally sure",
    NO_CONFIDENCE: "policy `confidence`: an entry without a confidence from 0 to 1, against somebody who wants the other side",
    BAD_SIZE: "the size of an entry is NaN, infinite, or not positive",
}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one signal asks for. `size` is positive; an exit (`is_exit`) names its side too."""

    signal_id: str
    strategy: str
    side: Side
    size: Decimal
    confidence: float | None = None
    is_exit: bool = False


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """`size` is what remains of an accepted signal's; `winner` the id of the signal that a refused one lost to, "" if none."""

    signal_id: str
    accepted: bool
    size: Decimal
    reason: str = ""
    winner: str = ""


def aggregate(
    policy: Aggregation, wishes: Sequence[Wish], standing: Sequence[Wish] = (), priorities: Sequence[str] = ()
) -> list[Ruling]:
    """One ruling for each wish, in their order, which is the order they came in. `standing` holds at most one wish a strategy,
    the oldest first; a strategy that speaks now speaks for itself, so its standing wish does not count."""
    sound = [wish for wish in wishes if wish.is_exit or _is_size(wish.size)]
    entries = [wish for wish in sound if not wish.is_exit]
    spoken = {wish.strategy for wish in entries}
    earlier = [wish for wish in standing if wish.strategy not in spoken and _is_size(wish.size)]
    ruled = {ruling.signal_id: ruling for ruling in _POLICIES[policy](entries, earlier, priorities)}
    return [_of_any(wish, ruled) for wish in wishes]


def _of_any(wish: Wish, ruled: dict[str, Ruling]) -> Ruling:
    if wish.is_exit:
        return _accepted(wish)
    return ruled.get(wish.signal_id) or Ruling(signal_id=wish.signal_id, accepted=False, size=ZERO, reason=BAD_SIZE)


# -- policies: one ruling for each entry -------------------------------------------------------------------------------


def _all(entries: list[Wish], _standing: list[Wish], _priorities: Sequence[str]) -> list[Ruling]:
    """Everybody for himself."""
    return [_accepted(wish) for wish in entries]


def _priority(entries: list[Wish], standing: list[Wish], priorities: Sequence[str]) -> list[Ruling]:
    """From the first priority down: who wants the other side of somebody that passed, or stands, is refused. Of equals the
    standing one comes first, then the earlier."""
    ranked = sorted([*standing, *entries], key=lambda wish: _rank(wish, priorities))
    are_standing = {wish.signal_id for wish in standing}
    passed: list[Wish] = []
    rulings: list[Ruling] = []
    for wish in ranked:
        if wish.signal_id in are_standing:
            passed.append(wish)
            continue
        against = next((one for one in passed if one.side != wish.side and one.strategy != wish.strategy), None)
        if against is None:
            passed.append(wish)
        rulings.append(_accepted(wish) if against is None else _refused(wish, LOWER_PRIORITY, against))
    return rulings


def _net(entries: list[Wish], _standing: list[Wish], _priorities: Sequence[str]) -> list[Ruling]:
    """The side that wants more is left with the difference, each of its signals with the same part of its own size; the other
    side is refused. What stands has been traded and is not netted again."""
    wanted = {side: sum((wish.size for wish in entries if wish.side == side), ZERO) for side in ("buy", "sell")}
    more = "buy" if wanted["buy"] > wanted["sell"] else "sell"
    left = abs(wanted["buy"] - wanted["sell"])
    rulings = []
    for wish in entries:
        size = wish.size * left / wanted[more] if left and wish.side == more else ZERO
        if size > 0:
            rulings.append(msgspec.structs.replace(_accepted(wish), size=min(size, wish.size)))
        else:
            rulings.append(_refused(wish, NETTED, _largest([one for one in entries if one.side != wish.side])))
    return rulings


def _vote(entries: list[Wish], standing: list[Wish], _priorities: Sequence[str]) -> list[Ruling]:
    """One vote a strategy, its latest; the side with more votes wins, and with as many nobody does."""
    votes = {wish.strategy: wish for wish in (*standing, *entries)}
    return _weighed(entries, list(votes.values()), lambda _wish: Decimal(1), OUTVOTED, TIED)


def _confidence(entries: list[Wish], standing: list[Wish], _priorities: Sequence[str]) -> list[Ruling]:
    """As a vote, each weighing as much as its confidence. Missing confidence has no weight, and loses to anybody else's."""
    votes = {wish.strategy: wish for wish in (*standing, *entries)}
    if len({wish.side for wish in votes.values()} | {wish.side for wish in entries}) < 2:
        return [_accepted(wish) for wish in entries]
    sure = [wish for wish in votes.values() if _weight(wish) is not None]
    unsure = {wish.signal_id for wish in entries if _weight(wish) is None}
    weighed = _weighed(
        [wish for wish in entries if wish.signal_id not in unsure],
        sure,
        lambda wish: _weight(wish) or ZERO,
        LESS_CONFIDENT,
        CONFIDENCE_TIED,
    )
    return weighed + [_refused(wish, NO_CONFIDENCE, None) for wish in entries if wish.signal_id in unsure]


_POLICIES: dict[Aggregation, Callable[[list[Wish], list[Wish], Sequence[str]], list[Ruling]]] = {
    "all": _all,
    "priority": _priority,
    "net": _net,
    "vote": _vote,
    "confidence": _confidence,
}


# -- inside ------------------------------------------------------------------------------------------------------------


def _weighed(
    entries: list[Wish], votes: list[Wish], weight: Callable[[Wish], Decimal], lost: str, tied: str
) -> list[Ruling]:
    total = sum((signed(wish.side, weight(wish)) for wish in votes), ZERO)
    sides = {wish.side for wish in (*votes, *entries)}
    if len(sides) < 2:
        return [_accepted(wish) for wish in entries]
    rulings = []
    for wish in entries:
        ahead = signed(wish.side, total)
        if ahead > 0:
            rulings.append(_accepted(wish))
            continue
        against = [one for one in votes if one.side != wish.side]
        rulings.append(_refused(wish, lost if ahead < 0 else tied, max(against, key=weight, default=None)))
    return rulings


def _rank(wish: Wish, priorities: Sequence[str]) -> int:
    return list(priorities).index(wish.strategy) if wish.strategy in priorities else len(priorities)


def _largest(wishes: list[Wish]) -> Wish | None:
    """The first of the largest."""
    return max(wishes, key=lambda wish: wish.size, default=None)


def _weight(wish: Wish) -> Decimal | None:
    """NaN is no confidence either."""
    if wish.confidence is None or not 0 <= wish.confidence <= 1:
        return None
    return Decimal(repr(float(wish.confidence)))


def _is_size(size: Decimal) -> bool:
    return size.is_finite() and size > 0


def _accepted(wish: Wish) -> Ruling:
    return Ruling(signal_id=wish.signal_id, accepted=True, size=wish.size)


def _refused(wish: Wish, reason: str, winner: Wish | None) -> Ruling:
    return Ruling(
        signal_id=wish.signal_id, accepted=False, size=ZERO, reason=reason, winner=winner.signal_id if winner else ""
    )
