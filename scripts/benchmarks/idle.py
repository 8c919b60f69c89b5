"""idle: what a fleet costs while the market hardly moves, in per cent of one core."""

from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.quiet import measure

NAME = "idle"
_STOCK = "stock supervisord (fork and exec)"


def run(settings: Settings) -> Iterator[Figure]:
    warm, stock = measure(settings, warm=True), measure(settings, warm=False)
    for what, ours, theirs in (
        (f"whole fleet of {settings.workers}", warm.fleet_cpu_percent, stock.fleet_cpu_percent),
        ("daemon alone", warm.daemon_cpu_percent, stock.daemon_cpu_percent),
    ):
        assert ours is not None
        assert theirs is not None
        yield figure(settings, NAME, what, "% of a core", Sample.of([ours]), Sample.of([theirs]), _STOCK)
