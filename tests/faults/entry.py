"""The entry of every process of a home under faults: the product's own, on a watched disk, in a boot that the harness names.

`python -m faults.entry SPEC`, or a call of `main` under the warm fork. The product is as it is but for its sizes: snapshots,
checkpoints and notes come often, so that faults hit them often. With STRATEGY_RUNNER_FAULTS_BROKEN one promise is broken on
purpose (broken.py), with STRATEGY_RUNNER_FAULTS_STEP one system call fails or kills (crash.py).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from faults.broken import TWINS
from faults.crash import STEP_VARIABLE, install
from faults.disk import DiskWatch
from faults.market import RestlessMarket

from strategy_runner import assembly
from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed import feed
from strategy_runner.feed.sources.interface import Source
from strategy_runner.router import journal
from strategy_runner.tape import boot
from strategy_runner.worker import follower

FOLDER_VARIABLE = "STRATEGY_RUNNER_FAULTS_FOLDER"  # where the ledger lies, and the name of the boot
MARKET_VARIABLE = (
    "STRATEGY_RUNNER_FAULTS_MARKET"  # records a second and symbol of the restless market; unset is the mock
)
BROKEN_VARIABLE = "STRATEGY_RUNNER_FAULTS_BROKEN"
BOOT = "boot_id"
SNAPSHOT_RECORDS = 400
CHECKPOINT_RECORDS = 1_500
NOTE_DECISIONS = 60


def main(arguments: Sequence[str]) -> int:
    folder = Path(os.environ[FOLDER_VARIABLE])
    boot._BOOT_ID = folder / BOOT
    follower.SNAPSHOT_RECORDS = SNAPSHOT_RECORDS
    feed.CHECKPOINT_RECORDS = CHECKPOINT_RECORDS
    journal.NOTE_DECISIONS = NOTE_DECISIONS
    DiskWatch(folder, folder.parent / "var").install()
    if per_s := os.environ.get(MARKET_VARIABLE):
        assembly._source = lambda spec: _restless(spec, float(per_s))
    if step := os.environ.get(STEP_VARIABLE):
        install(step)
    if broken := os.environ.get(BROKEN_VARIABLE):
        TWINS[broken]()
    return assembly.main(arguments)


def _restless(spec: FeedSpec, per_s: float) -> tuple[Source, float]:
    return RestlessMarket(per_s), 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
