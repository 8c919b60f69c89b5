"""Trading sessions: open and closed as the venues publish it, across changes of the clocks and holidays."""

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from strategy_runner.model.session import is_open, next_change, us_holidays

MINUTE_NS = 60_000_000_000


def new_york(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 10**9


HOURS = [
    ("crypto", "2026-01-03T03:00", True),
    ("fx", "2026-01-04T16:59", False),
    ("fx", "2026-01-04T17:00", True),
    ("fx", "2026-01-07T17:30", True),
    ("fx", "2026-01-09T16:59", True),
    ("fx", "2026-01-09T17:00", False),
    ("future", "2026-01-04T17:30", False),
    ("future", "2026-01-04T18:00", True),
    ("commodity", "2026-01-07T17:00", False),
    ("commodity", "2026-01-07T17:59", False),
    ("commodity", "2026-01-07T18:00", True),
    ("future", "2026-01-09T17:00", False),
    ("equity", "2026-01-05T09:29", False),
    ("etf", "2026-01-05T09:30", True),
    ("index", "2026-01-05T15:59", True),
    ("option", "2026-01-05T16:00", False),
    ("equity", "2026-01-03T12:00", False),
    ("equity", "2026-04-03T12:00", False),  # Good Friday
    ("equity", "2026-07-03T12:00", False),  # Independence Day falls on a Saturday
    ("fx", "2026-07-03T12:00", True),
]


@pytest.mark.parametrize(("asset_class", "at", "expected"), HOURS)
def test_a_market_is_open_in_its_hours_and_in_no_others(asset_class: str, at: str, expected: bool) -> None:
    assert is_open(asset_class, new_york(at)) is expected


@pytest.mark.parametrize("day", ["2026-03-06", "2026-03-09", "2026-10-30", "2026-11-02"])
def test_the_hours_are_new_yorks_on_both_sides_of_a_change_of_the_clocks(day: str) -> None:
    opening = new_york(f"{day}T09:30")
    assert (is_open("equity", opening - 1), is_open("equity", opening)) == (False, True)
    assert datetime.fromtimestamp(opening / 1e9, UTC).hour == (14 if day in ("2026-03-06", "2026-11-02") else 13)


CHANGES = [
    ("equity", "2026-01-02T16:00", "2026-01-05T09:30"),
    ("equity", "2026-01-05T12:00", "2026-01-05T16:00"),
    ("equity", "2026-12-24T16:00", "2026-12-28T09:30"),
    ("fx", "2026-01-05T00:00", "2026-01-09T17:00"),
    ("fx", "2026-01-09T17:00", "2026-01-11T17:00"),
    ("future", "2026-01-06T12:00", "2026-01-06T17:00"),
    ("future", "2026-01-06T17:00", "2026-01-06T18:00"),
]


@pytest.mark.parametrize(("asset_class", "at", "expected"), CHANGES)
def test_the_next_change_is_when_it_opens_or_closes(asset_class: str, at: str, expected: str) -> None:
    assert next_change(asset_class, new_york(at)) == new_york(expected)


def test_a_market_that_is_always_open_never_changes() -> None:
    assert next_change("crypto", new_york("2026-01-03T03:00")) is None


@pytest.mark.parametrize("asset_class", ["fx", "commodity", "equity"])
def test_stepping_from_change_to_change_agrees_with_looking_at_every_minute(asset_class: str) -> None:
    at_ns, end_ns = new_york("2026-02-26T00:00"), new_york("2026-03-20T00:00")
    changes = [at_ns]
    while (change_ns := next_change(asset_class, changes[-1])) is not None and change_ns < end_ns:
        changes.append(change_ns)
    states = [is_open(asset_class, ns) for ns in range(at_ns, end_ns, MINUTE_NS)]
    seen = [at_ns + (minute + 1) * MINUTE_NS for minute, (now, then) in enumerate(pairwise(states)) if now != then]
    assert changes[1:] == seen


def test_the_exchanges_holidays_are_those_it_published() -> None:
    """https://www.nyse.com/markets/hours-calendars for 2025 to 2027; 2021 and 2022 for the rule of New Year's Day."""
    published = {
        2022: "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26",
        2025: "01-01 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
        2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
        2027: "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24",
    }
    for year, days in published.items():
        assert us_holidays(year) == {date.fromisoformat(f"{year}-{day}") for day in days.split()}
