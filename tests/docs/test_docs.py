"""The documents say what the code does: tables, links, commands and the strategies of the tutorial."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from strategy_runner.cli.main import every_verb
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.pipeline.pipeline import REASONS
from strategy_runner.strategies.testing import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
REFERENCE = (DOCS / "reference.md").read_text()
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
_PATH = re.compile(r"`((?:strategy_runner|scripts|configs|clients|supervisor|systemd|docs|tests)/[\w./-]+)`")


# -- the reference -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_tables", DOCS / "reference_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_reference_are_those_of_the_code(tables: ModuleType) -> None:
    assert tables.filled(REFERENCE) == REFERENCE, "run: python docs/reference_tables.py"


def test_every_command_and_option_has_help_and_stands_in_the_reference() -> None:
    for name, command in every_verb().items():
        assert f"\n### {name}\n" in REFERENCE
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"
                assert option.opts[-1] in REFERENCE, f"{name} {option.opts}"


def test_every_configuration_key_stands_in_the_reference(tables: ModuleType) -> None:
    keys = [path for schema in (EnvironmentConfig, ClientConfig) for path, _, _ in tables.config_keys(schema)]
    assert {"mode", "tape.retention_gb", "strategies[].models[].weight", "risk.max_drawdown"} <= set(keys)
    assert [key for key in keys if f"| `{key}` |" not in REFERENCE] == []
    assert sorted(tables.KEYS.keys() - set(keys)) == [], "keys that no file knows any more"


def test_every_reason_to_refuse_stands_in_the_reference() -> None:
    assert [reason for reason in REASONS if f"| `{reason}` |" not in REFERENCE] == []


# -- all pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link, anchor in _LINK.findall(page.read_text()):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    missing = [path for path in _PATH.findall(page.read_text()) if not named(path)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_can_be_given(page: Path) -> None:
    """Verb and options exist; nothing is run."""
    for words in shown_commands(page):
        for operator in ("|", ">", ">>", "&&", "#", "&"):
            words = words[: words.index(operator)] if operator in words else words  # noqa: PLW2901  shortened, no more
        if not words or words[0] in ("--help", "--version"):
            continue
        if words[0] == "--home":
            words = words[2:]  # noqa: PLW2901
        assert words[0] in every_verb(), f"{page.name}: {words}"
        command = every_verb()[words[0]]
        parser = command.make_parser(click.Context(command))
        try:
            parser.parse_args(list(words[1:]))
        except click.UsageError as error:
            raise AssertionError(f"{page.name}: {' '.join(words)}: {error.format_message()}") from error


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def named(path: str) -> bool:
    """Whether it is there; names in capitals and the tutorial's own client stand for what a reader makes."""
    return (ROOT / path).exists() or any(word in path for word in ("CLIENT", "NAME", "clients/acme/"))


def shown_commands(page: Path) -> Iterator[list[str]]:
    for language, text in _BLOCK.findall(page.read_text()):
        if language in ("console", "bash", "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("$ strategy-runner "):
                    yield shlex.split(line.removeprefix("$ strategy-runner "), comments=True)


# -- the tutorial ------------------------------------------------------------------------------------------------------


def test_the_strategy_of_the_tutorial_passes_the_test_of_the_tutorial(tmp_path: Path) -> None:
    folder = tmp_path / "clients" / "acme" / "strategies"
    folder.mkdir(parents=True)
    blocks = [text for language, text in _BLOCK.findall((DOCS / "tutorial.md").read_text()) if language == "python"]
    (strategy,) = [text for text in blocks if "(Strategy):" in text]
    (test,) = [text for text in blocks if "load_beside" in text]
    (folder / "dip.py").write_text(strategy)
    (folder / "test_dip.py").write_text(test)
    # what the test would do under pytest: its functions, called one after the other
    space: dict[str, object] = {"__file__": str(folder / "test_dip.py"), "__name__": "test_dip"}
    exec(compile(test, str(folder / "test_dip.py"), "exec"), space)
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) >= 2
    for one in tests:
        assert callable(one)
        one()
    assert run(space["Dip"], []) == []  # type: ignore[arg-type]  # a strategy class, made a line above


# -- places in the code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_in_the_code_that_is_named_exists(page: Path) -> None:
    places = _PLACE.findall(page.read_text())
    wrong = [f"{file}:{name}" for file, name in places if not defines(ROOT / "strategy_runner" / file, name.split("."))]
    assert wrong == []


def test_the_walks_of_the_architecture_name_places() -> None:
    assert len(_PLACE.findall((DOCS / "architecture.md").read_text())) > 60


def defines(file: Path, names: list[str]) -> bool:
    """Whether a class, function, method or field of these names stands in a file, one inside the other."""
    if not file.is_file():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for name in names:
        found = [node for node in body if name in names_of(node)]
        if not found:
            return False
        body = [inner for node in found for inner in getattr(node, "body", [])]
    return True


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]):
            return [name]
    return []
