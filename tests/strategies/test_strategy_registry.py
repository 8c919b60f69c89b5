"""Strategies are found by name, a client's own files without ever touching another client's."""

import pickle
from pathlib import Path

import pytest

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.client_code import code_path, snake_case, strategy_name
from strategy_runner.strategies.describe import Use, resolve
from strategy_runner.strategies.registry import BUILTIN, builtin, load, load_client_strategies
from strategy_runner.strategies.swing_high import SwingHigh

HEADER = "from strategy_runner.strategies.interface import Inputs, Params, Strategy\n"


def write(home: Path, client: str, **files: str) -> Path:
    """The strategies folder of a client, with these files in it."""
    folder = home / "clients" / client / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(HEADER + text)
    return folder


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_client_strategies(folder)
    return caught.value.problems


def test_a_built_in_strategy_is_named_as_its_class_in_snake_case() -> None:
    assert {name: strategy_name(strategy) for name, strategy in BUILTIN.items()} == {name: name for name in BUILTIN}
    assert builtin("swing_high") is SwingHigh
    assert snake_case("RSIReversal") == "rsi_reversal"


def test_an_unknown_name_gets_a_suggestion_and_the_known_ones(tmp_path: Path) -> None:
    folder = write(tmp_path, "ada", mine="class Mine(Strategy): ...\n")
    with pytest.raises(
        ConfigurationError, match=r"expected one of mean_reversion, mine, .*swing_low, found .*did you mean swing_high"
    ):
        resolve(folder, [Use("swing_hihg", {}, "strategies[0]")])


def test_a_clients_own_strategy_is_found_with_its_file(tmp_path: Path) -> None:
    folder = write(
        tmp_path, "ada", mine="class Breakout(Strategy): ...\nclass Other(Strategy):\n    name = 'fade-v2'\n"
    )
    own = load_client_strategies(folder)
    assert set(own) == {"breakout", "fade-v2"}
    found = own["fade-v2"]
    assert (found.__name__, code_path(found)) == ("Other", str(folder / "mine.py"))
    assert load("fade-v2", code_path(found)) is found
    assert code_path(SwingHigh) == ""


def test_a_clients_own_strategy_comes_before_a_built_in_one_of_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path, "ada", mine="class SwingHigh(Strategy): ...\n")
    (found,) = resolve(folder, [Use("swing_high", {}, "strategies[0]")])
    assert found.description.code == str(folder / "mine.py")
    assert load("swing_high", "") is SwingHigh


def test_files_of_one_name_of_two_clients_do_not_collide(tmp_path: Path) -> None:
    ada = load_client_strategies(write(tmp_path, "ada", mine="class Mine(Strategy):\n    owner = 'ada'\n"))
    bob = load_client_strategies(write(tmp_path, "bob", mine="class Mine(Strategy):\n    owner = 'bob'\n"))
    assert [vars(found["mine"])["owner"] for found in (ada, bob)] == ["ada", "bob"]


def test_a_clients_strategy_can_be_pickled(tmp_path: Path) -> None:
    text = "class MineParams(Params, frozen=True):\n    size: int = 1\nclass Mine(Strategy):\n    Params = MineParams\n"
    mine = load_client_strategies(write(tmp_path, "ada-1", mine=text))["mine"]
    strategy = mine(mine.Params(), symbol="BTC-USD", timeframe="1m")
    assert type(pickle.loads(pickle.dumps(strategy))) is mine


def test_what_lies_beside_a_strategy_can_be_imported_and_is_no_strategy_itself(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        "ada",
        _base="class Base(Strategy):\n    offset = 7\n",
        mine="from ._base import Base\nclass Mine(Base): ...\n",
        test_mine="raise RuntimeError('a test is not for the worker')\n",
        conftest="raise RuntimeError('nor is this')\n",
    )
    found = load_client_strategies(folder)
    assert list(found) == ["mine"]
    assert found["mine"].offset == 7  # type: ignore[attr-defined]  # an attribute of the test's own class


def test_no_folder_is_no_strategy(tmp_path: Path) -> None:
    assert load_client_strategies(tmp_path / "clients" / "ada" / "strategies") == {}


def test_importing_leaves_nothing_in_the_clients_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, "ada", mine="class Mine(Strategy): ...\n")
    load_client_strategies(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.py"]


def test_every_faulty_file_is_named_with_its_line_and_exception(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        "ada",
        _deep="def divide(x): return 1 / x\n",
        a_raises="from ._deep import divide\ndivide(0)\n",
        b_exits="import sys\nsys.exit(3)\n",
        c_syntax="def on_bar(self:\n",
        d_empty="",
        e_good="class Good(Strategy): ...\n",
    )
    assert problems(folder) == (
        "clients/ada/strategies/_deep.py: line 2: ZeroDivisionError: division by zero",
        "clients/ada/strategies/b_exits.py: line 3: SystemExit: 3",
        "clients/ada/strategies/c_syntax.py: line 2: SyntaxError: '(' was never closed",
        "clients/ada/strategies/d_empty.py: expected a subclass of Strategy, found none "
        "(a file that only others import starts with _)",
    )


def test_a_file_repaired_is_imported_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, "ada", mine="raise ValueError\n")
    assert problems(folder)
    write(tmp_path, "ada", mine="class Mine(Strategy): ...\n")
    assert list(load_client_strategies(folder)) == ["mine"]


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = write(
        tmp_path, "ada", one="class Mine(Strategy): ...\n", two="class Other(Strategy):\n    name = 'mine'\n"
    )
    assert problems(folder) == (
        "clients/ada/strategies/two.py: Other: expected a name of its own, found mine, as clients/ada/strategies/one.py: Mine",
    )


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        ("name = 'two words'", "Mine.name: expected letters, digits, - and _ after a letter, found 'two words'"),
        ("Params = dict", "Mine.Params: expected a subclass of Params, found <class 'dict'>"),
        ("inputs = 'bars'", "Mine.inputs: expected Inputs(...), found 'bars'"),
        ("inputs = Inputs(bars='yes')", "Mine.inputs: Expected `bool`, got `str` - at `$.bars`"),
        ("inputs = Inputs(timer='soon')", "Mine.inputs: expected a timeframe such as 1s, 5m, 1h or 1d, found 'soon'"),
        ("inputs = Inputs(symbols=('B/C',))", "Mine.inputs.symbols: expected a symbol such as BTC-USD, found 'B/C'"),
        ("inputs = Inputs(warmup_bars=-1)", "Mine.inputs.warmup_bars: expected 0 or more, found -1"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path: Path, declaration: str, problem: str) -> None:
    folder = write(tmp_path, "ada", mine=f"class Mine(Strategy):\n    {declaration}\n")
    assert problems(folder) == (f"clients/ada/strategies/mine.py: {problem}",)


def test_a_worker_whose_file_is_gone_or_changed_its_class_is_told_so(tmp_path: Path) -> None:
    folder = write(tmp_path, "ada", mine="class Mine(Strategy): ...\n")
    with pytest.raises(ConfigurationError, match="expected a file that holds strategy yours, found none"):
        load("yours", str(folder / "yours.py"))
    with pytest.raises(ConfigurationError, match=r"mine\.py: expected a class for strategy yours, found mine"):
        load("yours", str(folder / "mine.py"))
