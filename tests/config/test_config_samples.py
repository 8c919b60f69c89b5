"""The sample files that a new home starts with, and what they ask for that does not exist yet."""

from pathlib import Path

import msgspec
import pytest

from strategy_runner.config.availability import history_folder, unavailable, unreadable_secrets
from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, load_client, load_environment
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.errors import ConfigurationError
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.strategies.registry import BUILTIN, load_client_strategies

HOME = Home(Path(__file__).parents[2])


def samples(
    name: str, overrides: dict[str, object] | None = None
) -> tuple[Loaded[EnvironmentConfig], dict[str, Loaded[ClientConfig]]]:
    given = overrides or {}
    environment = load_environment(HOME, name, environ={}, overrides=given)
    names = client_names(HOME)
    return environment, {one: load_client(HOME, one, environment, environ={}, overrides=given) for one in names}


@pytest.mark.parametrize("name", ["local-dev", "integration", "cloud"])
def test_every_sample_is_whole(name: str) -> None:
    environment, clients = samples(name)

    assert environment.value.environment == name
    assert list(clients) == ["christian", "ikenna", "odum"]


def test_local_development_needs_nothing_that_does_not_exist() -> None:
    environment, clients = samples("local-dev")

    assert [line for client in clients.values() for line in unavailable(environment, client)] == []


def test_the_mock_market_of_local_development_starts_at_a_fixed_moment() -> None:
    environment, _ = samples("local-dev")

    assert environment.value.mock.start_ns == 1_767_623_400_000_000_000
    assert load_environment(HOME, "cloud", environ={}).value.mock.start_ns == 0


def test_the_sample_parameters_are_those_their_strategies_take() -> None:
    _, clients = samples("local-dev")

    for name, client in clients.items():
        known = {**BUILTIN, **load_client_strategies(HOME.client_strategies(name))}
        for strategy in client.value.strategies:
            found = known[strategy.strategy]
            msgspec.convert(strategy.params, found.Params)
            assert timeframe_ns(strategy.timeframe) > 0
            assert bool(strategy.models) == found.inputs.predictions


def test_what_integration_and_cloud_need_from_outside_is_said() -> None:
    environment, clients = samples("integration")
    assert unavailable(environment, clients["odum"]) == [
        "configs/integration.toml: messaging.kind: redis: not available yet; use local"
    ]

    environment, clients = samples("cloud")
    assert unavailable(environment, clients["odum"]) == [
        "configs/cloud.toml: storage.kind: bigquery: not available yet; use duckdb",
        "configs/cloud.toml: messaging.kind: pubsub: not available yet; use local",
    ]


def test_routes_that_do_not_exist_yet_are_refused_where_they_are_asked_for() -> None:
    environment, clients = samples("local-dev", {"routes": ["oms", "quantconnect", "bigquery"]})

    why = "not available yet; use oms, quantconnect, or none: every signal is in the client's DuckDB file"
    assert unavailable(environment, clients["ikenna"]) == [f"command line: routes: bigquery: {why}"]


def test_live_mode_without_a_source_is_refused_and_so_is_one_that_nobody_wrote() -> None:
    environment, clients = samples("local-dev", {"mode": "live"})
    assert unavailable(environment, clients["ikenna"]) == [
        "configs/local-dev.toml: live.source: expected a source, since the command line asks for mode live, found nothing"
    ]

    environment, clients = samples("local-dev", {"mode": "live", "live.source": "websocket"})
    assert unavailable(environment, clients["ikenna"]) == [
        "command line: live.source: websocket: not available yet; no live source exists so far"
    ]


def test_recorded_modes_want_a_folder_of_history() -> None:
    environment, clients = samples("local-dev", {"mode": "historical"})
    assert unavailable(environment, clients["ikenna"]) == [
        "configs/local-dev.toml: history.folder: "
        "expected a folder of recorded history here or as --history DIR, "
        "since the command line asks for mode historical, found nothing"
    ]
    assert history_folder(HOME, environment.value) is None

    environment, clients = samples("local-dev", {"mode": "historical", "history.folder": "history"})
    assert unavailable(environment, clients["ikenna"]) == []
    assert history_folder(HOME, environment.value) == HOME.root / "history"


def test_secrets_that_cannot_be_read_here_are_listed_with_the_keys_that_want_them() -> None:
    _, clients = samples("local-dev")

    assert unreadable_secrets(clients["ikenna"], {"IKENNA_QC_API_KEY": "hunter2"}) == [
        "clients/ikenna/client.toml: quantconnect.project_id: "
        'secret { env = "IKENNA_QC_PROJECT_ID" }: '
        "expected the environment variable IKENNA_QC_PROJECT_ID, found: it is not set"
    ]


def test_a_client_that_is_not_there_is_a_configuration_error() -> None:
    environment, _ = samples("local-dev")

    with pytest.raises(ConfigurationError, match=r"clients/nobody/client\.toml: expected a readable file at"):
        load_client(HOME, "nobody", environment, environ={})
