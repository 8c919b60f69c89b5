"""Timeframes of bars, written as users write them: 1s, 5m, 1h, 1d."""

import re

_UNITS_NS = {"s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000}
# of days four digits: a bar of more may close at no time that 64 bits can say
_PATTERN = re.compile(r"([1-9][0-9]{0,5}(?=[smh])|[1-9][0-9]{0,3}(?=d))([smhd])")
PATTERN = f"^{_PATTERN.pattern}$"


def timeframe_ns(timeframe: str) -> int:
    """Length of a timeframe in nanoseconds. Raises ValueError if it is not like 1s, 5m, 1h or 1d."""
    match = _PATTERN.fullmatch(timeframe)
    if match is None:
        raise ValueError(f"expected a timeframe such as 1s, 5m, 1h or 1d, found {timeframe!r}")
    return int(match[1]) * _UNITS_NS[match[2]]
