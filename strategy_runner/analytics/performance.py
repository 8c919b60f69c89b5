"""Performance: the usual measures of a series of results. Pure; money stays exact, ratios are None where they have no meaning."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

ZERO = Decimal(0)


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """Of ended trades, in the order in which they ended. `profit_factor` is what the winners won for each unit that the losers
    lost; `max_drawdown` is the most that the sum of results fell below the highest it had been, from 0 on."""

    trades: int
    won: int
    win_rate: float | None
    profit_factor: float | None
    result: Decimal
    average: Decimal | None
    best: Decimal | None
    worst: Decimal | None
    max_drawdown: Decimal


def performance(results: Sequence[Decimal]) -> Performance:
    won = [one for one in results if one > 0]
    lost = -sum((one for one in results if one < 0), ZERO)
    total = sum(results, ZERO)
    return Performance(
        trades=len(results),
        won=len(won),
        win_rate=len(won) / len(results) if results else None,
        profit_factor=float(sum(won, ZERO) / lost) if lost else None,
        result=total,
        average=total / len(results) if results else None,
        best=max(results, default=None),
        worst=min(results, default=None),
        max_drawdown=max_drawdown(results),
    )


def max_drawdown(results: Iterable[Decimal]) -> Decimal:
    value = peak = deepest = ZERO
    for one in results:
        value += one
        peak = max(peak, value)
        deepest = max(deepest, peak - value)
    return deepest
