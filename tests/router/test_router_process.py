"""A router process killed at random moments: each signal decided once, and the sinks hold what an undisturbed run holds."""

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
from router.desk import Talker, decisions_in, router_spec
from worker.build import START_NS, new_tape, write_rows
from worker.processes import Processes, await_that

from strategy_runner.config.spec import QuantConnectSpec, RouterSpec, write_spec
from strategy_runner.tape.status import State, Status, read_status

KILLS = 8
SIGNALS = 1_600
WORKERS = ("talk.X", "talk.Y", "talk.Z")


def status_in(spec: RouterSpec) -> Status:
    return read_status(Path(spec.folder) / "status") or Status()


def elsewhere(spec: RouterSpec, folder: Path) -> RouterSpec:
    """The same workers, other state, and sockets of its own."""
    return router_spec(
        folder,
        spec.workers,
        workers_folder=spec.workers_folder,
        market=spec.market,
        duckdb=str(folder / "signals.duckdb"),
        quantconnect=QuantConnectSpec(folder=str(folder / "quantconnect")),
    )


def is_done(spec: RouterSpec, process: "subprocess.Popen[bytes]") -> bool:
    status = status_in(spec)
    return status.pid == process.pid and status.signals == SIGNALS and status.progress == SIGNALS


def rows(spec: RouterSpec, table: str) -> list[tuple[Any, ...]]:
    """All rows without the number and time of the decision, sorted: which worker came first is the run's own affair."""
    with duckdb.connect(spec.duckdb, read_only=True) as database:
        columns = [row[0] for row in database.execute(f"DESCRIBE {table}").fetchall()]
        told = ", ".join(name for name in columns if name not in ("number", "decided_time", "decided_ns"))
        return database.execute(f"SELECT {told} FROM {table} ORDER BY ALL").fetchall()


def lines(spec: RouterSpec) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in Path(spec.quantconnect.folder).rglob("*.csv")}


def test_killed_at_any_moment_a_router_decides_each_signal_once_and_its_sinks_are_complete(
    root: Path, processes: Processes
) -> None:
    tape = new_tape(root)
    write_rows(tape, [("X/trade", START_NS, (100.0, 1.0, 1.0))] * SIGNALS)
    luck, talkers, said = random.Random(3), {worker: Talker(root, worker) for worker in WORKERS}, []
    spec, done = router_spec(root, WORKERS), 0
    for number in range(KILLS):
        running = processes.start("router", spec)
        await_that(lambda: status_in(spec).pid == running.pid, "the router's own status page")  # noqa: B023  at once
        until, step = SIGNALS * (number + 1) // KILLS, luck.randrange(1, 40)
        while done < until:
            for _ in range(min(step, until - done)):
                worker = luck.choice(WORKERS)
                refusal = "no_price" if luck.random() < 0.2 else None
                said.append(talkers[worker].say(seq=done, refusal=refusal))
                done += 1
            time.sleep(luck.uniform(0.0, 0.02))
        running.send_signal(signal.SIGKILL)
        running.wait()
    last = processes.start("router", spec)
    await_that(lambda: is_done(spec, last), "all decisions, in all sinks")
    last.terminate()
    assert last.wait(20) == 0
    decisions = decisions_in(root)
    assert [decision.number for decision in decisions] == list(range(SIGNALS))
    assert sorted(decision.signal_id for decision in decisions) == sorted(said)
    for worker in WORKERS:
        own = [decision.signal_id for decision in decisions if worker in decision.signal_id]
        assert own == [signal_id for signal_id in said if worker in signal_id]
    calm = elsewhere(spec, root / "calm")
    undisturbed = processes.start("calm", calm)
    await_that(lambda: is_done(calm, undisturbed), "the undisturbed run")
    undisturbed.terminate()
    assert undisturbed.wait(20) == 0
    assert lines(spec) == lines(calm)
    assert sum(len(found) - 1 for found in lines(spec).values()) == status_in(calm).signals - status_in(calm).refusals
    for table in ("signals", "signal_models"):
        assert rows(spec, table) == rows(calm, table)
    assert len(rows(spec, "signals")) == SIGNALS


def test_a_router_process_holds_the_gate_by_the_tapes_own_mark(root: Path, processes: Processes) -> None:
    tape, talker, spec = new_tape(root), Talker(root), router_spec(root, ("talk.X",))
    write_rows(tape, [("X/trade", START_NS, (100.0, 1.0, 1.0))])
    write_rows(tape, [("X/trade", START_NS, (100.0, 1.0, 1.0))], durable=False)
    talker.say(seq=0)
    talker.say(seq=1)
    processes.start("router", spec)
    await_that(lambda: status_in(spec).signals == 1, "the first signal")
    looks = status_in(spec).beat_ns
    await_that(lambda: status_in(spec).beat_ns > looks + 100_000_000, "some more looks")
    assert status_in(spec).signals == 1
    tape.make_durable()
    await_that(lambda: status_in(spec).signals == 2, "the second signal")


def test_a_new_worker_in_the_spec_file_is_taken_in_without_a_restart(root: Path, processes: Processes) -> None:
    write_rows(new_tape(root), [("X/trade", START_NS, (100.0, 1.0, 1.0))])
    Talker(root, "talk.X").say()
    Talker(root, "talk.Y").say()
    spec = router_spec(root, ("talk.X",))
    running = processes.start("router", spec)
    await_that(lambda: status_in(spec).signals == 1, "the first worker's signal")
    write_spec(root / "router.json", router_spec(root, ("talk.X", "talk.Y")))
    await_that(lambda: status_in(spec).signals == 2, "the new worker's signal")
    assert status_in(spec).pid == running.pid


def test_a_stop_signal_ends_a_router_with_everything_delivered(root: Path, processes: Processes) -> None:
    write_rows(new_tape(root), [("X/trade", START_NS, (100.0, 1.0, 1.0))])
    talker, spec = Talker(root), router_spec(root, ("talk.X",))
    running = processes.start("router", spec)
    await_that(lambda: status_in(spec).state is State.FOLLOWING, "the router up")
    for _ in range(50):
        talker.say()
    running.terminate()
    assert running.wait(20) == 0
    assert status_in(spec).state is State.STOPPED
    assert len(decisions_in(root)) == 50
    assert len(rows(spec, "signals")) == 50
