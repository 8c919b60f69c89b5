"""The pace of a feed."""

import pytest

from strategy_runner.feed.pace import FOREVER_NS, Pace


@pytest.mark.parametrize("speed", [1e300, 1e308])
def test_a_speed_beyond_all_time_is_as_fast_as_it_goes(speed: float) -> None:
    pace = Pace(speed)
    assert pace.until_ns(1_000, 0) == 1_000
    assert pace.until_ns(1_000, 3_600_000_000_000) == 1_000 + FOREVER_NS
