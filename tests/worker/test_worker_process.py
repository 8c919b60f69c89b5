"""Worker processes: killed, stopped, doubled and broken. What they wrote is what an undisturbed run writes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker.build import (
    MODELS,
    STREAMS,
    Followers,
    bodies_on_disk,
    logged,
    new_tape,
    random_rows,
    run_out,
    worker_spec,
    write_rows,
)
from worker.processes import Processes, await_that

from strategy_runner.config.spec import FeedSpec, MockSpec, ModelProviderSpec, TapeSpec, WorkerSpec
from strategy_runner.strategies.generation import versions
from strategy_runner.tape.status import State, Status, read_status


def spec_in(root: Path, /, **changes: Any) -> WorkerSpec:
    return worker_spec(root, **{"models": MODELS, "params": {"every": 5}, **changes})


def feed_spec(folder: Path, *, records: int, speed: float) -> FeedSpec:
    return FeedSpec(
        mode="mock",
        streams=STREAMS,
        mock=MockSpec(
            seed=7,
            speed=speed,
            start_ns=1_700_000_000_000_000_000,
            records=records,
            trades_per_s=2.0,
            quotes_per_s=1.0,
            prices=(("X", 30_000.0),),
        ),
        replay=None,
        models=ModelProviderSpec(provider="mock", seed=1),
        tape=TapeSpec(
            segment_records=4_096, durable_interval_ms=2.0, reserve_mb=1.0, retention_hours=24.0, retention_gb=1.0
        ),
        market=spec_in(folder).market,
        beat_interval_s=0.1,
        readers=(str(folder / "*" / "status"),),
        folder=str(folder),
        log="",
        log_level="info",
    )


def status_in(worker: WorkerSpec) -> Status:
    return read_status(Path(worker.folder) / "status") or Status()


def is_following(worker: WorkerSpec, process: "subprocess.Popen[bytes]") -> bool:
    status = status_in(worker)
    return status.pid == process.pid and status.state in (State.FOLLOWING, State.FINISHED)


@pytest.mark.parametrize("kills", [16, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_worker_loses_no_signal_and_writes_none_twice(
    folder: Path, processes: Processes, kills: int
) -> None:
    """The feed goes on while the worker is down; each worker that is started again is killed at a random moment."""
    processes.start("feed", feed_spec(folder, records=1_000 * kills, speed=600.0))
    worker, luck = spec_in(folder), random.Random(1)
    # it dies more often than a worker may before it is parked
    worker = msgspec.structs.replace(worker, limits=msgspec.structs.replace(worker.limits, crash_limit=kills))
    for number in range(kills):
        kill_one(processes, worker, luck.uniform(0.0, 0.2), while_it_speaks=number % 2 == 0)
    processes.start("worker", worker)
    await_that(lambda: status_in(worker).state is State.FINISHED, "the worker at the end of the tape")
    numbers = [one.envelope.n for one in logged(folder / "talk.X" / "signals.log")]
    assert len(numbers) > 2_000
    assert numbers == list(range(len(numbers)))
    assert status_in(worker).signals == len(numbers)
    undisturbed = spec_in(folder, folder=str(folder / "calm" / "talk.X"))
    calm = Followers()
    try:
        run_out(calm.make(undisturbed))
    finally:
        calm.close()
    assert bodies_on_disk(folder / "talk.X") == bodies_on_disk(folder / "calm" / "talk.X")


def kill_one(processes: Processes, worker: WorkerSpec, after_s: float, *, while_it_speaks: bool) -> None:
    """Starts the worker and kills it between its first step and its catching up, or while it says something new."""
    log = Path(worker.folder) / "signals.log"
    size = size_of(log)
    running = processes.start("worker", worker)
    await_that(lambda: status_in(worker).pid == running.pid, "the worker's own status page")
    if while_it_speaks:
        await_that(lambda: size_of(log) > size or feed_has_ended(Path(worker.folder).parent), "something new")
    time.sleep(after_s)
    running.send_signal(signal.SIGKILL)
    running.wait()


def size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def feed_has_ended(folder: Path) -> bool:
    status = read_status(folder / "status")
    return status is not None and status.state is State.FINISHED


def test_a_second_copy_of_a_worker_is_refused_and_the_first_goes_on(folder: Path, processes: Processes) -> None:
    tape, worker = new_tape(folder), spec_in(folder)
    write_rows(tape, random_rows(1, 2))
    first = processes.start("first", worker)
    await_that(lambda: is_following(worker, first), "the first copy following")
    second = processes.start("second", worker)
    assert second.wait(20) == 1
    assert f"expected a free folder, found it held by pid {first.pid}" in processes.output("second")
    assert status_in(worker).pid == first.pid
    seen = status_in(worker).position
    write_rows(tape, random_rows(2, 2))
    await_that(lambda: status_in(worker).position > seen, "the first copy at work")


@pytest.mark.parametrize("records", [20, 400_000], ids=["while it waits", "while it works"])
def test_a_stop_signal_ends_a_worker_where_it_is_with_a_snapshot(
    folder: Path, processes: Processes, records: int
) -> None:
    rows = random_rows(3, 40)
    tape = new_tape(folder, segment_records=1 << 16)
    for _ in range(max(1, records // len(rows))):
        write_rows(tape, rows[:records], durable=False)
    tape.make_durable()
    worker = spec_in(folder)
    running = processes.start("worker", worker)
    if records > 1_000:
        await_that(lambda: status_in(worker).position > 0, "some records read")
    else:
        await_that(lambda: is_following(worker, running), "the worker waiting")
    running.terminate()
    assert running.wait(20) == 0
    status = status_in(worker)
    assert status.state is State.STOPPED
    assert max(int(path.stem) for path in Path(worker.folder).glob("*.snapshot")) == status.position
    assert (status.position < tape.seq) == (records > 1_000), "the worker should be met at work, or at rest"


def test_a_stop_signal_ends_a_worker_that_waits_for_a_tape(folder: Path, processes: Processes) -> None:
    running = processes.start("worker", spec_in(folder))
    await_that(lambda: status_in(spec_in(folder)).pid == running.pid, "the worker up")
    running.terminate()
    assert running.wait(20) == 0


BROKEN = [
    ("", 6, "expected a file that holds strategy chatty, found none"),
    ("raise RuntimeError('at import')", 6, "strategies/broken.py: line 1: RuntimeError: at import"),
    ("import sys; sys.exit(0)", 6, "strategies/broken.py: line 1: SystemExit: 0"),
    ("syntax error", 6, "strategies/broken.py: line 1: SyntaxError"),
    ("x = 1", 6, "expected a subclass of Strategy, found none"),
]
_HEAD = """from strategy_runner.strategies.interface import Inputs, Strategy
class Chatty(Strategy):
    inputs = Inputs(trades=True, quotes=True, bars=True, predictions=True, timer="1s")
"""
RAISING = [
    ("    def __init__(self, params, **given): raise RuntimeError('init')", "Chatty.__init__: RuntimeError: init"),
    ("    def on_start(self): raise RuntimeError('start')", "on_start: RuntimeError: start"),
    ("    def on_trade(self, trade): raise RuntimeError('trade')", "X/trade ordinal 0: RuntimeError: trade"),
    ("    def on_trade(self, trade): raise SystemExit(0)", "X/trade ordinal 0: SystemExit: 0"),
    ("    def on_trade(self, trade): self.buy(size='x')", "size: expected a number or None, found 'x'"),
    ("    def on_start(self): self.rule = lambda: 1", "expected values that pickle, found self.rule"),
    ("    def on_trade(self, trade): self.rule = lambda: 1", "expected values that pickle, found self.rule"),
    ("    def on_trade(self, trade): self._proposals.append(5)", "AttributeError: 'int' object has no attribute"),
]
FAULTS = BROKEN + [(_HEAD + source, 1, problem) for source, problem in RAISING]


def test_a_strategy_that_is_missing_or_raises_ends_its_worker_as_failed_and_says_why(
    folder: Path, processes: Processes
) -> None:
    write_rows(new_tape(folder), random_rows(4, 2))
    started = []
    for number, (source, code, problem) in enumerate(FAULTS):
        file = folder / f"acme{number}" / "strategies" / "broken.py"
        file.parent.mkdir(parents=True)
        if source:
            file.write_text(source)
        worker = worker_spec(folder, code=str(file), folder=str(folder / f"worker{number}"))
        started.append((worker, processes.start(f"worker{number}", worker), code, problem))
    for worker, process, code, problem in started:
        ended = process.wait(60)
        status = status_in(worker)
        assert status.state is State.FAILED, problem
        assert problem in status.last_error
        assert ended == code, problem


def test_a_worker_that_would_run_under_another_python_than_its_generation_names_starts_nothing(
    folder: Path, processes: Processes
) -> None:
    """The command that planned it may have another Python than the daemon."""
    write_rows(new_tape(folder), random_rows(4, 2))
    worker = worker_spec(folder, versions={**versions(), "python": "3.10"})
    assert processes.start("worker", worker).wait(60) == 1
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    problem = f"acme:talk.X: generation 0badcafe: expected python 3.10, found {here}: `strategy-runner down`"
    assert problem in processes.output("worker") and problem in status_in(worker).last_error
    assert not logged(Path(worker.folder) / "signals.log")
