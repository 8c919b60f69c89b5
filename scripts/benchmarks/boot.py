"""boot: seconds from the command until the whole fleet is ready, and until all of it has stopped."""

from collections.abc import Iterator

from benchmarks.common import Figure, Settings, figure
from benchmarks.quiet import measure

NAME = "boot"
_STOCK = "stock supervisord (fork and exec)"


def run(settings: Settings) -> Iterator[Figure]:
    warm, stock = measure(settings, warm=True), measure(settings, warm=False)
    count = settings.workers
    yield figure(settings, NAME, f"all {count} workers ready", "s", warm.boot_s, stock.boot_s, _STOCK)
    yield figure(settings, NAME, f"all {count} workers and daemon stopped", "s", warm.stop_s, stock.stop_s, _STOCK)
