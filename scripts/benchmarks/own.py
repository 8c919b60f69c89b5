"""own: what a worker costs whose strategy is a client's own code, beside one of a built-in strategy."""

from collections.abc import Iterator

import msgspec

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.quiet import measure, restart_ms, worker_mb

NAME = "own"
_BUILT_IN = "as many workers of a built-in strategy"


def run(settings: Settings) -> Iterator[Figure]:
    shown = msgspec.structs.replace(settings, names=settings.names | {"density", "boot", "restart"})
    own, built_in = (measure(shown, warm=True, own=is_own) for is_own in (True, False))

    def beside(what: str, unit: str, ours: Sample, theirs: Sample) -> Figure:
        return figure(settings, NAME, what, unit, ours, theirs, _BUILT_IN, at=settings.workers)

    yield beside("PSS per worker", "MB", worker_mb(own), worker_mb(built_in))
    yield beside(f"all {settings.workers} workers ready", "s", own.boot_s, built_in.boot_s)
    yield beside(f"all {settings.workers} workers and daemon stopped", "s", own.stop_s, built_in.stop_s)
    yield beside("kill -9 to ready again, p50", "ms", restart_ms(own), restart_ms(built_in))
