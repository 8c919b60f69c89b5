"""restart: milliseconds from kill -9 of a worker until it is ready again, one worker after the other.

Beside stock supervisord, and with a long tape behind the worker beside a short one: nothing may grow with the tape.
"""

from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.homes import bench_home
from benchmarks.quiet import measure
from benchmarks.standing import grid, running
from benchmarks.tape_behind import make_tape

NAME = "restart"
_READER = 'id = "ma{number}"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"'


def run(settings: Settings) -> Iterator[Figure]:
    warm, stock = (_restarts(settings, warm=warm) for warm in (True, False))
    yield figure(settings, NAME, "kill -9 to ready again, p50", "ms", warm, stock, "stock supervisord (fork and exec)")
    shortest, *longer = sorted(settings.tapes)
    reference = _restarts_behind(settings, shortest)
    for records in longer:
        behind = _restarts_behind(settings, records)
        what = f"kill -9 to ready again, p50, tape of {records:,} records"
        yield figure(settings, NAME, what, "ms", behind, reference, f"the same with {shortest:,} records", at=records)


def _restarts(settings: Settings, *, warm: bool) -> Sample:
    restarts = measure(settings, warm=warm).restart_ms
    assert restarts is not None
    return restarts


def _restarts_behind(settings: Settings, records: int) -> Sample:
    symbols, strategies = grid(settings.workers, _READER)
    with bench_home(symbols, strategies) as home:
        make_tape(home, records)
        with running(home, settings.workers) as fleet:
            talk(f"  tape of {records:,} records: {settings.workers} workers ready in {fleet.boot_s:.1f} s")
            return fleet.restart_ms(settings.kills)
