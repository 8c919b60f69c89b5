"""Moments in a configuration, and times told to people."""

import pytest

from strategy_runner.config.times import duration, time_ns


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-05T00:00:00Z", 1_767_571_200_000_000_000),
        ("2026-01-05T01:00:00+01:00", 1_767_571_200_000_000_000),
        ("2026-01-05 00:00:00z", 1_767_571_200_000_000_000),
        ("2026-01-05T00:00:00.000000001Z", 1_767_571_200_000_000_001),
        ("2026-01-05T00:00:00.5-00:00", 1_767_571_200_500_000_000),
    ],
)
def test_a_moment_is_exact_to_the_nanosecond(text: str, expected_ns: int) -> None:
    assert time_ns(text) == expected_ns


def test_a_moment_of_old_history_is_one_where_that_is_wanted() -> None:
    assert time_ns("1969-12-31T23:59:59.25Z", 1700) == -750_000_000
    assert time_ns("1700-01-01T00:00:00Z", 1700) == -8_520_336_000_000_000_000
    with pytest.raises(ValueError, match="expected a time from 1700 to 2261"):
        time_ns("1699-12-31T23:59:59Z", 1700)


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "2026-01-05",
        "2026-01-05T00:00:00",
        "2026-01-05T00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-05T24:01:00Z",
        "1969-12-31T23:59:59Z",
        "2262-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2026-01-05T00:00:00Z\n",
    ],
)
def test_what_is_no_moment_or_does_not_fit_the_tape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        time_ns(text)


def test_how_long_something_took_is_told_in_a_unit_that_people_read() -> None:
    seconds = (-1, 0, 119, 120, 7_199, 7_200, 172_799, 172_800, 28_295_940)
    told = [duration(second * 1_000_000_000 + 999_999_999) for second in seconds]
    assert told == ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d", "327 d"]
