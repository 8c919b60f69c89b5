"""What the scaffold writes works as it is: the client validates, the strategy loads, its test passes."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from strategy_runner.config.home import Home
from strategy_runner.config.load import load_client, load_environment
from strategy_runner.errors import UsageError
from strategy_runner.strategies.describe import Use, resolve
from strategy_runner.strategies.scaffold import new_client, new_strategy

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return Home(tmp_path)


@pytest.mark.parametrize("environment", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_a_new_client_is_valid_as_it_is(home: Home, environment: str) -> None:
    written = new_client(home, "ada-2")
    assert written == [home.client_config("ada-2"), home.client_strategies("ada-2")]
    loaded = load_environment(home, environment, environ={})
    client = load_client(home, "ada-2", loaded, environ={}).value
    assert client.accounts["BTC-USD"].account == "ada-2-main"
    uses = [Use(strategy.strategy, strategy.params, strategy.id) for strategy in client.strategies]
    assert [one.params for one in resolve(home.client_strategies("ada-2"), uses)] == [{"fast": 20, "slow": 50}]


def test_what_the_new_clients_file_offers_in_comments_is_toml_too(home: Home) -> None:
    config, _ = new_client(home, "ada")
    offered = config.read_text().split("# A strategy that listens to models:")[1]
    lines = [line.removeprefix("# ").removeprefix("#") for line in offered.splitlines()]
    tables = tomllib.loads(
        "\n".join(line for line in lines if not line.endswith(":")).replace("Keys are", "# Keys are")
    )
    assert tables["strategies"][0]["strategy"] == "swing_low"
    assert set(tables["quantconnect"]) == {"project_id", "api_key"}


@pytest.mark.parametrize("name", ["", "Ada", "1ada", "a" * 33, "ada/..", "ada\n", "market", "all"])
def test_a_bad_name_of_a_client_is_refused(home: Home, name: str) -> None:
    with pytest.raises(UsageError, match="client: expected"):
        new_client(home, name)
    assert not home.clients.exists()


def test_an_existing_client_is_never_touched(home: Home) -> None:
    config, _ = new_client(home, "ada")
    config.write_text("mine")
    with pytest.raises(UsageError, match="clients/ada: expected a name that is free"):
        new_client(home, "ada")
    assert config.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["breakout", "my-breakout_v1", "RSIFade", "true", "strategy", "params", "a__b", "x" * 45]
)
def test_a_new_strategy_is_found_by_its_name_and_its_test_passes(home: Home, name: str) -> None:
    new_client(home, "ada")
    code, test = new_strategy(home, "ada", name)
    (resolved,) = resolve(home.client_strategies("ada"), [Use(name, {}, "x")])
    assert resolved.description.code == str(code)
    assert max(len(line) for path in (code, test) for line in path.read_text().splitlines()) <= 120
    check = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=home.root,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in check.stdout, check.stdout + check.stderr


@pytest.mark.parametrize(
    "name", ["", "1st", "two words", "a" * 49, "../up", "swing_high", "test_me", "test-me", "conftest"]
)
def test_a_bad_name_of_a_strategy_is_refused(home: Home, name: str) -> None:
    new_client(home, "ada")
    with pytest.raises(UsageError, match="strategy: expected"):
        new_strategy(home, "ada", name)
    assert list(home.client_strategies("ada").iterdir()) == []


def test_an_existing_strategy_is_never_touched(home: Home) -> None:
    new_client(home, "ada")
    code, _ = new_strategy(home, "ada", "break_out")
    code.write_text("mine")
    with pytest.raises(UsageError, match=r"strategies/break_out\.py: expected a name that is free"):
        new_strategy(home, "ada", "break-out")
    assert code.read_text() == "mine"


def test_a_strategy_needs_a_client(home: Home) -> None:
    with pytest.raises(UsageError, match="clients/nobody: expected a client, found none"):
        new_strategy(home, "nobody", "breakout")
