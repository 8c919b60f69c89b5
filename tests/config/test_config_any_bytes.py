"""Whatever stands in a file: either it is whole, or a ConfigurationError says what is wrong. Nothing else ever happens."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.config.home import Home
from strategy_runner.config.load import load_client, load_environment
from strategy_runner.config.loaded import rows
from strategy_runner.config.notation import written
from strategy_runner.errors import ConfigurationError

SAMPLES = Home(Path(__file__).parents[2])
ENVIRONMENT = SAMPLES.environment_config("local-dev").read_bytes()
CLIENT = SAMPLES.client_config("ikenna").read_bytes()
PIECES = st.sampled_from(
    [b"=", b"[", b"]", b"{", b'"', b"\n", b".", b"-", b"inf", b"nan", b"5", b"true", b"\xff", b"\x00"]
)

values: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
keys = st.sampled_from(
    [
        "mode",
        "routes",
        "limits",
        "storage",
        "messaging",
        "oms",
        "paper",
        "accounts",
        "risk",
        "quantconnect",
        "strategies",
    ]
)


def load(environment: bytes, client: bytes, overrides: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.environment_config("local-dev").parent.mkdir()
        home.environment_config("local-dev").write_bytes(environment)
        home.client_config("ikenna").parent.mkdir(parents=True)
        home.client_config("ikenna").write_bytes(client)
        try:
            loaded = load_environment(home, "local-dev", environ={}, overrides=overrides)
            whole = load_client(home, "ikenna", loaded, environ={}, overrides=overrides)
        except ConfigurationError as error:
            assert error.problems
            assert all(problem and "\n" not in problem for problem in error.problems)
        else:
            assert {row.key for row in rows(whole)} <= whole.origins.keys()
            msgspec.json.encode(whole.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(CLIENT)), st.integers(0, 12), PIECES)
def test_any_damage_to_a_client_file(at: int, gone: int, piece: bytes) -> None:
    load(ENVIRONMENT, CLIENT[:at] + piece + CLIENT[at + gone :], {})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(ENVIRONMENT)), st.integers(0, 12), PIECES)
def test_any_damage_to_an_environment_file(at: int, gone: int, piece: bytes) -> None:
    load(ENVIRONMENT[:at] + piece + ENVIRONMENT[at + gone :], CLIENT, {})


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, max_size=3))
def test_any_value_in_the_place_of_any_other(overrides: dict[str, object]) -> None:
    load(ENVIRONMENT, CLIENT, overrides)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_any_parameters_of_a_strategy(params: dict[str, Any]) -> None:
    strategy = {"id": "x", "strategy": "y", "symbols": ["BTC-USD"], "timeframe": "1m", "params": params}
    load(ENVIRONMENT, CLIENT, {"strategies": [strategy]})


@settings(max_examples=60, deadline=None)
@given(values)
def test_any_value_is_written_in_one_line(value: Any) -> None:
    assert "\n" not in written(value)
