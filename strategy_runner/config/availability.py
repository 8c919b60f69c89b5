"""What a valid configuration asks for that does not exist yet, or not on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strategy_runner.config.assignments import COMMAND_LINE
from strategy_runner.config.home import Home
from strategy_runner.config.leaves import leaves
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.config.secret import SecretReference
from strategy_runner.errors import ConfigurationError

_NOT_YET = "not available yet"
_ROUTES = {
    "bigquery": f"{_NOT_YET}; use oms, quantconnect, or none: every signal is in the client's DuckDB file",
}
_STORAGE = {"bigquery": f"{_NOT_YET}; use duckdb"}
_MESSAGING = {"redis": f"{_NOT_YET}; use local", "pubsub": f"{_NOT_YET}; use local"}


def unavailable(environment: Loaded[EnvironmentConfig], client: Loaded[ClientConfig]) -> list[str]:
    """One line for each thing this client cannot be given, naming the file or variable that asks for it."""
    config = client.value
    asked: list[tuple[str, str, dict[str, str]]] = [("routes", route, _ROUTES) for route in config.routes]
    asked += [("storage.kind", config.storage.kind, _STORAGE), ("messaging.kind", config.messaging.kind, _MESSAGING)]
    lines = [f"{client.origin(path)}: {path}: {word}: {known[word]}" for path, word, known in asked if word in known]
    return lines + _records(environment, client)


def unreadable_secrets(loaded: Loaded[Any], environ: Mapping[str, str]) -> list[str]:
    """One line for each secret that cannot be read here and now. Reads files. Shows no value."""
    lines = []
    for path, value in leaves(loaded.value, ""):
        if isinstance(value, SecretReference):
            try:
                value.resolve(environ)
            except ConfigurationError as error:
                lines.append(f"{loaded.origin(path)}: {path}: {error}")
    return lines


def history_folder(home: Home, environment: EnvironmentConfig) -> Path | None:
    """The folder of recorded history, absolute; a relative one lies below the home."""
    folder = environment.history.folder
    return None if folder is None else home.root / folder


def _records(environment: Loaded[EnvironmentConfig], client: Loaded[ClientConfig]) -> list[str]:
    """Where the records of the client's mode would come from, if from nowhere."""
    mode = client.value.mode
    if mode == "live":
        source = environment.value.live.source
        if source is None:
            return [f"{environment.file}: live.source: expected a source, since {_asks(client)}, found nothing"]
        return [f"{environment.origin('live.source')}: live.source: {source}: {_NOT_YET}; no live source exists so far"]
    if mode in ("simulation", "historical") and environment.value.history.folder is None:
        expected = (
            f"expected a folder of recorded history here or as --history DIR, since {_asks(client)}, found nothing"
        )
        return [f"{environment.file}: history.folder: {expected}"]
    return []


def _asks(client: Loaded[ClientConfig]) -> str:
    origin = client.origin("mode")
    return f"{'the command line' if origin == COMMAND_LINE else origin} asks for mode {client.value.mode}"
