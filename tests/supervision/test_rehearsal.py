"""The worker on trial: it lives as any other does, while it is looked at, and nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worker.processes import is_alive

from strategy_runner.pinned_environment import PINNED_ENVIRONMENT
from strategy_runner.supervision import rehearsal
from strategy_runner.supervision.programs import ENTRY_MODULE
from strategy_runner.supervision.rehearsal import BARS, worker_on_trial
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.status import State, read_status


@pytest.mark.parametrize(("own_code", "strategy"), [(False, "moving_average_crossover"), (True, "own")])
def test_a_worker_on_trial_has_read_and_signalled_when_it_is_looked_at_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, *, own_code: bool, strategy: str
) -> None:
    monkeypatch.setattr(rehearsal, "TRIAL_WAIT_S", 60.0)  # this one is not forked, and has everything to load
    specs = []

    def bear(spec: str, log: Path) -> int:
        specs.append(Path(spec))
        return start("-m", ENTRY_MODULE, spec, log=log)

    with worker_on_trial(bear, own_code=own_code) as pid:
        folder = specs[0].parent / strategy
        status = read_status(folder / "status")
        assert status is not None
        assert (status.pid, status.state, status.records) == (pid, State.FOLLOWING, BARS)
        assert len(list(read_log(folder / "signals.log"))) > 1
    assert not is_alive(pid)
    assert not specs[0].parent.exists()


def test_one_that_does_not_come_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TRIAL_WAIT_S", 0.1)
    born = []

    def bear(spec: str, log: Path) -> int:
        born.append(start("-c", "import time; time.sleep(60)", log=log))
        return born[0]

    with pytest.raises(TimeoutError, match=r"worker on trial: expected it to go on within 0\.1 s, found None"):
        worker_on_trial(bear, own_code=False).__enter__()
    assert not is_alive(born[0])


NICE_STEPS = """
import os
from strategy_runner.supervision import rehearsal, zygote

rehearsal.TRIAL_WAIT_S = 60.0
with rehearsal.worker_on_trial(zygote._bear_for_trial, own_code=True) as pid:
    print(os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_one_that_the_zygote_bears_gives_way_to_nobody_since_all_births_wait_for_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NICE_STEPS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **PINNED_ENVIRONMENT},
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def start(*words: str, log: Path) -> int:
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    process.returncode = 0  # whoever looks at it waits for it
    return process.pid
