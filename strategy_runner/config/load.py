"""From files to typed configuration.

Built-in values, then the environment file, then the client file, then STRATEGY_RUNNER__SECTION__KEY variables, then the
command line: each later layer wins. All faults of a file are found in one go.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import msgspec.inspect as inspect

from strategy_runner.config.assignments import apply, assignments, unknown
from strategy_runner.config.decode import Reading
from strategy_runner.config.home import Home
from strategy_runner.config.layers import BUILT_IN, Given, mark, merge
from strategy_runner.config.loaded import Loaded, T
from strategy_runner.config.notation import found, join
from strategy_runner.config.rules import check_client, check_environment
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.config.secret import legible
from strategy_runner.config.suggest import nearest
from strategy_runner.config.toml_file import read_toml
from strategy_runner.errors import ConfigurationError, UsageError, reason_of
from strategy_runner.model.names import CLIENT_PATTERN, RESERVED_CLIENTS

# what a client takes from its environment where its own file says nothing
INHERITED = ("mode", "routes", "log_level", "limits", "storage", "messaging", "oms", "paper")
NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})
ENVIRONMENT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def load_environment(
    home: Home, name: str, *, environ: Mapping[str, str], overrides: Mapping[str, object] = NO_OVERRIDES
) -> Loaded[EnvironmentConfig]:
    """configs/NAME.toml with variables and command line on top. Raises ConfigurationError with every problem found."""
    file = f"configs/{name}.toml"
    if not re.fullmatch(ENVIRONMENT_PATTERN, name):
        raise ConfigurationError(f"environment: expected a name of a-z, 0-9, _ and -, found {found(name)}")
    _must_exist(home, name, file)
    assigned = assignments(environ, overrides)
    strangers = unknown(assigned, (EnvironmentConfig, ClientConfig))
    try:
        raw = read_toml(home.environment_config(name), file)
    except ConfigurationError as error:
        raise ConfigurationError(*error.problems, *strangers) from error
    given = apply(mark(raw, file), EnvironmentConfig, assigned)
    other = ("clients/CLIENT/client.toml", ClientConfig)
    reading = Reading(EnvironmentConfig, file=file, root=home.root, other=other)
    tree = reading.examine(given)
    check_environment(reading, tree, name)
    return _decoded(EnvironmentConfig, reading, tree, file, strangers)


def load_client(
    home: Home,
    client: str,
    environment: Loaded[EnvironmentConfig],
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = NO_OVERRIDES,
) -> Loaded[ClientConfig]:
    """clients/CLIENT/client.toml on top of its environment, with variables and command line on top of both.

    Raises ConfigurationError with every problem found.
    """
    file = f"clients/{client}/client.toml"
    _check_client_name(client)
    assigned = assignments(environ, overrides)
    kind = inspect.type_info(ClientConfig)
    raw = read_toml(home.client_config(client), file)
    if not raw:  # as a full disk or an editor that was killed leaves it: nobody wants to trade nothing
        raise ConfigurationError(f"{file}: expected what the client trades, found an empty file")
    given = merge(kind, _inherited(environment), mark(raw, file))
    given = apply(given, ClientConfig, assigned)
    reading = Reading(ClientConfig, file=file, root=home.root, other=(environment.file, EnvironmentConfig))
    tree = reading.examine(given)
    check_client(reading, tree, environment.value, environment.file)
    return _decoded(ClientConfig, reading, tree, file, unknown(assigned, (EnvironmentConfig, ClientConfig)))


def client_names(home: Home) -> list[str]:
    """The folders below clients/, sorted; hidden ones (.git, __pycache__) are nobody's. Raises ConfigurationError if there is no
    clients/ folder to look into."""
    try:
        return sorted(path.name for path in home.clients.iterdir() if path.is_dir() and path.name[0] not in "._")
    except OSError as error:
        reason = reason_of(error)
        raise ConfigurationError(
            f"clients: expected a folder at {home.clients}, found: {reason}; `strategy-runner init DIR` lays out a home"
        ) from error


def unknown_client(home: Home, name: str, known: Sequence[str]) -> UsageError:
    return UsageError(f"{name}: expected a client of {home.clients}, one of {', '.join(known) or 'none'}")


def _must_exist(home: Home, name: str, file: str) -> None:
    path = home.environment_config(name)
    if path.exists():
        return
    others = sorted(other.stem for other in home.configs.glob("*.toml"))
    near = nearest(name, others)
    hint = f"; did you mean {near}?" if near else (f"; there are {', '.join(others)}" if others else "")
    raise ConfigurationError(f"{file}: expected a file at {path}, found nothing{hint}")


def _check_client_name(client: str) -> None:
    if client in RESERVED_CLIENTS:
        raise ConfigurationError(f"clients/{client}: expected a name that is not reserved, found {found(client)}")
    if not re.fullmatch(CLIENT_PATTERN, client):
        expected = "a name of at most 32 of a-z, 0-9, _ and -, a letter first"
        raise ConfigurationError(f"clients/{legible(client)}: expected {expected}, found {found(client)}")


def _inherited(environment: Loaded[EnvironmentConfig]) -> Given:
    """The environment's part of a client, each value with the origin it had there."""

    def layer(raw: Any, path: str) -> Given:
        if isinstance(raw, dict) and path not in environment.origins:
            given = {key: layer(item, join(path, key)) for key, item in raw.items() if item is not None}
            return Given(given, environment.file)
        return mark(raw, environment.origins.get(path, BUILT_IN))

    raw = msgspec.to_builtins(environment.value)
    return Given({key: layer(raw[key], key) for key in INHERITED}, environment.file)


def _decoded(schema: type[T], reading: Reading, tree: dict[str, Any], file: str, more_problems: list[str]) -> Loaded[T]:
    problems = reading.problems + more_problems
    if problems:
        raise ConfigurationError(*problems)
    return Loaded(msgspec.convert(tree, schema), file, reading.origins)
