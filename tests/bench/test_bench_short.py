"""The benchmark works, and its lines have the form that other programs read. No figure is asserted: machines differ."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
CHEAP = ("tape", "risk", "doorbell", "ingest", "historical", "simulation")
FLEETS = ("density", "boot", "restart", "idle", "own")
BUSY_FLEETS = ("fleet", "end-to-end", "limit")
KEYS = {"name": str, "figure": str, "value": float, "unit": str, "reference": float, "ratio": float, "command": str}


def bench(*arguments: str, temporary: str = "/tmp") -> "subprocess.CompletedProcess[str]":
    """In its short form, which installs nothing."""
    return subprocess.run(
        [REPOSITORY / "scripts" / "bench", "--short", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
        env={**os.environ, "TMPDIR": temporary},
    )


def lines(*names: str, temporary: str = "/tmp") -> list[dict[str, Any]]:
    ended = bench(*names, "-o", "json", temporary=temporary)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def cheap() -> list[dict[str, Any]]:
    return lines(*CHEAP)


def test_each_line_names_its_figure_its_reference_and_their_ratio(cheap: list[dict[str, Any]]) -> None:
    assert {line["name"] for line in cheap} == set(CHEAP)
    for line in cheap:
        assert {key: type(line[key]) for key in KEYS} == KEYS, line
        assert line["value"] > 0
        assert line["reference"] > 0
        assert line["against"]
        # each number has four digits, so their quotient has a little less
        assert line["ratio"] == pytest.approx(line["value"] / line["reference"], rel=2e-3)
        assert line["min"] <= line["value"] <= line["max"]


def test_each_figure_says_the_command_that_measures_it_again(cheap: list[dict[str, Any]]) -> None:
    assert all(line["command"] == f"scripts/bench {line['name']} --short" for line in cheap)
    assert len({(line["name"], line["figure"]) for line in cheap}) == len(cheap)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    ended = bench("historicl")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "historicl" in ended.stderr
    assert all(name in ended.stderr for name in (*CHEAP, *FLEETS, *BUSY_FLEETS, "growth"))


@pytest.mark.parametrize("words", ["ingest_s=soon", "ingest_s=0", "fleet_rates=500,", "names=tape", "ingest_s"])
def test_a_size_that_is_none_is_refused(words: str) -> None:
    ended = bench("ingest", "--set", words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "expected" in ended.stderr
    assert words.partition("=")[0] in ended.stderr


def test_a_fleet_for_which_there_is_no_memory_is_refused_before_it_starts() -> None:
    ended = bench("limit", "--set", "limit_workers=10000000")
    assert (ended.returncode, ended.stdout) == (2, "")
    needed = "53,001,024" if sys.version_info < (3, 12) else "35,001,024"
    assert f"expected {needed} MB of free memory for 10,000,000 workers" in ended.stderr


def test_the_table_replaces_what_stands_between_the_marks_of_a_document(
    cheap: list[dict[str, Any]], tmp_path: Path
) -> None:
    document = tmp_path / "performance.md"
    document.write_text(
        "before\n<!-- figures: made by scripts/bench --write -->\nold\n<!-- end of figures -->\nafter\n"
    )
    older, newer = tmp_path / "older.jsonl", tmp_path / "newer.jsonl"
    older.write_text("\n".join(map(json.dumps, cheap)))
    [append] = [line for line in cheap if line["figure"] == "append"]
    newer.write_text(json.dumps({**append, "value": 1234.0}))
    ended = bench("--from", str(older), "--from", str(newer), "--write", str(document))
    assert ended.returncode == 0, ended.stderr
    text = document.read_text()
    assert "| tape | append | 1,234 |" in text
    assert text.count("\n| ") == 1 + 1 + len(cheap)
    assert text.startswith("before\n")
    assert text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text
    again = bench("--from", str(document.with_suffix(".jsonl")), "--write", str(document))
    assert again.returncode == 0, again.stderr
    assert document.read_text() == text, "the next time it begins with what was kept"


def test_a_document_without_the_marks_stays_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "notes.md"
    document.write_text("mine\n")
    figures = tmp_path / "none.jsonl"
    figures.touch()
    ended = bench("--from", str(figures), "--write", str(document))
    assert ended.returncode == 6
    assert str(document) in ended.stderr
    assert document.read_text() == "mine\n"


def test_a_file_of_figures_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    figures = tmp_path / "notes.jsonl"
    figures.write_text('{"name": "tape"}\n')
    ended = bench("--from", str(figures), "--write", str(tmp_path / "x.md"))
    assert ended.returncode == 2
    assert f"{figures} line 1: expected a figure as JSON" in ended.stderr


@pytest.mark.slow
def test_a_fleet_is_measured_under_both_supervisors_and_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="sr", dir="/tmp") as folder:
        measured = lines(*FLEETS, temporary=folder)
        left = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if folder in _text_of(path)]
        assert left == []
        assert list(Path(folder).iterdir()) == []
    assert {line["name"] for line in measured} == set(FLEETS)
    assert all(line["value"] >= 0 and line["reference"] is not None for line in measured)


@pytest.mark.slow
def test_workers_of_a_busy_market_miss_nothing_and_no_signal_stays_without_its_fill() -> None:
    with tempfile.TemporaryDirectory(prefix="sr", dir="/tmp") as folder:
        measured = lines(*BUSY_FLEETS, temporary=folder)
        assert list(Path(folder).iterdir()) == []
    assert {line["name"] for line in measured} == set(BUSY_FLEETS)
    lost = [line for line in measured if "missed" in line["figure"] or "without a fill" in line["figure"]]
    assert len(lost) == 5
    assert [line for line in lost if line["value"]] == []


@pytest.mark.slow
def test_plots_are_drawn_of_what_was_measured_and_of_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = bench("fan-out", "tape", "--plots", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["fan_out.svg"]
    assert "raw ZeroMQ" in (tmp_path / "fan_out.svg").read_text()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # ended meanwhile
        return ""
