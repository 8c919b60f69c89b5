"""A backtest as a process: the limits of a worker, its turn among many, and what was seen of its history kept beside its log."""

import logging
from pathlib import Path

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import LockedError, NotRunningError
from strategy_runner.history.backtest import Backtest
from strategy_runner.history.engine import MEMORY_LIMIT_MB as READING_MB
from strategy_runner.history.last_price import keep_last_price
from strategy_runner.loop import StopFlag
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.status import StatusFile
from strategy_runner.worker.confinement import OWN_MB, Confinement
from strategy_runner.worker.strategy import make_strategy, require_versions

ORPHANS_S = 5.0  # what counted fills for a worker that was killed ends right after it

log = logging.getLogger(__name__)


def run_backtest(spec: WorkerSpec, stopping: StopFlag) -> int:
    """Runs the process of a spec with a history; returns its exit code. What it raises stands on its page."""
    lock = FolderLock(Path(spec.folder), orphans_s=ORPHANS_S)
    status = StatusFile(Path(spec.folder) / "status")
    confinement = Confinement(spec.limits.memory_limit_mb, own_mb=OWN_MB + READING_MB)
    try:
        require_versions(spec)
        twin = None if spec.checked_bars is None else make_strategy(spec)
        backtest = Backtest(spec, make_strategy(spec), status=status, twin=twin)
    except Exception as error:
        status.fail(error)  # or the router would wait for this worker for ever
        raise
    slot = _wait_for_slot(Path(spec.slots), spec.parallel, stopping)
    try:
        backtest.run(stopping)
    except MemoryError as error:
        full = confinement.out_of_memory()
        status.fail(full)
        raise full from error
    except Exception as error:
        status.fail(error)
        raise
    slot.release()
    for series, report in backtest.reports().items():
        log.info("quality of %s: %s", series, report.summary())
    (Path(spec.folder) / "quality.json").write_bytes(msgspec.json.encode(backtest.reports()))
    if (last := backtest.last_price()) is not None:
        keep_last_price(Path(spec.folder), last)
    lock.release()
    return 1 if stopping() else 0


def _wait_for_slot(folder: Path, slots: int, stopping: StopFlag) -> FolderLock:
    """One of so many locks: as many historical workers run at a time. The kernel frees a dead worker's slot."""
    while True:
        for slot in range(slots):
            try:
                return FolderLock(folder / str(slot))
            except LockedError:
                continue
        if stopping():
            raise NotRunningError("stopped while it waited for its turn")
        stopping.pause(0.1)
