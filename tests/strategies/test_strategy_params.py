"""Params from a file are typed, in range, finite and complete, or every fault is named."""

from enum import Enum
from math import inf, nan
from typing import Annotated, Any, Literal

import msgspec
import pytest

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.interface import Params, Strategy
from strategy_runner.strategies.mean_reversion import MeanReversion, MeanReversionParams
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover, MovingAverageCrossoverParams
from strategy_runner.strategies.params import build_params


class LevelsParams(Params, frozen=True):
    levels: list[Annotated[float, msgspec.Meta(gt=0)]]
    label: str = ""

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError("expected at least one level")


class Levels(Strategy):
    Params = LevelsParams


def problems(strategy: type[Strategy], params: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        build_params(strategy, params, "client.toml")
    return caught.value.problems


def test_defaults_fill_what_is_not_given_and_an_integer_serves_as_a_float() -> None:
    assert build_params(MovingAverageCrossover, {"fast": 5}, "x") == MovingAverageCrossoverParams(fast=5, slow=50)
    params = build_params(MeanReversion, {"entry_z": 3}, "x")
    assert isinstance(params, MeanReversionParams)
    assert type(params.entry_z) is float


def test_every_fault_is_named_at_once_with_expected_and_found() -> None:
    assert problems(MovingAverageCrossover, {"fast": "5", "slow": 1, "fsat": 3}) == (
        'client.toml: params.fast: expected int, found "5"',
        "client.toml: params.slow: expected int >= 2, found 1",
        "client.toml: params.fsat: expected one of fast, slow, found this unknown key; did you mean fast?",
    )


def test_a_boolean_is_no_number() -> None:
    assert problems(MovingAverageCrossover, {"fast": True}) == ("client.toml: params.fast: expected int, found true",)


@pytest.mark.parametrize(("number", "shown"), [(nan, "nan"), (inf, "inf"), (-inf, "-inf")])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(number: float, shown: str) -> None:
    expected = f"expected a finite number, found {shown}"
    assert problems(MeanReversion, {"entry_z": number}) == (f"client.toml: params.entry_z: {expected}",)
    assert problems(Levels, {"levels": [1.0, number]}) == (f"client.toml: params.levels[1]: {expected}",)


def test_a_fault_inside_a_list_is_named_by_its_place() -> None:
    assert problems(Levels, {"levels": [1.0, -1.0]}) == (
        "client.toml: params.levels[1]: expected float > 0.0, found -1.0",
    )


class Side(Enum):
    LONG = "long"
    SHORT = "short"


class SidesParams(Params, frozen=True):
    side: Side | None = None
    kinds: tuple[Literal["wide", "thin"], ...] = ()


class Sides(Strategy):
    Params = SidesParams


def test_a_value_that_is_none_of_a_few_is_told_with_those() -> None:
    assert problems(Sides, {"side": "lnog", "kinds": ["wide", "thick"]}) == (
        'client.toml: params.side: expected one of "long", "short", found "lnog"',
        'client.toml: params.kinds[1]: expected one of "thin", "wide", found "thick"',
    )


def test_a_required_value_that_is_not_given_is_named() -> None:
    assert problems(Levels, {}) == ("client.toml: params.levels: expected a value, found none",)


def test_a_check_across_fields_is_shown_at_its_field_or_at_params() -> None:
    assert problems(MovingAverageCrossover, {"fast": 9, "slow": 8}) == (
        "client.toml: params.fast: expected less than slow (8), found 9",
    )
    assert problems(Levels, {"levels": []}) == ("client.toml: params: expected at least one level",)


def test_a_strategy_without_params_says_so() -> None:
    assert problems(Strategy, {"fast": 1}) == (
        "client.toml: params.fast: expected one of no parameters, found this unknown key",
    )
