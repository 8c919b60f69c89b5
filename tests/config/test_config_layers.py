"""Which layer wins, and that every value knows the layer it came from."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names, load_client, load_environment
from strategy_runner.config.loaded import Loaded, rows
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig, RiskConfig
from strategy_runner.errors import ConfigurationError

ENVIRONMENT = """\
environment = "local-dev"
log_level = "warning"
[limits]
memory_limit_mb = 256
[instruments."BRK.B"]
asset_class = "equity"
price = 500
tick_size = 0.01
lot_size = 1
"""

CLIENT = """\
[accounts]
"BRK.B" = { venue = "nyse", account = "main" }
[[strategies]]
id = "ride"
strategy = "momentum_rider"
symbols = ["BRK.B"]
timeframe = "1m"
models = [{ model_id = "m" }]
params = { lookback_bars = 5 }
"""

MEMORY = "STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT_MB"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    write(tmp_path / "configs" / "local-dev.toml", ENVIRONMENT)
    write(tmp_path / "clients" / "odum" / "client.toml", CLIENT)
    return Home(tmp_path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def both(
    home: Home, *, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> tuple[Loaded[EnvironmentConfig], Loaded[ClientConfig]]:
    environment = load_environment(home, "local-dev", environ=environ or {}, overrides=overrides or {})
    return environment, load_client(home, "odum", environment, environ=environ or {}, overrides=overrides or {})


def test_each_layer_wins_over_the_one_below_and_is_named_as_the_origin(home: Home) -> None:
    seen: list[tuple[int, str]] = []

    def look(environ: Mapping[str, str], overrides: Mapping[str, object]) -> None:
        client = both(home, environ=environ, overrides=overrides)[1]
        seen.append((client.value.limits.memory_limit_mb, client.origins["limits.memory_limit_mb"]))

    write(home.environment_config("local-dev"), ENVIRONMENT.replace("memory_limit_mb = 256\n", ""))
    look({}, {})
    write(home.environment_config("local-dev"), ENVIRONMENT)
    look({}, {})
    write(home.client_config("odum"), "limits = { memory_limit_mb = 384 }\n" + CLIENT)
    look({}, {})
    look({MEMORY: "640"}, {})
    look({MEMORY: "640"}, {"limits.memory_limit_mb": 700})

    assert seen == [
        (512, "built-in"),
        (256, "configs/local-dev.toml"),
        (384, "clients/odum/client.toml"),
        (640, MEMORY),
        (700, "command line"),
    ]


def test_what_a_client_does_not_say_it_inherits_and_nothing_is_left_open(home: Home) -> None:
    _, client = both(home)

    assert (client.value.mode, client.origins["mode"]) == ("mock", "built-in")
    assert (client.value.log_level, client.origins["log_level"]) == ("warning", "configs/local-dev.toml")
    assert client.value.storage.kind == "duckdb"
    assert client.value.messaging.kind == "local"
    assert client.value.limits.cpu_limit == 1.0


def test_a_section_merges_key_by_key_and_a_list_is_replaced_whole(home: Home) -> None:
    write(home.environment_config("local-dev"), 'routes = ["oms", "bigquery"]\n' + ENVIRONMENT)
    write(home.client_config("odum"), 'routes = ["quantconnect"]\nlimits = { cpu_limit = 2 }\n' + CLIENT)

    _, client = both(home)

    assert client.value.routes == ("quantconnect",)
    assert (client.value.limits.memory_limit_mb, client.value.limits.cpu_limit) == (256, 2.0)
    assert client.origins["limits.memory_limit_mb"] == "configs/local-dev.toml"
    assert client.origins["limits.cpu_limit"] == "clients/odum/client.toml"


def test_a_secret_reference_is_replaced_whole_and_inherited_whole(home: Home) -> None:
    redis = '[messaging]\nkind = "redis"\nurl = "redis://redis:6379/0"\npassword = { env = "REDIS" }\n'
    write(home.environment_config("local-dev"), ENVIRONMENT + redis)
    _, inherited = both(home)
    write(home.client_config("odum"), 'messaging = { password = { file = "secrets/redis" } }\n' + CLIENT)
    _, replaced = both(home)

    assert inherited.value.messaging.password is not None
    assert inherited.value.messaging.password.as_table() == {"env": "REDIS"}
    assert inherited.origins["messaging.password"] == "configs/local-dev.toml"
    assert replaced.value.messaging.password is not None
    assert replaced.value.messaging.password.as_table() == {"file": str(home.root / "secrets/redis")}
    assert replaced.value.messaging.url == "redis://redis:6379/0"


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("STRATEGY_RUNNER__MOCK__SEED", "99", "mock.seed", 99),
        ("STRATEGY_RUNNER__MOCK__SPEED", "2.5", "mock.speed", 2.5),
        ("STRATEGY_RUNNER__MODE", "simulation", "mode", "simulation"),
        ("STRATEGY_RUNNER__MODE", '"historical"', "mode", "historical"),
        ("STRATEGY_RUNNER__MOCK__START", "2026-02-01T00:00:00Z", "mock.start", "2026-02-01T00:00:00Z"),
        ("STRATEGY_RUNNER__HISTORY__FOLDER", "2026", "history.folder", "2026"),
        ("STRATEGY_RUNNER__ROUTES", '["oms"]', "routes", ["oms"]),
        ("STRATEGY_RUNNER__INSTRUMENTS__BRK.B__PRICE", "512", 'instruments."BRK.B".price', 512.0),
    ],
)
def test_a_variable_is_read_as_toml_or_else_as_text(
    home: Home, variable: str, text: str, path: str, value: object
) -> None:
    environment, _ = both(home, environ={variable: text})

    (row,) = [row for row in rows(environment) if row.key == path]
    assert row.origin == variable
    assert row.value == (f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"'))


def test_a_variable_of_many_lines_sets_one_key_and_no_other(home: Home) -> None:
    environment, _ = both(home, environ={"STRATEGY_RUNNER__HISTORY__FOLDER": '"a"\nmode = "live"'})

    assert environment.value.mode == "mock"
    assert environment.value.history.folder == '"a"\nmode = "live"'


def test_a_variable_nested_without_end_is_taken_as_text(home: Home) -> None:
    nested = "[" * 33 + "]" * 33

    with pytest.raises(ConfigurationError, match=r"STRATEGY_RUNNER__ROUTES: routes: expected a list, found "):
        both(home, environ={"STRATEGY_RUNNER__ROUTES": nested})


def test_a_dotted_path_of_the_command_line_is_spelled_as_toml_spells_it(home: Home) -> None:
    environment, client = both(home, overrides={'instruments."BRK.B".price': 9, "history.folder": Path("/data")})

    assert environment.value.instruments["BRK.B"].price == 9.0
    assert environment.value.history.folder == "/data"
    assert environment.origins['instruments."BRK.B".price'] == "command line"
    assert client.value.accounts["BRK.B"].venue == "nyse"


@pytest.mark.parametrize(
    ("environ", "overrides", "problem"),
    [
        (
            {"STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT": "1"},
            {},
            'STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT: expected a known key, found "LIMITS.MEMORY_LIMIT"; '
            "did you mean STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT_MB?",
        ),
        ({"STRATEGY_RUNNER__XYZ": "1"}, {}, 'STRATEGY_RUNNER__XYZ: expected a known key, found "XYZ"'),
        ({"STRATEGY_RUNNER__": "1"}, {}, 'STRATEGY_RUNNER__: expected a known key, found ""'),
        (
            {},
            {"mock.sped": 1},
            'command line: mock.sped: expected a known key, found "mock.sped"; did you mean mock.speed?',
        ),
        (
            {},
            {"strategies[0].size": 1},
            'command line: strategies[0].size: expected a known key, found "strategies[0].size"',
        ),
        (
            {MEMORY: "lots"},
            {},
            f'{MEMORY}: limits.memory_limit_mb: expected an integer in [16, 1048576], found "lots"',
        ),
        (
            {},
            {"mode": "fast"},
            'command line: mode: expected one of "historical", "live", "mock", "simulation", found "fast"',
        ),
    ],
)
def test_a_wrong_variable_or_option_is_named_itself(
    home: Home, environ: dict[str, str], overrides: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        both(home, environ=environ, overrides=overrides)

    assert raised.value.problems == (problem,)


def test_variables_of_others_are_none_of_our_business(home: Home) -> None:
    environ = {"STRATEGY_RUNNER_HOME": "/x", "PATH": "/bin", "STRATEGY": "y"}

    assert both(home, environ=environ)[0].value == both(home)[0].value


def test_a_variable_that_only_the_environment_knows_leaves_the_clients_alone(home: Home) -> None:
    environment, client = both(home, environ={"STRATEGY_RUNNER__TAPE__RETENTION_HOURS": "3"})

    assert environment.value.tape.retention_hours == 3.0
    assert "STRATEGY_RUNNER__TAPE__RETENTION_HOURS" not in client.origins.values()


def test_a_client_that_is_broken_says_so_itself(home: Home) -> None:
    write(home.client_config("broken"), CLIENT.replace('"1m"', '"1 minute"'))
    write(home.client_config("all"), CLIENT)
    home.client_config("empty").parent.mkdir()
    write(home.clients / "README.md", "not a client")
    write(home.clients / ".git" / "client.toml", "not a client either")
    environment, _ = both(home)

    assert client_names(home) == ["all", "broken", "empty", "odum"]
    problems = {
        "all": 'clients/all: expected a name that is not reserved, found "all"',
        "broken": "clients/broken/client.toml: strategies[0].timeframe (ride): "
        'expected a timeframe such as 1s, 5m, 1h or 1d, found "1 minute"',
        "empty": "clients/empty/client.toml: expected a readable file at "
        f"{home.client_config('empty')}, found: no such file or directory",
    }
    for name, problem in problems.items():
        with pytest.raises(ConfigurationError) as raised:
            load_client(home, name, environment, environ={})
        assert raised.value.problems == (problem,)


def test_a_home_without_a_clients_folder_says_where_it_should_be(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError) as raised:
        client_names(other)

    expected = f"clients: expected a folder at {other.clients}, found: no such file or directory"
    assert str(raised.value).startswith(expected)


def test_show_config_has_one_row_for_each_value_with_its_origin(home: Home) -> None:
    text = CLIENT + '[quantconnect]\napi_key = { env = "QC" }\nproject_id = { file = "/run/secrets/id" }\n'
    write(home.client_config("odum"), text)

    _, client = both(home, environ={MEMORY: "640", "QC": "hunter2"})

    shown = {row.key: (row.value, row.origin) for row in rows(client)}
    file = "clients/odum/client.toml"
    assert shown["quantconnect.api_key"] == ('{ env = "QC" }', file)
    assert shown["quantconnect.project_id"] == ('{ file = "/run/secrets/id" }', file)
    assert shown["strategies[0].symbols"] == ('["BRK.B"]', file)
    assert shown["strategies[0].size"] == ("1.0", "built-in")
    assert shown["strategies[0].models[0].id"] == ('"m"', file)
    assert shown["strategies[0].params.lookback_bars"] == ("5", file)
    assert shown['accounts."BRK.B".venue'] == ('"nyse"', file)
    assert shown["limits.memory_limit_mb"] == ("640", MEMORY)
    assert "risk.max_drawdown" not in shown
    assert "hunter2" not in str(rows(client))


def test_every_value_that_is_shown_has_an_origin(home: Home) -> None:
    for loaded in both(home):
        assert [row.key for row in rows(loaded) if row.key not in loaded.origins] == []


def test_a_strategys_own_limits_and_log_level_go_before_its_clients(home: Home) -> None:
    write(home.client_config("odum"), CLIENT + 'log_level = "debug"\nlimits = { memory_limit_mb = 96 }\n')

    _, client = both(home)
    (strategy,) = client.value.strategies

    assert client.value.limits_of(strategy).memory_limit_mb == 96
    assert client.value.limits_of(strategy).cpu_limit == 1.0
    assert client.value.log_level_of(strategy) == "debug"


def test_live_mode_has_no_silent_limits(home: Home) -> None:
    write(home.environment_config("local-dev"), ENVIRONMENT.replace("memory_limit_mb = 256\n", ""))
    limits = [field.name for field in msgspec.structs.fields(RiskConfig) if field.default is None]
    given = {name: 1 for name in ["starting_cash", *limits] if name != "max_drawdown"}
    risk = [f"{name} = {value}" for name, value in given.items()] + ['max_position_size = { "BRK.B" = 1 }']
    write(home.client_config("odum"), "\n".join([CLIENT, "[risk]", *risk, ""]))

    with pytest.raises(ConfigurationError) as raised:
        both(home, overrides={"mode": "live"})

    assert raised.value.problems == (
        "clients/odum/client.toml: risk.max_drawdown: expected a limit, since mode is live, found nothing",
        "clients/odum/client.toml: limits.memory_limit_mb: "
        "expected a limit, since mode is live, found only the built-in 512",
        "clients/odum/client.toml: limits.cpu_limit: expected a limit, since mode is live, found only the built-in 1.0",
        "clients/odum/client.toml: strategies[0].time_to_live_s (ride): expected a limit, since mode is live, found nothing",
        'clients/odum/client.toml: strategies[0].on_restart (ride): expected "resume", "hold", "flatten" or "ask", '
        "since mode is live, found nothing",
    )


def test_only_the_mock_market_needs_to_know_an_instrument_beforehand(home: Home) -> None:
    write(home.client_config("odum"), CLIENT.replace("BRK.B", "BTC-USDT-PERP"))

    with pytest.raises(ConfigurationError, match=r"symbols\[0\] \(ride\): expected an instrument of configs/"):
        both(home)
    _, client = both(home, overrides={"mode": "historical"})

    assert client.value.strategies[0].symbols == ("BTC-USDT-PERP",)
