"""A live session recorded under kills, run again offline in fresh processes with other hash seeds: the same bytes."""

import subprocess
import sys

import pytest
from faults.again import sha256_of
from faults.home import FaultyHome, until
from faults.injection import Injection
from faults.oracle import decisions_of

pytestmark = pytest.mark.timeout(900)  # of a machine that many others use; alone it is a tenth of that
DECISIONS = 150
HASH_SEEDS = ("1", "4242")


def test_a_recorded_live_session_run_again_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    home = FaultyHome(seed=9, per_s=300.0)
    try:
        home.start()
        injection = Injection(home, 9)
        injection.await_life()
        injection.run(kills=4, cuts=0)
        until(lambda: home.decided() >= DECISIONS, f"{DECISIONS} decisions")
        home.settle()
        home.stop()
        live = sha256_of((d.signal_id, d.body) for router in home.routers for d in decisions_of(router))
        command = [sys.executable, "-m", "faults.again", str(home.root)]
        again = {
            subprocess.run(
                command, env={**home.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
            ).stdout.strip()
            for seed in HASH_SEEDS
        }
        assert again == {live}
    finally:
        home.close()
