"""Verbs come from their modules, and a verb that is typed often does not wait for what others need."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from strategy_runner.cli.main import VERBS, every_verb


def test_each_verb_is_in_the_module_that_the_table_names() -> None:
    found = {module: [c.name for c in import_module(f"strategy_runner.cli.{module}").COMMANDS] for module in VERBS}
    assert found == {module: list(verbs) for module, verbs in VERBS.items()}
    assert all(any(parameter.name == "home" for parameter in command.params) for command in every_verb().values())


@pytest.mark.parametrize("module", ["main", "signals"])
def test_what_is_typed_often_loads_neither_arrays_nor_the_daemon(module: str) -> None:
    code = f"import sys, strategy_runner.cli.{module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"numpy", "duckdb", "zmq", "supervisor", "rich", "http.client", "strategy_runner.assembly"}
    assert slow.isdisjoint(ran.stdout.split())


def test_a_backtest_does_not_load_what_talks_to_the_daemon() -> None:
    code = "import sys, strategy_runner.cli.recorded; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"supervisor", "http.client"}.isdisjoint(ran.stdout.split())


def test_an_interrupt_while_the_command_loads_is_one_word(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["strategy-runner"].partition(":")
    # in the place of what is loaded first, as a terminal interrupts it
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from {module} import {function}; {function}()"
    ran = subprocess.run([sys.executable, "-c", code, "status"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")
