"""Instruments: exact, as the file writes them, and in the currency that their prices are in."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from strategy_runner.config.home import Home
from strategy_runner.config.instruments import instruments_of
from strategy_runner.config.load import client_names, load_client, load_environment
from strategy_runner.config.schema import InstrumentConfig
from strategy_runner.risk.limits import limits_of

HOME = Home(Path(__file__).parents[2])


def instrument(symbol: str, asset_class: Any = "crypto", **given: Any) -> Any:
    one = InstrumentConfig(price=1.0, tick_size=0.1, lot_size=0.00001, asset_class=asset_class, **given)
    return instruments_of({symbol: one})[symbol]


def test_steps_are_those_written_in_the_file_and_not_their_bits() -> None:
    made = instrument("BTC-USD", multiplier=0.1, margin_fraction=0.05)
    steps = (made.tick_size, made.lot_size, made.multiplier, made.margin_fraction)
    assert steps == (Decimal("0.1"), Decimal("0.00001"), Decimal("0.1"), Decimal("0.05"))


@pytest.mark.parametrize(
    ("symbol", "asset_class", "currency"),
    [
        ("BTC-USD", "crypto", "USD"),
        ("BTC-USDT-PERP", "crypto", "USDT"),
        ("EURJPY", "fx", "JPY"),
        ("EUR-JPY", "fx", "JPY"),
        ("SPY", "etf", "USD"),
        ("GOLDEN", "equity", "USD"),
        ("BRK-B", "equity", "USD"),
    ],
)
def test_a_pair_is_quoted_in_its_second_half(symbol: str, asset_class: str, currency: str) -> None:
    assert instrument(symbol, asset_class).currency == currency
    assert instrument(symbol, asset_class, currency="CHF").currency == "CHF"


def test_another_calendar_gives_its_hours() -> None:
    assert instrument("BTC1", "future").hours == "future"
    assert instrument("BTC1", "future", calendar="crypto").hours == "crypto"


def test_the_samples_have_limits_that_let_their_own_sizes_through() -> None:
    environment = load_environment(HOME, "local-dev", environ={})
    for name in client_names(HOME):
        client = load_client(HOME, name, environment, environ={})
        limits = limits_of(client.value.risk, instruments_of(environment.value.instruments))
        total = Decimal(0)
        for strategy in client.value.strategies:
            of_strategy = Decimal(0)
            for symbol in strategy.symbols:
                price = Decimal(str(environment.value.instruments[symbol].price))
                worth = Decimal(str(strategy.size)) * price * limits.instruments[symbol].multiplier
                assert limits.max_order_value is not None
                assert worth <= limits.max_order_value, (name, strategy.id, symbol)
                assert Decimal(str(strategy.size)) <= limits.max_position_size[symbol]
                of_strategy += worth
            assert limits.max_position_notional is not None
            assert of_strategy <= limits.share(strategy.id) * limits.max_position_notional, (name, strategy.id)
            total += of_strategy
        assert total <= limits.max_position_notional, name
