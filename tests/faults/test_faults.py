"""Kills, stops and power cuts at random, the whole firm running: nothing lost, nothing doubled, nothing invented.

A short form; `-m slow` has a longer one, scripts/faults the longest. Each promise has a broken twin, which the same harness
must find out: they are slow too, but for the cheapest.
"""

import os
import random
import signal

import faults.home
import pytest
from faults.home import FaultyHome, Stuck, send, until
from faults.injection import Injection
from faults.oracle import derived_of
from faults.order_oracle import decisions_of
from faults.run import run_once

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.tape.status import State, read_status

pytestmark = pytest.mark.timeout(300)  # of a machine that many others use; alone it is a tenth of that
LONG_KILLS, LONG_CUTS = 25, 4
TRIES = 6  # of a twin: whether a cut comes in the few milliseconds that matter is luck
TWIN_PATIENCE_S = 30.0  # with what does not come to rest
VICTIM = "ann:tally.BTC-USD"


@pytest.fixture
def seed() -> int:
    found = int(os.environ.get("STRATEGY_RUNNER_SEED") or random.SystemRandom().randrange(2**32))
    print(f"STRATEGY_RUNNER_SEED={found} chooses the same faults again")
    return found


@pytest.mark.parametrize(
    ("market", "kills", "cuts"),
    [
        ("restless", 10, 3),
        ("mock", 8, 1),
        pytest.param("restless", LONG_KILLS, LONG_CUTS, marks=pytest.mark.slow),
        pytest.param("mock", LONG_KILLS, LONG_CUTS, marks=pytest.mark.slow),
    ],
)
def test_kills_and_power_cuts_lose_double_and_invent_nothing(market: str, kills: int, cuts: int, seed: int) -> None:
    run = run_once(seed, kills=kills, cuts=cuts, restless=market == "restless")
    assert run.is_clean, (run.kept, run.verdict.differences[0])
    assert run.verdict.signals > 100, "too few signals to prove anything"
    assert sum(count for kind, count in run.faults.items() if kind.startswith("kill")) >= kills
    assert run.faults["power cut"] == cuts


@pytest.mark.slow
def test_without_the_gate_power_cuts_leave_signals_of_records_that_never_were(seed: int) -> None:
    """Once lost records come back as others."""
    for attempt in range(TRIES):
        verdict = run_once(seed + attempt, kills=1, cuts=4, restless=True, broken="gate").verdict
        if verdict.alien:
            return
    pytest.fail(f"the oracle found nothing wrong with a router that has no gate: {verdict}")


@pytest.mark.slow
def test_without_syncs_a_power_cut_takes_what_was_called_durable(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a feed says so, instead of going on with a tape that lacks what signals were sent for."""
    with_home = FaultyHome(seed=seed, per_s=300.0, broken="sync")
    try:
        with_home.start()
        injection = Injection(with_home, seed)
        injection.await_life()
        monkeypatch.setattr(faults.home, "PATIENCE_S", 5.0)
        for _ in range(TRIES):
            try:
                injection.cut_power()
            except Stuck:
                break
        log = with_home.home.log("market:feed").read_text()
        assert "ERROR" in log and str(with_home.tape) in log, log[-2000:]
    finally:
        with_home.close()


@pytest.mark.slow
def test_an_oms_that_forgets_what_it_took_is_found_by_orders_placed_twice_or_told_two_ways(seed: int) -> None:
    """Stopped for longer than the desk waits for an answer, so that it asks what became of its orders."""
    stops = {"stop oms": 3, "kill router": 1}
    for attempt in range(TRIES):
        verdict = run_once(
            seed + attempt, kills=2, cuts=0, restless=True, broken="memory", weights=stops, patience_s=TWIN_PATIENCE_S
        ).verdict
        if verdict.doubled or any("news that can be true" in difference for difference in verdict.differences):
            return
    pytest.fail(f"the oracle found nothing wrong with an OMS that forgets: {verdict}")


@pytest.mark.slow
def test_an_oms_that_answers_before_the_disk_has_it_is_found_by_a_power_cut(seed: int) -> None:
    for attempt in range(TRIES):
        verdict = run_once(
            seed + attempt, kills=1, cuts=1, restless=True, broken="book", patience_s=TWIN_PATIENCE_S
        ).verdict
        if verdict.lost or verdict.alien or any("OMS" in difference for difference in verdict.differences):
            return
    pytest.fail(f"the oracle found nothing wrong with an OMS that answers too early: {verdict}")


def test_a_strategy_that_does_not_do_the_same_again_is_stopped_before_anything_wrong_is_sent(seed: int) -> None:
    home = FaultyHome(seed=seed, broken="luck")
    try:
        worker = _killed_until(home, lambda worker: _has_diverged(home, worker))
        assert _aliens(home, worker) == 0
        status = read_status(home.root / worker.folder / "status")
        assert status is not None and status.state is not State.FOLLOWING
    finally:
        home.close()


def test_without_digests_the_same_strategy_gets_wrong_signals_through(seed: int) -> None:
    home = FaultyHome(seed=seed, broken="digests")
    try:
        worker = _killed_until(home, lambda worker: _aliens(home, worker) > 0)
        assert not _has_diverged(home, worker)
    finally:
        home.close()


# -- what they share ---------------------------------------------------------------------------------------------------


def _killed_until(home: FaultyHome, done) -> WorkerSpec:  # type: ignore[no-untyped-def]
    """Kills one worker again and again, each time after it has signalled, until `done` of it."""
    home.start()
    worker = next(spec for spec in home.workers if spec.key.name == VICTIM)
    Injection(home, 0).await_life()
    for _ in range(TRIES):
        pid = until(lambda: home.pids().get(VICTIM), "the worker")
        decided = home.decided()
        until(lambda decided=decided: done(worker) or home.decided() > decided + 20, "more decisions")  # type: ignore[misc]
        send(pid, signal.SIGKILL)
        try:
            until(lambda: done(worker), "what is waited for")
        except Stuck:
            continue
        return worker
    pytest.fail(f"{VICTIM}: killed {TRIES} times in vain")


def _has_diverged(home: FaultyHome, worker: WorkerSpec) -> bool:
    log = home.home.log(worker.key.name)
    return log.exists() and "when derived again" in log.read_text()


def _aliens(home: FaultyHome, worker: WorkerSpec) -> int:
    """Decisions on the worker that the tape, as far as it is durable now, does not cause."""
    router = next(router for router in home.routers if router.client == worker.client)
    decisions = [d for d in decisions_of(router) if d.signal_id.startswith(f"{worker.key.name}@")]
    expected = derived_of(worker, to_the_end=False)
    return sum(expected.get(decision.signal_id) != decision.body for decision in decisions)
