"""The entry of every process of a home under faults: the product's own, on a watched disk, in a boot that the harness names.

`python -m faults.entry SPEC`, or a call of `main` under the warm fork. The product is as it is but for its sizes: snapshots,
checkpoints and notes come often, so that faults hit them often. With STRATEGY_RUNNER_FAULTS_BROKEN one promise is broken on
purpose (broken.py), with STRATEGY_RUNNER_FAULTS_STEP one system call fails or kills (crash.py).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from faults import clock
from faults.broken import TWINS
from faults.crash import STEP_VARIABLE, install
from faults.disk import DiskWatch
from faults.market import RestlessMarket, ended_by

from strategy_runner import assembly
from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed import feed
from strategy_runner.feed.sources.interface import Source
from strategy_runner.oms import paper_journal, zeromq
from strategy_runner.router import audit, journal, order_journal, risk_record
from strategy_runner.tape import boot
from strategy_runner.worker import follower

FOLDER_VARIABLE = "STRATEGY_RUNNER_FAULTS_FOLDER"  # where the ledger lies, and the name of the boot
MARKET_VARIABLE = (
    "STRATEGY_RUNNER_FAULTS_MARKET"  # records a second and symbol of the restless market; unset is the mock
)
BROKEN_VARIABLE = "STRATEGY_RUNNER_FAULTS_BROKEN"
BOOT = "boot_id"
CLOSED = "closed"  # the market has ended, once there is such a file
SNAPSHOT_RECORDS = 400
CHECKPOINT_RECORDS = 1_500
NOTE_DECISIONS = 60
BOOK_ENTRIES = 60
ORDER_ENTRIES = 120
AUDIT_ENTRIES = 150
RISK_INTERVAL_S = 0.2
OMS_TIMEOUT_S = 0.3  # shorter than an OMS may be stopped, so that outcomes are unknown


def main(arguments: Sequence[str]) -> int:
    folder = Path(os.environ[FOLDER_VARIABLE])
    boot._BOOT_ID = folder / BOOT
    follower.SNAPSHOT_RECORDS = SNAPSHOT_RECORDS
    feed.CHECKPOINT_RECORDS = CHECKPOINT_RECORDS
    journal.NOTE_DECISIONS = NOTE_DECISIONS
    paper_journal.SNAPSHOT_ENTRIES = BOOK_ENTRIES
    order_journal.NOTE_ENTRIES = ORDER_ENTRIES
    audit.NOTE_ENTRIES = AUDIT_ENTRIES
    risk_record.NOTE_INTERVAL_S = RISK_INTERVAL_S
    assert zeromq.ZeroMqOms.__init__.__kwdefaults__
    zeromq.ZeroMqOms.__init__.__kwdefaults__["timeout_s"] = OMS_TIMEOUT_S
    clock.install(folder)
    DiskWatch(folder, folder.parent / "var").install()
    per_s, mock = os.environ.get(MARKET_VARIABLE), assembly._source

    def source(spec: FeedSpec) -> tuple[Source, float]:
        market, speed = (RestlessMarket(float(per_s)), 0.0) if per_s else mock(spec)
        return ended_by(folder / CLOSED, market), speed

    assembly._source = source
    if step := os.environ.get(STEP_VARIABLE):
        install(step, folder)
    if broken := os.environ.get(BROKEN_VARIABLE):
        TWINS[broken]()
    return assembly.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
