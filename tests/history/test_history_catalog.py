"""What a history folder holds for a symbol."""

from pathlib import Path

import pytest

from strategy_runner.errors import ConfigurationError, UsageError
from strategy_runner.history.catalog import all_histories, find_series, series_of
from strategy_runner.model.stream import bars, quotes, trades


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def hold(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_trades_are_the_base_and_quotes_accompany_them(folder: Path) -> None:
    hold(folder, "trades/SPY", "quotes/SPY", "bars_1m/SPY")
    found = find_series(folder, "SPY")
    assert found.base.stream == trades("SPY")
    assert found.base.interval_ns == 0
    assert [series.stream for series in found.others] == [quotes("SPY")]


def test_without_trades_the_finest_bars_are_the_base(folder: Path) -> None:
    hold(folder, "bars_1d/SPY", "bars_90s/SPY", "bars_5m/SPY", "quotes/SPY")
    found = find_series(folder, "SPY")
    assert found.base.stream == bars("SPY", "90s")
    assert found.base.interval_ns == 90_000_000_000
    assert found.others == ()


def test_quotes_are_the_base_where_there_is_nothing_else(folder: Path) -> None:
    hold(folder, "quotes/SPY")
    found = find_series(folder, "SPY")
    assert found.base.stream == quotes("SPY")
    assert found.others == ()


def test_all_symbols_found_in_one_look_are_as_each_is_by_itself(folder: Path) -> None:
    hold(folder, "trades/SPY", "quotes/SPY", "bars_1m/SPY", "bars_1m/GLD", "bars_5m/GLD", "quotes/TLT", "quotes/TLT-1m")
    assert all_histories(folder) == {symbol: find_series(folder, symbol) for symbol in ("SPY", "GLD", "TLT")}


def test_bars_of_recorded_bars_are_those_that_they_add_up_to_and_of_trades_all(folder: Path) -> None:
    hold(folder, "trades/SPY", "bars_1m/GLD")
    assert [find_series(folder, "GLD").makes_bars(one) for one in ("10s", "1m", "90s", "5m")] == [
        False,
        True,
        False,
        True,
    ]
    assert find_series(folder, "SPY").makes_bars("10s")


def test_a_summary_of_one_quote_a_minute_is_no_series(folder: Path) -> None:
    hold(folder, "quotes/SPY-1m", "quotes/SPY", "trades/AAPL", "quotes/AAPL-1m")
    assert all_histories(folder) == {symbol: find_series(folder, symbol) for symbol in ("AAPL", "SPY")}
    assert find_series(folder, "AAPL").others == ()
    with pytest.raises(ConfigurationError):
        find_series(folder, "SPY-1m")


def test_other_folders_and_stray_files_are_passed_over(folder: Path) -> None:
    hold(folder, "funding/SPY", "bars_/SPY", "bars_1x/SPY", "trades/.hidden")
    (folder / "trades" / "GOOG.csv").touch()
    assert all_histories(folder) == {}


def test_an_unknown_symbol_is_named_with_all_that_was_looked_for_and_a_close_match(folder: Path) -> None:
    hold(folder, "bars_1m/BTC-USD", "trades/SPY")
    with pytest.raises(ConfigurationError) as caught:
        find_series(folder, "BTC-USDT")
    assert str(caught.value) == (
        f"{folder}: history of BTC-USDT: expected trades/BTC-USDT.parquet, bars_<timeframe>/BTC-USDT.parquet "
        "or quotes/BTC-USDT.parquet, found none of them; did you mean BTC-USD?"
    )


def test_a_symbol_cannot_leave_the_folder(folder: Path) -> None:
    hold(folder, "trades/SPY")
    with pytest.raises(ConfigurationError):
        find_series(folder / "trades", "../trades/SPY")


@pytest.mark.parametrize("make, found", [(None, "nothing"), (Path.touch, "a file")])
def test_a_folder_that_is_none_is_a_mistake_of_the_command_line(folder: Path, make: object, found: str) -> None:
    missing = folder / "history"
    if callable(make):
        make(missing)
    with pytest.raises(UsageError, match=f"expected a folder, found {found}"):
        find_series(missing, "SPY")


def test_a_place_in_the_folder_follows_from_kind_and_symbol(folder: Path) -> None:
    assert series_of(folder, "bars_5m", "SPY").path == folder / "bars_5m" / "SPY.parquet"
    with pytest.raises(ValueError, match="expected trades, quotes or bars_<timeframe>"):
        series_of(folder, "candles", "SPY")


def test_the_recorded_symbols_have_the_bases_their_files_say(recorded_data: Path) -> None:
    bases = {symbol: find_series(recorded_data, symbol) for symbol in ("SPY", "BTC-USDT-PERP", "EURUSD", "BTC-USD")}
    assert {symbol: found.base.stream.name for symbol, found in bases.items()} == {
        "SPY": "SPY/trade",
        "BTC-USDT-PERP": "BTC-USDT-PERP/trade",
        "EURUSD": "EURUSD/bar.1m",
        "BTC-USD": "BTC-USD/bar.1m",
    }
    assert [series.stream.name for series in bases["BTC-USDT-PERP"].others] == ["BTC-USDT-PERP/quote"]
    assert bases["SPY"].others == ()
