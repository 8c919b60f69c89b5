"""density: memory of a fleet, beside the same fleet under supervisord as it comes and beside the least a fork can weigh."""

import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.processes import pss_mb
from benchmarks.quiet import Measured, Memory, measure, of_size

NAME = "density"
_STOCK = "stock supervisord (fork and exec)"
_BARE = "bare forked Python with one ZeroMQ context"
_PARTS = ("feed", "router", "watchdog", "daemon", "zygote")


def run(settings: Settings) -> Iterator[Figure]:
    """Beside stock supervisord at `settings.workers`, since a worker of its own exec weighs several times as much; beside the
    bare fork at `settings.density_workers` too."""
    warm, stock = (_memory(measure(settings, warm=warm)) for warm in (True, False))
    yield figure(
        settings, NAME, "PSS per worker", "MB", _one(warm.worker), _one(stock.worker), _STOCK, at=settings.workers
    )
    yield _beside_bare(settings, settings.workers, warm)
    yield figure(
        settings, NAME, f"whole fleet of {settings.workers}", "MB", _one(warm.fleet), _one(stock.fleet), _STOCK
    )
    for part in _PARTS:
        ours, theirs = (_one(getattr(memory, part)) for memory in (warm, stock))
        yield figure(settings, NAME, f"{part} alone", "MB", ours, theirs, _STOCK)
    for workers in settings.density_workers:
        if workers != settings.workers:
            yield _beside_bare(settings, workers, _memory(of_size(settings, workers)))


def _beside_bare(settings: Settings, workers: int, memory: Memory) -> Figure:
    what = f"PSS per worker, {workers} of them, beside a bare fork"
    return figure(settings, NAME, what, "MB", _one(memory.worker), _bare_fork(workers), _BARE, at=workers)


def _memory(measured: Measured) -> Memory:
    assert measured.memory is not None
    return measured.memory


def _one(value: float) -> Sample:
    return Sample.of([value])


def _bare_fork(count: int) -> Sample:
    with TemporaryDirectory(prefix="sr") as folder:
        parent = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_fork", str(count), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(count)]
        mean_mb = sum(map(pss_mb, pids)) / count
        parent.communicate()
    return _one(mean_mb)
