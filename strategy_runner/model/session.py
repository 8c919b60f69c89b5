"""Trading sessions: when the market of an asset class is open, so that silence out of hours is no fault.

Weekly hours as the venues publish them, in New York's wall time: equities, ETFs, indices and options 09:30-16:00 on weekdays
that are no holiday (NYSE Rule 7.2, https://www.nyse.com/markets/hours-calendars); commodities and futures Sunday 18:00 to
Friday 17:00 with a break from 17:00 to 18:00 each day (CME Globex); foreign exchange Sunday 17:00 to Friday 17:00 (the
rollover of the interbank market); crypto always. Early closes and the holidays of fx and futures count as open: who asks
must bear to be told "open" while nothing comes.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

ALWAYS_OPEN = frozenset({"crypto"})
_ZONE = "America/New_York"
_SECOND_NS = 1_000_000_000
_HORIZON_DAYS = 12
_NIGHT_NS = 3 * 3_600 * _SECOND_NS  # longer than the daily break of what trades around the clock
# session of a weekday: (days before, begin), end
_SESSIONS: dict[str, tuple[int, time, time]] = {
    "fx": (1, time(17), time(17)),
    "commodity": (1, time(18), time(17)),
    "future": (1, time(18), time(17)),
    "equity": (0, time(9, 30), time(16)),
    "etf": (0, time(9, 30), time(16)),
    "index": (0, time(9, 30), time(16)),
    "option": (0, time(9, 30), time(16)),
}
_KEEPS_HOLIDAYS = frozenset({"equity", "etf", "index", "option"})
_SATURDAY, _SUNDAY = 5, 6


def is_open(asset_class: str, ns: int) -> bool:
    """Whether the asset class trades at a moment (nanoseconds UTC). Raises KeyError for an unknown asset class."""
    if asset_class in ALWAYS_OPEN:
        return True
    return any(start <= ns < end for start, end in _around(asset_class, _day_of(ns)))


def next_change(asset_class: str, ns: int) -> int | None:
    """The first moment after `ns` at which it opens or closes; None if it never does. Raises KeyError as `is_open`."""
    if asset_class in ALWAYS_OPEN:
        return None
    for start, end in _around(asset_class, _day_of(ns)):
        if ns < start:
            return start
        if ns < end:
            return end
    raise AssertionError(f"{asset_class}: no session within {_HORIZON_DAYS} days of {ns}")


def is_day_off(asset_class: str, ns: int) -> bool:
    """Whether its market keeps a weekend or a holiday at a moment, and is not only closed for the night: what is quoted before
    the open and after the close may be traded. Crypto has no day off. Raises KeyError as `is_open`."""
    if is_open(asset_class, ns):
        return False
    day = _day_of(ns)
    if asset_class in _KEEPS_HOLIDAYS:
        return day.weekday() in (_SATURDAY, _SUNDAY) or day in us_holidays(day.year)
    around = _around(asset_class, day)
    return any(end <= ns < start and start - end > _NIGHT_NS for (_, end), (start, _) in pairwise(around))


@lru_cache(maxsize=64)
def us_holidays(year: int) -> frozenset[date]:
    """Days on which the New York Stock Exchange stays closed, by NYSE Rule 7.2 as it stands since 2022.

    A holiday on a Saturday is kept on the Friday before, on a Sunday on the Monday after; but New Year's Day on a Saturday is
    not kept, since the year's books close on that Friday.
    """
    fixed = [date(year, 7, 4), date(year, 12, 25)] + ([date(year, 6, 19)] if year >= 2022 else [])
    kept = {_observed(day) for day in fixed}
    if date(year, 1, 1).weekday() != _SATURDAY:
        kept.add(_observed(date(year, 1, 1)))
    kept |= {_nth_weekday(year, 1, 0, 3), _nth_weekday(year, 2, 0, 3), _last_monday_of_may(year)}
    kept |= {_nth_weekday(year, 9, 0, 1), _nth_weekday(year, 11, 3, 4), _easter(year) - timedelta(days=2)}
    return frozenset(kept)


# -- sessions ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _around(asset_class: str, day: date) -> tuple[tuple[int, int], ...]:
    """The sessions [start, end) that may touch a day or follow it, in order; those that meet are one."""
    merged: list[tuple[int, int]] = []
    for start, end in _sessions(asset_class, day - timedelta(days=7), _HORIZON_DAYS + 7):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def _sessions(asset_class: str, first: date, days: int) -> Iterator[tuple[int, int]]:
    days_before, begin, end = _SESSIONS[asset_class]
    for day in (first + timedelta(days=number) for number in range(days)):
        if day.weekday() in (_SATURDAY, _SUNDAY) or (asset_class in _KEEPS_HOLIDAYS and day in us_holidays(day.year)):
            continue
        yield _moment(day - timedelta(days=days_before), begin), _moment(day, end)


def _moment(day: date, at: time) -> int:
    """No session begins or ends in the hour that a change of the clocks skips or repeats."""
    return int(datetime.combine(day, at, ZoneInfo(_ZONE)).timestamp()) * _SECOND_NS


def _day_of(ns: int) -> date:
    return datetime.fromtimestamp(ns // _SECOND_NS, ZoneInfo(_ZONE)).date()


# -- the calendar ------------------------------------------------------------------------------------------------------


def _observed(day: date) -> date:
    shift = {_SATURDAY: -1, _SUNDAY: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _last_monday_of_may(year: int) -> date:
    last = date(year, 5, 31)
    return last - timedelta(days=last.weekday())


def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar: Meeus, Astronomical Algorithms, 2nd edition, chapter 8."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (a + 11 * h) // 319
    r = (2 * e + 2 * i - k - h + m + 32) % 7
    month = (h - m + r + 90) // 25
    return date(year, month, (h - m + r + month + 19) % 32)
