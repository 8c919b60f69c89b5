"""restart: milliseconds from kill -9 of a worker until it is ready again, one worker after the other."""

from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.fleet import measure

NAME = "restart"


def run(settings: Settings) -> Iterator[Figure]:
    warm, stock = (_restarts(settings, warm=warm) for warm in (True, False))
    yield figure(settings, NAME, "kill -9 to ready again, p50", "ms", warm, stock, "stock supervisord (fork and exec)")


def _restarts(settings: Settings, *, warm: bool) -> Sample:
    restarts = measure(settings, warm=warm).restart_ms
    assert restarts is not None
    return restarts
