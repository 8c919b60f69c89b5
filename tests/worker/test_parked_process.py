"""Worker processes whose strategy fails at one record: by an exception, by the death of the process, for want of memory.

After three lives each is parked and ends as one that wants no restart; without the record it goes on, and the oracle agrees.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from worker.build import bodies_on_disk, new_tape, random_rows, rerun, worker_spec, write_rows
from worker.processes import Processes, await_that

from strategy_runner.config.spec import LimitsSpec, WorkerSpec
from strategy_runner.tape.status import State, Status, read_status
from strategy_runner.worker import confinement
from strategy_runner.worker.confinement import BELOW_OTHERS, NICE_MAX
from strategy_runner.worker.genesis import read_geneses
from strategy_runner.worker.parking import TRIES, read_trouble, resumed, write_trouble
from strategy_runner.worker.skips import Skip, note_skip

# the trade that does it, known by its size; a chain of iterators is walked by C code that keeps no count of its depth
STRATEGY = """
from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class FussyParams(Params, frozen=True):
    way: str


class Fussy(Strategy):
    Params = FussyParams
    inputs = Inputs(trades=True)
    params: FussyParams

    def on_start(self) -> None:
        self.trades = 0

    def on_trade(self, trade: Trade) -> None:
        self.trades += 1
        if trade.size == 13.0:
            getattr(self, self.params.way)()
        if self.trades % 4 == 0:
            self.buy(f"trade {self.trades} at {trade.price}, luck {self.random.random()}")

    def raises(self) -> None:
        raise RuntimeError("thirteen")

    def dies(self) -> None:
        chain = iter(())
        for _ in range(400_000):
            chain = filter(None, chain)
        next(chain, None)

    def leaks(self) -> None:
        self.kept = ()
        while True:
            self.kept = (self.kept, 0)

    def calm(self) -> None:
        pass
"""
ENDS = {"raises": 1, "dies": -signal.SIGSEGV, "leaks": 1}
SAID = {
    "raises": "RuntimeError: thirteen",
    "dies": "without a word",
    "leaks": "emory",
}  # MemoryError, or the limit: as it could still say
MEMORY_LIMIT_MB = 16  # the least that a configuration may say


def fussy(folder: Path, way: str) -> WorkerSpec:
    code = folder / "acme" / "strategies" / "fussy.py"
    if not code.exists():
        code.parent.mkdir(parents=True)
        code.write_text(STRATEGY)
    return worker_spec(
        folder,
        strategy=way,
        strategy_type="fussy",
        code=str(code),
        params={"way": way},
        streams=("X/trade",),
        folder=str(folder / way),
        # a chain that is long enough to die of takes more than the least
        limits=LimitsSpec(memory_limit_mb=256 if way == "dies" else MEMORY_LIMIT_MB, cpu_limit=1.0),
    )


def status_of(spec: WorkerSpec) -> Status:
    return read_status(Path(spec.folder) / "status") or Status()


def test_after_three_tries_at_one_record_a_worker_is_parked_and_without_the_record_it_goes_on(
    folder: Path, processes: Processes
) -> None:
    rows = random_rows(11, 40)
    bad = [seq for seq, (name, _, _) in enumerate(rows) if name == "X/trade"][150]
    rows[bad] = ("X/trade", rows[bad][1], (100.0, 13.0, 1.0))
    write_rows(new_tape(folder), rows)
    calm = fussy(folder, "calm")
    undisturbed = processes.start("calm", calm)
    specs = {way: fussy(folder, way) for way in ENDS}
    for _ in range(TRIES):
        lives = {way: processes.start(way, spec) for way, spec in specs.items()}
        assert {way: process.wait(60) for way, process in lives.items()} == ENDS
    lives = {way: processes.start(way, spec) for way, spec in specs.items()}
    assert lives["raises"].wait(60) == 0
    lived_ns = time.time_ns() - status_of(specs["raises"]).started_ns
    assert lived_ns > 1_000_000_000, "supervisord would take a shorter life for a failed start"
    assert {way: process.wait(60) for way, process in lives.items()} == dict.fromkeys(ENDS, 0)
    for way, spec in specs.items():
        status = status_of(spec)
        assert (status.state, status.reason) == (State.PARKED, f"at seq {bad} X/trade")
        assert f"seq {bad} (X/trade ordinal 150): 3 tries: " in status.last_error
        assert SAID[way] in status.last_error
    assert undisturbed.poll() is None
    assert status_of(calm).position == len(rows)

    for spec in specs.values():
        leave_out(spec)
    lives = {way: processes.start(way, spec) for way, spec in specs.items()}
    for way, spec in specs.items():
        await_that(lambda spec=spec: is_done(spec, len(rows)), f"{way} without the record")  # type: ignore[misc]
        bodies = bodies_on_disk(Path(spec.folder))
        assert len(bodies) == (sum(name == "X/trade" for name, _, _ in rows) - 1) // 4
        (genesis,) = read_geneses(Path(spec.folder))
        assert bodies == rerun(genesis.spec, folder / "tape", genesis, len(rows))
    end(*lives.values(), undisturbed)


def leave_out(spec: WorkerSpec) -> None:
    """As `resume --skip` does."""
    place = Path(spec.folder)
    trouble = read_trouble(place, spec.generation)
    skip = Skip(
        generation=spec.generation,
        seq=trouble.seq,
        stream=trouble.stream,
        ordinal=trouble.ordinal,
        reason="thirteen",
        at_ns=time.time_ns(),
    )
    note_skip(place, skip)
    write_trouble(place, resumed(trouble, reason="", now_ns=time.time_ns()))


def is_done(spec: WorkerSpec, records: int) -> bool:
    status = status_of(spec)
    return status.state is State.FOLLOWING and status.position == records


def end(*running: "subprocess.Popen[bytes]") -> None:
    for process in running:
        process.terminate()
    assert [process.wait(20) for process in running] == [0] * len(running)


@pytest.mark.parametrize(("inherited", "own"), [("-500", "0"), ("0", "0"), ("200", "200")])
def test_workers_are_chosen_before_their_daemon_where_the_host_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: str, own: str
) -> None:
    """In a file's place of the kernel's: not every root may say that a process is to be chosen late."""
    place = tmp_path / "oom_score_adj"
    place.write_text(inherited)
    monkeypatch.setattr(confinement, "_CHOSEN_BY", place)
    confinement.give_way(0)
    assert place.read_text() == own


def test_the_least_memory_limit_is_enough_for_the_worker_itself(folder: Path, processes: Processes) -> None:
    """Models, bars, a catch-up of many turns, snapshots on the way and at the end."""
    rows = random_rows(12, 60)
    tape = new_tape(folder, segment_records=1 << 14)
    for _ in range(60_000 // len(rows)):
        write_rows(tape, rows, durable=False)
    tape.make_durable()
    spec = worker_spec(folder, limits=LimitsSpec(memory_limit_mb=MEMORY_LIMIT_MB, cpu_limit=1.0), params={"every": 1})
    running = processes.start("worker", spec)
    await_that(lambda: is_done(spec, tape.seq), "the end of the tape")
    limits = Path(f"/proc/{running.pid}/limits").read_text().splitlines()
    kept = {line[:25].strip(): line[25:].split()[:2] for line in limits}
    assert kept["Max core file size"] == ["0", "0"]
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, running.pid) == max(ours, min(ours + BELOW_OTHERS, NICE_MAX))
    assert kept["Max open files"] == ["1024", "1024"]
    soft, hard = kept["Max data size"]
    assert soft == hard != "unlimited"
    assert int(soft) / 2**20 - private_mb(running.pid) > MEMORY_LIMIT_MB, "what it needs itself is not the strategy's"
    end(running)
    assert status_of(spec).state is State.STOPPED


def private_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) / 1024


def test_a_worker_that_dies_again_and_again_anywhere_is_parked_by_its_crash_limit(
    folder: Path, processes: Processes
) -> None:
    write_rows(new_tape(folder), random_rows(13, 2))
    limits = LimitsSpec(memory_limit_mb=64, cpu_limit=1.0, crash_limit=1)
    spec = msgspec.structs.replace(fussy(folder, "calm"), limits=limits)
    for _ in range(2):
        running = processes.start("worker", spec)
        await_that(lambda pid=running.pid: status_of(spec).pid == pid and is_done(spec, status_of(spec).total), "it")  # type: ignore[misc]
        running.kill()
        running.wait()
    assert processes.start("worker", spec).wait(60) == 0
    assert status_of(spec).state is State.PARKED
    assert "ended 2 times within 600 s, limits.crash_limit is 1" in status_of(spec).last_error
