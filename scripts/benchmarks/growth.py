"""growth: what one more worker costs in a fleet of hundreds beside one of tens: it should be the same.

Memory and restart are those of a worker in a fleet of each size, beside the smallest fleet. Boot, stop and processor time have
a part that does not depend on the workers, so the cost is that of each added worker from one size to the next, beside the
step before.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.quiet import Measured, of_size, restart_ms, worker_mb

NAME = "growth"


def run(settings: Settings) -> Iterator[Figure]:
    fleets = {workers: of_size(settings, workers) for workers in sorted(settings.growth)}
    for what, unit, sample in (
        ("PSS per worker", "MB", worker_mb),
        ("kill -9 to ready again, p50", "ms", restart_ms),
    ):
        smallest = min(fleets)
        for workers, fleet in fleets.items():
            reference = None if workers == smallest else sample(fleets[smallest])
            against = "" if reference is None else f"the same at {smallest} workers"
            yield figure(
                settings, NAME, f"{what}, {workers} workers", unit, sample(fleet), reference, against, at=workers
            )
    for workers, fleet in fleets.items():
        for what, unit, whole in (
            (f"all {workers} workers ready", "s", fleet.boot_s),
            (f"all {workers} workers and daemon stopped", "s", fleet.stop_s),
            (f"idle, whole fleet of {workers}", "% of a core", Sample.of([_idle_percent(fleet)])),
        ):
            yield figure(settings, NAME, what, unit, whole, at=workers)
    for what, unit, cost in (
        ("start", "ms", lambda fleet: fleet.boot_s.median * 1e3),
        ("stop", "ms", lambda fleet: fleet.stop_s.median * 1e3),
        ("whole fleet", "MB", _fleet_mb),
        ("idle", "% of a core", _idle_percent),
    ):
        yield from _steps(settings, fleets, what, unit, cost)


def _steps(
    settings: Settings, fleets: dict[int, Measured], what: str, unit: str, cost: Callable[[Measured], float]
) -> Iterator[Figure]:
    """The cost of each added worker, from one size to the next."""
    before, against = None, ""
    for (fewer, small), (more, large) in pairwise(fleets.items()):
        added = Sample.of([(cost(large) - cost(small)) / (more - fewer)])
        title = f"{what}, each worker added from {fewer} to {more}"
        yield figure(settings, NAME, title, unit, added, before, against, at=more)
        before, against = added, f"each worker added from {fewer} to {more}"


def _fleet_mb(fleet: Measured) -> float:
    assert fleet.memory is not None
    return fleet.memory.fleet


def _idle_percent(fleet: Measured) -> float:
    assert fleet.fleet_cpu_percent is not None
    return fleet.fleet_cpu_percent
