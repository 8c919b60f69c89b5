"""own: what a worker costs whose strategy is a client's own code, beside one of a built-in strategy."""

from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.quiet import Measured, measure

NAME = "own"
_BUILT_IN = "as many workers of a built-in strategy"


def run(settings: Settings) -> Iterator[Figure]:
    own, built_in = (measure(settings, warm=True, own=is_own) for is_own in (True, False))

    def beside(what: str, unit: str, ours: Sample, theirs: Sample) -> Figure:
        return figure(settings, NAME, what, unit, ours, theirs, _BUILT_IN, at=settings.workers)

    yield beside("PSS per worker", "MB", _worker_mb(own), _worker_mb(built_in))
    yield beside(f"all {settings.workers} workers ready", "s", own.boot_s, built_in.boot_s)
    yield beside(f"all {settings.workers} workers and daemon stopped", "s", own.stop_s, built_in.stop_s)
    yield beside("kill -9 to ready again, p50", "ms", _restart_ms(own), _restart_ms(built_in))


def _worker_mb(measured: Measured) -> Sample:
    assert measured.memory is not None
    return Sample.of([measured.memory.worker])


def _restart_ms(measured: Measured) -> Sample:
    assert measured.restart_ms is not None
    return measured.restart_ms
