"""A generation changes with everything that decides a signal, and with nothing else."""

import shutil
from decimal import Decimal
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strategy_runner.config.spec import (
    LimitsSpec,
    MarketSpec,
    ModelProviderSpec,
    ModelSpec,
    PaperSpec,
    ProtectionSpec,
    WorkerSpec,
)
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.strategies import generation as generation_module
from strategy_runner.strategies.generation import code_digest, generation
from strategy_runner.strategies.momentum_rider import MomentumRider
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover, MovingAverageCrossoverParams
from strategy_runner.strategies.registry import load_client_strategies
from strategy_runner.strategies.swing_high import SwingHigh

MODEL = ModelSpec(id="m", confidence_threshold=0.5, lookback_window=1, weight=1.0)
BASE = WorkerSpec(
    client="ada",
    strategy="cross",
    symbol="BTC-USD",
    strategy_type="moving_average_crossover",
    code="",
    params=msgspec.to_builtins(MovingAverageCrossoverParams()),
    timeframe="1m",
    models=(MODEL,),
    extra_symbols=("ETH-USD",),
    venue="binance",
    account="main",
    size=1.0,
    protection=ProtectionSpec(stop_loss_fraction=0.01),
    streams=("BTC-USD/bar.1m",),
    mode="mock",
    generation="",
    market=MarketSpec(tape="", doorbell="", frames=""),
    router_doorbell="",
    folder="",
    log="",
    log_level="info",
    limits=LimitsSpec(memory_limit_mb=64, cpu_limit=1.0),
    from_start=False,
    history=None,
    slots="",
    parallel=0,
    predictor=ModelProviderSpec(provider="mock", seed=1),
)
PAPER = PaperSpec(
    fills=FillSettings(),
    instrument=Instrument(
        symbol="X", asset_class="crypto", currency="USD", tick_size=Decimal("0.01"), lot_size=Decimal("0.1")
    ),
)
HEADER = "from strategy_runner.strategies.interface import Strategy\n"


def of(code: str = "code", **change: Any) -> str:
    return generation(code, msgspec.structs.replace(BASE, **change))


def test_it_is_8_hex_digits_and_always_the_same() -> None:
    first = of()
    assert first == of()
    assert len(first) == 8
    assert int(first, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"fast": 21, "slow": 50}},
        {"timeframe": "5m"},
        {"models": ()},
        {"models": (MODEL, MODEL)},
        {"size": 2.0},
        {"protection": ProtectionSpec()},
        {"extra_symbols": ()},
        {"venue": "kraken"},
        {"is_observed": True},
    ],
)
def test_everything_that_decides_a_signal_changes_it(change: dict[str, Any]) -> None:
    assert of(**change) != of()
    assert of("other code") != of()


def test_what_decides_no_signal_leaves_it_alone() -> None:
    elsewhere = {"folder": "/srv/other", "log_level": "debug", "limits": LimitsSpec(memory_limit_mb=128, cpu_limit=2.0)}
    assert of(**elsewhere) == of()


@pytest.mark.parametrize("filled", [{"fills": "fills.log"}, {"paper": PAPER}], ids=["by an OMS", "by itself"])
def test_what_holds_is_another_one_in_each_account(filled: dict[str, Any]) -> None:
    assert of(account="one", **filled) != of(account="two", **filled)
    assert of(account="one") == of(account="two")


def test_params_count_by_value_in_whatever_form_they_come() -> None:
    assert of(params={"slow": 50, "fast": 20}, size=1) == of()


def test_built_in_strategies_have_digests_of_their_own() -> None:
    digests = {code_digest(strategy) for strategy in (MomentumRider, MovingAverageCrossover, SwingHigh)}
    assert len(digests) == 3


def client(home: Path, **files: str) -> Path:
    folder = home / "clients" / "ada" / "strategies"
    folder.mkdir(parents=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(HEADER + text)
    return folder


def test_a_clients_digest_does_not_depend_on_where_the_home_lies(tmp_path: Path) -> None:
    text = "class Mine(Strategy): ...\n"
    digests = {code_digest(load_client_strategies(client(tmp_path / home, mine=text))["mine"]) for home in ("a", "b")}
    assert len(digests) == 1


def test_two_strategies_of_one_file_have_digests_of_their_own(tmp_path: Path) -> None:
    found = load_client_strategies(client(tmp_path, mine="class One(Strategy): ...\nclass Two(Strategy): ...\n"))
    assert code_digest(found["one"]) != code_digest(found["two"])


@pytest.mark.parametrize("changed", ["mine.py", "_beside.py", "new.py", "deep/er.py"])
def test_any_file_of_the_clients_folder_changes_its_digest(tmp_path: Path, changed: str) -> None:
    folder = client(tmp_path, _beside="", mine="class Mine(Strategy): ...\n")
    mine = load_client_strategies(folder)["mine"]
    before = code_digest(mine)
    (folder / changed).parent.mkdir(exist_ok=True)
    with (folder / changed).open("a") as file:
        file.write("# a change\n")
    assert code_digest(mine) != before


def test_bytes_that_move_from_one_file_to_another_change_the_digest(tmp_path: Path) -> None:
    folder = client(tmp_path, mine="class Mine(Strategy): ...\n")
    mine = load_client_strategies(folder)["mine"]
    (folder / "_a.py").write_text("xy")
    (folder / "_b.py").write_text("")
    before = code_digest(mine)
    (folder / "_a.py").write_text("x")
    (folder / "_b.py").write_text("y")
    assert code_digest(mine) != before


@pytest.mark.parametrize(
    "text", ["import priced\n", "from priced.models import fit\n", "def f():\n    import priced as p\n"]
)
def test_the_version_of_a_library_that_a_clients_code_imports_counts_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A strategy whose library was upgraded went on from the state, and under the ids, of the old one."""
    home = client(tmp_path, mine="class Mine(Strategy): ...\n", _beside=text)
    alone = client(tmp_path / "other", mine="class Mine(Strategy): ...\n", _beside="import json\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    digests = []
    for release in ("1.0", "1.1"):
        install(tmp_path / "site", "priced", release)
        generation_module._distributions.cache_clear()
        digests.append([code_digest(load_client_strategies(folder)["mine"]) for folder in (home, alone)])
    assert digests[0][0] != digests[1][0]
    assert digests[0][1] == digests[1][1]


def install(site: Path, module: str, release: str) -> None:
    """As pip leaves a distribution whose name is not its module's."""
    shutil.rmtree(site, ignore_errors=True)
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").touch()
    about = site / f"{module}_kit-{release}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}-kit\nVersion: {release}\n")
    (about / "top_level.txt").write_text(f"{module}\n")
    invalidate_caches()
