"""The trading day: which day a moment belongs to, for losses that are counted by the day."""

from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_SECOND_NS = 1_000_000_000


def trading_day(ns: int, day_starts: str, timezone: str) -> int:
    """The day's number, growing by one a day. `day_starts` is HH:MM of the wall clock there, so a day of a clock change has 23
    or 25 hours. A day that starts in the afternoon bears the number of the date on which it starts."""
    hours, minutes = day_starts.split(":")
    local = datetime.fromtimestamp(ns // _SECOND_NS, _zone(timezone)).replace(tzinfo=None)
    return (local - timedelta(hours=int(hours), minutes=int(minutes))).date().toordinal()


@lru_cache(maxsize=8)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
