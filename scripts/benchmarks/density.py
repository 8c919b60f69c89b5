"""density: memory of a fleet, beside the same fleet under supervisord as it comes and beside the least a fork can weigh."""

import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from benchmarks.common import Figure, Sample, Settings, figure
from benchmarks.fleet import Memory, measure
from benchmarks.processes import pss_mb

NAME = "density"
_STOCK = "stock supervisord (fork and exec)"
_PARTS = ("feed", "router", "daemon", "zygote")


def run(settings: Settings) -> Iterator[Figure]:
    warm, stock = _memory(settings, warm=True), _memory(settings, warm=False)
    yield figure(settings, NAME, "PSS per worker", "MB", _mean(warm), _mean(stock), _STOCK)
    bare = _bare_fork(settings.workers)
    against = "bare forked Python with one ZeroMQ context"
    yield figure(settings, NAME, "PSS per worker, beside a bare fork", "MB", _mean(warm), bare, against)
    whole, stock_whole = Sample.of([warm.fleet]), Sample.of([stock.fleet])
    yield figure(settings, NAME, f"whole fleet of {settings.workers}", "MB", whole, stock_whole, _STOCK)
    for part in _PARTS:
        ours, theirs = (Sample.of([getattr(memory, part)]) for memory in (warm, stock))
        yield figure(settings, NAME, f"{part} alone", "MB", ours, theirs, _STOCK)


def _memory(settings: Settings, *, warm: bool) -> Memory:
    memory = measure(settings, warm=warm).memory
    assert memory is not None
    return memory


def _mean(memory: Memory) -> Sample:
    """The mean, which times the number of workers is what they take together."""
    return Sample.of([sum(memory.workers.values) / len(memory.workers.values)])


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
    return Sample.of([mean_mb])
