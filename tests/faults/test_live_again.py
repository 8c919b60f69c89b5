"""A live session recorded under kills, run again offline in fresh processes, under other hash seeds and with fewer of the
processor's instructions: the same bytes, and the same state on the way.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from faults.again import sha256_of, state_in_words, states_of
from faults.home import FaultyHome, until
from faults.injection import Injection
from faults.order_oracle import decisions_of
from faults.settling import settle

from strategy_runner.worker.snapshot import Snapshot

pytestmark = pytest.mark.timeout(300)  # of a machine that many others use; alone it is a tenth of that
DECISIONS = 150
HOSTS = (
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "4242", "NPY_DISABLE_CPU_FEATURES": "FMA3 AVX2", "OPENBLAS_CORETYPE": "Prescott"},
)


def test_a_recorded_live_session_run_again_gives_the_same_bytes_and_states_on_any_host() -> None:
    home = FaultyHome(seed=9, per_s=300.0)
    try:
        home.start()
        injection = Injection(home, 9)
        injection.await_life()
        injection.run(kills=4, cuts=0)
        until(lambda: home.decided() >= DECISIONS, f"{DECISIONS} decisions")
        settle(home)
        home.stop()
        live = sha256_of((d.signal_id, d.body) for router in home.routers for d in decisions_of(router))
        again = {_again(home, environ) for environ in HOSTS}
        assert len(again) == 1, "other signals or states on another host"
        assert again.pop()[0] == live
        assert states_that_differ(home) == []
    finally:
        home.close()


def states_that_differ(home: FaultyHome) -> list[str]:
    """Of the snapshots that the workers left: each against the state of the run over the tape at its seq."""
    differing = []
    for worker in home.workers:
        snapshots = [
            msgspec.msgpack.decode(path.read_bytes()[4:], type=Snapshot)
            for path in sorted(Path(worker.folder).glob("*.snapshot"))
        ]
        live = {snapshot.seq: state_in_words(snapshot.machine) for snapshot in snapshots}
        assert live
        differing += [f"{worker.key.name} at {seq}" for seq, words in states_of(worker, live) if words != live[seq]]
    return differing


def _again(home: FaultyHome, environ: dict[str, str]) -> tuple[str, ...]:
    """SHA-256 of signals and of states."""
    command = [sys.executable, "-m", "faults.again", str(home.root)]
    ran = subprocess.run(command, env={**home.environ, **environ}, check=True, capture_output=True, text=True)
    return tuple(ran.stdout.split())
