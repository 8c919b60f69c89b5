"""limit: a fleet of thousands on this machine: whether it starts, follows a busy market and stops, and how long each takes."""

import sys
from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.fleet import load_figures, of_prototype
from benchmarks.homes import bench_home
from benchmarks.load import COUNT_TRADES, under_load
from benchmarks.machine import available_mb
from benchmarks.prototype import WORKERS_MAX, measure
from benchmarks.standing import SILENT, grid, running
from strategy_runner.errors import UsageError

NAME = "limit"
# what a worker of a busy market takes, with what the kernel keeps for it (4,000 did not fit into 20 GB, while workers count the
# references of what they share), and what feed, router, daemon, page cache and this process need
_WORKER_MB = 5.3 if sys.version_info < (3, 12) else 3.5
_OTHERS_MB = 1_024.0


def run(settings: Settings) -> Iterator[Figure]:
    workers, rate = settings.limit_workers, settings.limit_rate
    _refuse_without_memory(workers)
    prototype = measure(min(workers, WORKERS_MAX))
    symbols, strategies = grid(workers, COUNT_TRADES)
    with (
        bench_home(symbols, strategies, own=["count_trades"]) as home,
        running(home, workers, market=SILENT) as fleet,
    ):
        talk(f"  {workers} workers ready in {fleet.boot_s:.1f} s, {rate:,} events/s ...")
        boot_s = fleet.boot_s
        load = under_load(fleet, rate, settings.fleet_s, settings.settle_s)
        stop_s = fleet.stop()

    def whole(what: str, seconds: float, theirs: float | None) -> Figure:
        reference = None if theirs is None else Sample.of([theirs])
        against = "" if prototype is None else of_prototype(prototype)
        return figure(
            settings, NAME, f"all {workers} workers {what}", "s", Sample.of([seconds]), reference, against, at=workers
        )

    yield whole("ready", boot_s, prototype.ready_s if prototype else None)
    yield from load_figures(settings, NAME, workers, rate, load, prototype)
    yield whole("and daemon stopped", stop_s, prototype.stopped_s if prototype else None)


def _refuse_without_memory(workers: int) -> None:
    """Before anything is started: a machine out of memory would end processes of others."""
    needed, found = workers * _WORKER_MB + _OTHERS_MB, available_mb()
    if found < needed:
        fit = max(0, int((found - _OTHERS_MB) / _WORKER_MB))
        raise UsageError(
            f"{NAME}: expected {needed:,.0f} MB of free memory for {workers:,} workers, found {found:,.0f} MB; "
            f"--set limit_workers={fit} would fit"
        )
