"""Times as people write and read them: moments, RFC 3339 with an offset, as int nanoseconds UTC, and how long something took."""

import re
from datetime import UTC, datetime, timedelta

_PATTERN = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|z|[+-]\d{2}:\d{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# the last whole year whose nanoseconds fit into the tape's int64
_YEAR_MAX = 2261


def time_ns(text: str, first_year: int = 1970) -> int:
    """Nanoseconds since 1970 of a moment such as 2026-01-05T00:00:00Z. Raises ValueError if it is none, or before that year."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a time such as 2026-01-05T00:00:00Z, found {text!r}")
    day, clock, fraction, offset = match.groups()
    try:
        found = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
        seconds = (found - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected a time such as 2026-01-05T00:00:00Z, found {text!r}: {error}") from error
    if found < datetime(first_year, 1, 1, tzinfo=UTC) or found.year > _YEAR_MAX:
        raise ValueError(f"expected a time from {first_year} to {_YEAR_MAX}, found {text!r}")
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def moment(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}.{ns % 1_000_000_000:09d}Z"


def duration(ns: int) -> str:
    """For a person, in whole units: 7 s, 5 min, 3 h, 327 d."""
    seconds = max(0, ns) // 1_000_000_000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    hours = seconds // 3600
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"
