"""What streams, workers and timeframes are called."""

import pytest

from strategy_runner.model.names import WorkerKey
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars, clock, predictions, quotes, trades
from strategy_runner.model.timeframe import timeframe_ns


@pytest.mark.parametrize(
    "stream, name",
    [
        (trades("BTC-USD"), "BTC-USD/trade"),
        (quotes("BRK.B"), "BRK.B/quote"),
        (bars("BTC-USD", "1m"), "BTC-USD/bar.1m"),
        (predictions("BTC-USD", "swing_v1", "5m"), "BTC-USD/prediction.swing_v1.5m"),
        (clock("BTC-USD", "1s"), "BTC-USD/clock.1s"),
        (clock("", "1s"), "clock/1s"),
        (clock("clock", "1s"), "clock/clock.1s"),
        (bars("clock", "1m"), "clock/bar.1m"),
        (Stream("BTC-USD", Kind.FUNDING), "BTC-USD/funding"),
        (Stream("BTC-USD", Kind.NEWS), "BTC-USD/news"),
    ],
)
def test_a_stream_and_its_name_are_one_thing(stream: Stream, name: str) -> None:
    assert stream.name == name
    assert Stream.parse(name) == stream


@pytest.mark.parametrize(
    "name",
    [
        "",
        "BTC-USD",
        "/trade",
        "BTC-USD/",
        "BTC-USD/candle.1m",
        "BTC-USD/private",
        "BTC-USD/bar",
        "BTC-USD/bar.0m",
        "BTC-USD/bar.1x",
        "BTC-USD/trade.1m",
        "BTC-USD/quote.fast",
        "BTC-USD/prediction.1m",
        "BTC-USD/prediction.swing_v1",
        "BTC-USD/extra/trade",
        "clock/",
        "clock/soon",
    ],
)
def test_a_name_that_is_no_stream_is_refused_with_what_was_found(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, found "):
        Stream.parse(name)


def test_a_worker_is_named_by_client_strategy_and_symbol() -> None:
    key = WorkerKey("ikenna", "swing_high_v1", "BRK.B")
    assert key.name == "ikenna:swing_high_v1.BRK.B"
    assert WorkerKey.parse(key.name) == key


@pytest.mark.parametrize("name", ["", "ikenna", "ikenna:swing", "ikenna:.BTC", "ikenna:swing.", ":swing.BTC"])
def test_half_a_name_is_no_worker(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected CLIENT:STRATEGY\.SYMBOL"):
        WorkerKey.parse(name)


def test_timeframes_are_lengths() -> None:
    assert [timeframe_ns(name) // 1_000_000_000 for name in ("1s", "5m", "1h", "1d", "90s")] == [
        1,
        300,
        3600,
        86400,
        90,
    ]


@pytest.mark.parametrize("name", ["", "m", "0m", "01m", "-1m", "1.5m", "1 m", "1M", "1m\n", "1234567s", "10000d"])
def test_what_is_no_timeframe_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a timeframe such as 1s, 5m, 1h or 1d"):
        timeframe_ns(name)
