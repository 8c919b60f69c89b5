"""The prices that one answer rests on: each is looked up once, whatever the market does meanwhile."""

from decimal import Decimal
from pathlib import Path

from worker.build import START_NS, new_tape, write_rows

from strategy_runner.config.home import Home
from strategy_runner.supervision.holdings import prices_of_runs


def test_a_symbol_has_one_price_in_one_answer_while_the_market_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tape = new_tape(home.market("mock"))
    write_rows(tape, [("X/trade", START_NS, (100.0, 1.0, 1.0))])
    prices = prices_of_runs(home, {"acme": "mock", "beta": "mock"})["acme"]
    assert prices.of("X") == Decimal(100)
    write_rows(tape, [("X/trade", START_NS + 1, (101.0, 1.0, 1.0))])
    assert prices.of("X") == Decimal(100)
    assert prices_of_runs(home, {"acme": "mock"})["acme"].of("X") == Decimal(101)


def test_without_a_tape_or_a_record_there_is_no_price(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert prices_of_runs(home, {"acme": "mock"})["acme"].of("X") is None
    new_tape(home.market("mock"))
    assert prices_of_runs(home, {"acme": "mock"})["acme"].of("X") is None
