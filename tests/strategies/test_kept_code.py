"""Code is kept whole and as it was read, and a worker imports it from there."""

import shutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from strategy_runner.errors import ConfigurationError, DeterminismError
from strategy_runner.strategies import registry
from strategy_runner.strategies.client_code import code_path
from strategy_runner.strategies.kept_code import code_files, folder_digest, is_admitted, is_whole, keep

STRATEGY = """
from strategy_runner.strategies.interface import Strategy
from .deep.levels import LEVEL


class Mine(Strategy):
    level = LEVEL
"""
COMPILED = f"fast{EXTENSION_SUFFIXES[0]}"


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A strategies folder with a helper in a folder of its own, a compiled one, and what is no code."""
    folder = tmp_path / "clients" / "ada" / "strategies"
    (folder / "deep").mkdir(parents=True)
    (folder / "mine.py").write_text(STRATEGY)
    (folder / "deep" / "levels.py").write_text("LEVEL = 1\n")
    (folder / COMPILED).write_bytes(b"\x7fELF")
    (folder / "notes.txt").write_text("nothing to run")
    (folder / ".#mine.py").symlink_to("editor@host")  # as an editor leaves it while a file is open
    return folder


def kept_of(live: Path, client: str = "ada") -> Path:
    return live.parents[2] / "var" / "code" / folder_digest(live) / "clients" / client / "strategies"


def level_of(code: Path) -> int:
    return int(vars(registry.load("mine", str(code)))["level"])


def test_a_worker_runs_what_was_kept_whatever_becomes_of_the_folder(live: Path) -> None:
    kept = kept_of(live)
    keep(live, kept)
    assert sorted(code_files(kept)) == sorted(code_files(live)) == ["deep/levels.py", COMPILED, "mine.py"]
    shutil.rmtree(live)
    strategy = registry.load("mine", str(kept / "mine.py"))
    assert (vars(strategy)["level"], code_path(strategy)) == (1, str(kept / "mine.py"))
    assert strategy.__module__ == "strategy_runner_clients.ada.mine"


def test_what_was_compiled_is_imported_without_a_look_at_the_source(live: Path) -> None:
    kept = kept_of(live)
    keep(live, kept)
    (kept / "deep" / "levels.py").write_text("LEVEL = 2\n")  # which nobody does: the folder never changes
    assert level_of(kept / "mine.py") == 1


def test_another_python_has_a_folder_of_its_own_with_what_it_compiles(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_of(live)
    keep(live, kept)
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-99")
    newer = kept_of(live)
    keep(live, newer)
    assert (newer / "__pycache__" / "mine.cpython-99.pyc").exists()
    assert is_whole(kept) and is_whole(newer)


def test_the_guard_reads_a_live_folder_and_not_what_it_has_admitted(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_of(live)
    keep(live, kept)
    read: list[Path] = []
    monkeypatch.setattr(registry, "refuse_nondeterminism", read.append)
    assert (level_of(kept / "mine.py"), level_of(live / "mine.py")) == (1, 1)
    assert read == [live / "mine.py"]
    assert (is_admitted(kept / "mine.py"), is_admitted(live / "mine.py")) == (True, False)


def test_live_code_that_asks_for_the_time_is_still_refused(live: Path) -> None:
    (live / "mine.py").write_text(STRATEGY + "\nimport time\nNOW = time.time()\n")
    with pytest.raises(DeterminismError, match=r"mine.py:10: time.time\(\)"):
        registry.load("mine", str(live / "mine.py"))


@pytest.mark.parametrize("name", ["mine.py", "deep/levels.py", COMPILED, "deep/more.py"])
def test_every_file_that_may_be_imported_counts(live: Path, name: str) -> None:
    before = folder_digest(live)
    (live / name).write_bytes(b"LEVEL = 3\n")
    assert folder_digest(live) != before


def test_a_file_of_another_name_or_one_that_is_no_code_tells_them_apart(live: Path) -> None:
    before = folder_digest(live)
    (live / "notes.txt").write_text("other words")
    assert folder_digest(live) == before
    (live / "deep" / "levels.py").rename(live / "deep" / "steps.py")
    assert folder_digest(live) != before


def test_a_flipped_bit_of_what_is_kept_is_found(live: Path) -> None:
    kept = kept_of(live)
    keep(live, kept)
    assert is_whole(kept)
    for path in [path for path in kept.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert not is_whole(kept)
        path.write_bytes(whole)
    assert is_whole(kept)


def test_code_that_was_edited_in_between_is_refused_and_nothing_is_kept(live: Path) -> None:
    kept = kept_of(live)
    (live / "mine.py").write_text(STRATEGY + "\n")
    with pytest.raises(ConfigurationError, match="expected the code that was read a moment ago, found it edited"):
        keep(live, kept)
    shutil.rmtree(live)
    with pytest.raises(ConfigurationError, match="found it edited"):
        keep(live, kept)
    assert not kept.parent.exists()


def test_what_a_killed_start_has_left_half_made_is_made_anew(live: Path) -> None:
    kept = kept_of(live)
    half = kept.parent.with_name(".ada.new") / "strategies"
    half.mkdir(parents=True)
    (half / "mine.py").write_text("half a fi")
    keep(live, kept)
    assert level_of(kept / "mine.py") == 1
    assert not half.exists()


def test_clients_with_the_same_code_have_a_copy_each(live: Path) -> None:
    for client in ("ada", "bob"):
        keep(live, kept_of(live, client))
        assert level_of(kept_of(live, client) / "mine.py") == 1


def test_a_linked_folder_is_kept_as_well_and_one_that_leads_back_is_left(live: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.move(live / "deep", shared)
    (live / "deep").symlink_to(shared)
    (shared / "back").symlink_to(live)
    keep(live, kept_of(live))
    assert sorted(code_files(live)) == ["deep/levels.py", COMPILED, "mine.py"]
    assert level_of(kept_of(live) / "mine.py") == 1
    before = folder_digest(live)
    (shared / "levels.py").write_text("LEVEL = 4\n")
    assert folder_digest(live) != before


def test_a_file_that_does_not_compile_is_left_to_whoever_imports_it(live: Path) -> None:
    (live / "draft.py").write_text("def half(:\n")
    (live / "nul.py").write_bytes(b"a = 1\0\n")
    keep(live, kept_of(live))
    assert level_of(kept_of(live) / "mine.py") == 1
    with pytest.raises(ConfigurationError, match=r"clients/ada/strategies/draft.py: line 1: SyntaxError"):
        registry.load("draft", str(kept_of(live) / "draft.py"))
