"""kill -9 in the middle of writing: what a sink holds in the end is what it would hold had nothing happened."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sink_contents import contents
from sink_decisions import log_of, open_sink, poisoned

from strategy_runner.sinks.interface import DeadLetter

COUNT = 4_000
KILLS = 10
ATTEMPTS_MAX = 60
CHILD = Path(__file__).with_name("sink_child.py")


@pytest.mark.parametrize("kind", ["duckdb", "quantconnect"])
def test_a_sink_killed_again_and_again_holds_what_an_undisturbed_one_holds(kind: str, tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    luck = random.Random(seed)
    disturbed = tmp_path / "disturbed"
    disturbed.mkdir()
    killed_at = []
    for attempt in range(ATTEMPTS_MAX):
        child = _start(kind, disturbed, COUNT, luck.randrange(1_000_000))
        assert child.stdout is not None
        killed_at.append(int(child.stdout.readline().split()[1]))
        time.sleep(luck.uniform(0.0, 0.06))  # not to wait for anything: the moment of death
        child.kill()
        child.wait()
        # a busy machine may die a few times before its first batch, a fast one be done before its last death
        if killed_at[-1] > COUNT // 2 or (attempt >= KILLS and killed_at[-1] > 0):
            break
    print(f"{kind}: started at decisions {killed_at}")
    assert killed_at[-1] > 0, "a kill must fall into the writing"

    last = _start(kind, disturbed, COUNT, 0)
    assert last.wait() == 0

    letters: list[DeadLetter] = []
    calm = tmp_path / "calm"
    sink = open_sink(kind, calm, letters.append)
    sink.write(log_of(COUNT))
    sink.close()
    assert contents(kind, disturbed) == contents(kind, calm)
    kept = {int(line) for line in (tmp_path / "disturbed.letters").read_text().split()}
    assert kept == poisoned(COUNT) == {letter.number for letter in letters}
    assert not list(disturbed.glob("*.damaged*")), "a kill is no damage"


def _start(kind: str, folder: Path, count: int, seed: int) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHILD.parent), *sys.path])}
    command = [sys.executable, str(CHILD), kind, str(folder), str(count), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
