"""The time stamps of a foreign file: from its unit or pattern and its zone to int64 nanoseconds UTC.

Whole numbers stay whole: a nanosecond count does not fit a float64, so none is ever one. An hour that a zone repeats when
summer time ends is read as its first pass; the second then goes back in time and the gate refuses it, visibly.
"""

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
import numpy as np

from strategy_runner.errors import UsageError
from strategy_runner.history.columns import MISSING_NS, Mask, Times

_UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_OF_DAY = "ms-of-day:"
_OFFSET = re.compile(r"UTC([+-])([0-9]{1,2})(?::([0-5][0-9]))?")
_QUARTER_NS = 15 * 60 * 1_000_000_000  # zones change their offset on whole quarters of an hour
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1680 to 2260: int64 ns reach a little further, which leaves room for zone and interval
_RANGE_NS = 9_150_000_000_000_000_000


class StampParser(msgspec.Struct, frozen=True, kw_only=True):
    """Reads numbers of `unit_ns` counted from `start_ns`, or text of `pattern`, as wall time of `zone`."""

    zone: tzinfo
    unit_ns: int = 0
    start_ns: int = 0
    pattern: str = ""

    @classmethod
    def parse(cls, time: str, zone: str = "UTC") -> "StampParser":
        """Raises UsageError for a time format or zone that is none."""
        if time in _UNITS_NS:
            return cls(zone=_zone(zone), unit_ns=_UNITS_NS[time])
        if time.startswith(_OF_DAY):
            return cls(zone=_zone(zone), unit_ns=_UNITS_NS["ms"], start_ns=_midnight_ns(time.removeprefix(_OF_DAY)))
        _check_pattern(time)
        if "%z" in time and zone != "UTC":
            raise UsageError(f"zone: expected none beside a pattern with %z, found {zone!r}")
        return cls(zone=_zone(zone), pattern=time)

    def to_ns(self, values: Sequence[object]) -> tuple[Times, Mask]:
        """Nanoseconds UTC, and which of the values could not be read (their time is MISSING_NS)."""
        read = self._text_ns if self.pattern else self._count_ns
        wall = np.fromiter((read(value) for value in values), dtype=np.int64, count=len(values))
        unread: Mask = wall == MISSING_NS
        return np.where(unread, MISSING_NS, _to_utc(wall, self.zone, unread)), unread

    def _count_ns(self, value: object) -> int:
        try:
            if isinstance(value, str) and value.isascii() and value.isdigit():
                counted = int(value) * self.unit_ns
            elif isinstance(value, int) and not isinstance(value, bool):
                counted = value * self.unit_ns
            elif isinstance(value, str | float) and "_" not in str(value):
                exact = Decimal(str(value).strip()) * self.unit_ns
                counted = int(exact) if abs(exact) <= _RANGE_NS else MISSING_NS
            else:
                return MISSING_NS
        except (ArithmeticError, ValueError):
            return MISSING_NS
        return _in_range(self.start_ns + counted)

    def _text_ns(self, value: object) -> int:
        if not isinstance(value, str):
            return MISSING_NS
        try:
            stamp = datetime.strptime(value.strip(), self.pattern)
        except (ValueError, OverflowError):
            return MISSING_NS
        return _in_range(_since_epoch_ns(stamp))


def _since_epoch_ns(stamp: datetime) -> int:
    passed = stamp - (_EPOCH if stamp.tzinfo is None else _EPOCH_UTC)
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1_000


def _in_range(ns: int) -> int:
    return ns if -_RANGE_NS <= ns <= _RANGE_NS else MISSING_NS


def _to_utc(wall: Times, zone: tzinfo, unread: Mask) -> Times:
    """Takes the zone's offset away, asking for it once for each quarter of an hour that occurs."""
    if zone is UTC:
        return wall
    quarters, position = np.unique(np.where(unread, 0, wall) // _QUARTER_NS, return_inverse=True)
    offsets = np.fromiter((_offset_ns(int(quarter), zone) for quarter in quarters), dtype=np.int64, count=len(quarters))
    utc: Times = wall - offsets[position]
    return utc


def _offset_ns(quarter: int, zone: tzinfo) -> int:
    offset = (_EPOCH + timedelta(minutes=15 * quarter)).replace(tzinfo=zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds()) * 1_000_000_000


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    fixed = _OFFSET.fullmatch(name)
    if fixed:
        ahead = timedelta(hours=int(fixed[2]), minutes=int(fixed[3] or 0))
        if ahead < timedelta(hours=24):
            return timezone(-ahead if fixed[1] == "-" else ahead)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"zone: expected an IANA name such as America/New_York, UTC, or an offset such as UTC-5, found {name!r}{hint}"
        ) from None


def _midnight_ns(day: str) -> int:
    try:
        return _since_epoch_ns(datetime.combine(date.fromisoformat(day), datetime.min.time()))
    except ValueError:
        raise UsageError(f"time: expected {_OF_DAY}YYYY-MM-DD, found {_OF_DAY + day!r}") from None


def _check_pattern(pattern: str) -> None:
    expected = "s, ms, us, ns, ms-of-day:YYYY-MM-DD or a pattern such as %Y-%m-%d %H:%M:%S"
    if "%" not in pattern:
        raise UsageError(f"time: expected {expected}, found {pattern!r}")
    try:
        datetime.strptime(datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC).strftime(pattern), pattern)
    except ValueError as error:
        raise UsageError(f"time: expected {expected}, found {pattern!r}: {error}") from None
