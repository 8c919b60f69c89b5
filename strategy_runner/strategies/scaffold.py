"""Starting points on disk: a new client's folder, and a new strategy with its test. Never overwrites anything, and leaves
nothing half-made."""

import keyword
import re
import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from strategy_runner.config.home import Home
from strategy_runner.errors import UsageError, naming
from strategy_runner.model.names import CLIENT_PATTERN, RESERVED_CLIENTS, STRATEGY_PATTERN
from strategy_runner.strategies.client_code import snake_case
from strategy_runner.strategies.registry import BUILTIN

# what the template itself uses by these names
_TAKEN_CLASS_NAMES = frozenset({"Annotated", "Bar", "Inputs", "Meta", "Params", "Strategy"})


def new_client(home: Home, name: str) -> list[Path]:
    """Writes clients/NAME/client.toml, valid as it is, and an empty strategies folder; returns what it made.

    Raises UsageError if the name is bad or taken.
    """
    if not re.fullmatch(CLIENT_PATTERN, name):
        raise UsageError(f"client: expected at most 32 of a-z, 0-9, _ and -, a letter first, found {name!r}")
    if name in RESERVED_CLIENTS:
        raise UsageError(f"client: expected none of {', '.join(sorted(RESERVED_CLIENTS))}, found {name!r}")
    config, strategies = home.client_config(name), home.client_strategies(name)
    if config.parent.exists():
        raise UsageError(f"clients/{name}: expected a name that is free, found a folder of it")
    strategies.mkdir(parents=True)
    try:
        _write(config, "client.toml.template", client=name)
    except OSError:
        shutil.rmtree(config.parent)
        raise
    return [config, strategies]


def new_strategy(home: Home, client: str, name: str) -> list[Path]:
    """Writes a working strategy and a test beside it into a client's strategies folder; returns both paths.

    Raises UsageError if there is no such client, or the name is bad or taken.
    """
    if not home.client_config(client).is_file():
        raise UsageError(
            f"clients/{client}: expected a client, found none; strategy-runner new-client {client} makes it"
        )
    if not re.fullmatch(STRATEGY_PATTERN, name):
        raise UsageError(f"strategy: expected at most 48 letters, digits, _ and -, a letter first, found {name!r}")
    if name in BUILTIN:
        raise UsageError(f"strategy: expected a name that is free, found {name!r}, which is built in")
    stem = name.replace("-", "_")
    if stem.startswith("test_") or stem == "conftest":
        raise UsageError(f"strategy: expected a name that is not a test's, found {name!r}")
    # pytest puts the folder first: its tests would import this file in the place of that module
    if find_spec(stem) is not None:
        raise UsageError(
            f"strategy: expected a name that is free, found {name!r}, which is a module of Python or a library"
        )
    folder = home.client_strategies(client)
    code, test = folder / f"{stem}.py", folder / f"test_{stem}.py"
    for path in (code, test):
        if path.exists():
            raise UsageError(
                f"clients/{client}/strategies/{path.name}: expected a name that is free, found a file of it"
            )
    class_name = _class_name(name)
    own_name = "" if snake_case(class_name) == name else f'    name = "{name}"\n'
    folder.mkdir(exist_ok=True)
    words = {"client": client, "name": name, "stem": stem, "class_name": class_name, "own_name": own_name}
    _write(code, "strategy.py.template", **words)
    try:
        _write(test, "test_strategy.py.template", **words)
    except OSError:
        code.unlink()
        raise
    return [code, test]


def _class_name(name: str) -> str:
    """`my-breakout_v1` → `MyBreakoutV1`; a word that Python or the template needs gets `Strategy` behind it."""
    class_name = "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", name))
    taken = keyword.iskeyword(class_name) or class_name in _TAKEN_CLASS_NAMES
    return f"{class_name}Strategy" if taken else class_name


def _write(path: Path, template: str, **words: str) -> None:
    text = Template((files("strategy_runner.strategies") / "templates" / template).read_text("utf-8")).substitute(words)
    with naming(path), path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:  # a full disk: half of it would be a file that the client's configuration is refused for
            path.unlink()
            raise
