"""fleet: how far behind the workers of a busy market are, at rising rates: lag, records missed, wakes and processor time.

Fifty symbols, the workers spread over them, so that each event is delivered to every fiftieth worker. Each rate has a fleet of
its own, started on a silent market.
"""

from collections.abc import Iterator

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.homes import bench_home
from benchmarks.load import COUNT_TRADES, Load, under_load
from benchmarks.prototype import WORKERS_MAX, Prototype, measure
from benchmarks.standing import SILENT, grid, running

NAME = "fleet"


def run(settings: Settings) -> Iterator[Figure]:
    prototype = measure(min(settings.fleet_workers, WORKERS_MAX))
    for rate in settings.fleet_rates:
        yield from load_figures(settings, NAME, settings.fleet_workers, rate, _load(settings, rate), prototype)


def load_figures(
    settings: Settings, name: str, workers: int, rate: int, load: Load, prototype: Prototype | None
) -> Iterator[Figure]:
    """What a load of `rate` events a second asked for showed."""
    what, of_core = f"{workers} workers, {rate:,} events/s", "% of a core"
    lag = prototype.lag_ms.get(rate) if prototype else None
    yield figure(
        settings,
        name,
        f"mean lag reported, {what}",
        "ms",
        Sample.of([sum(load.reported_ms.values) / len(load.reported_ms.values)]),
        None if lag is None else Sample.of([lag]),
        "" if lag is None or prototype is None else of_prototype(prototype),
        at=rate,
    )
    for title, unit, value in (
        ("p99 lag reported", "ms", load.reported_ms.percentile(99.0)),
        ("mean wait of a record", "ms", load.wait_ms),
        ("missed", "records", load.missed),
        ("events on the tape", "events/s", load.rate),
        ("deliveries", "1/s", load.deliveries),
        ("wakes of a worker", "1/s", load.wakes / workers),
        ("feed", of_core, load.feed_cpu),
        ("all workers", of_core, load.workers_cpu),
        ("daemon", of_core, load.daemon_cpu),
    ):
        yield figure(settings, name, f"{title}, {what}", unit, Sample.of([value]), at=rate)


def of_prototype(prototype: Prototype) -> str:
    return f"prototype of {prototype.workers:,} workers"


def _load(settings: Settings, rate: int) -> Load:
    symbols, strategies = grid(settings.fleet_workers, COUNT_TRADES)
    with (
        bench_home(symbols, strategies, own=["count_trades"]) as home,
        running(home, settings.fleet_workers, market=SILENT) as fleet,
    ):
        talk(f"  {settings.fleet_workers} workers ready in {fleet.boot_s:.1f} s, {rate:,} events/s ...")
        return under_load(fleet, rate, settings.fleet_s, settings.settle_s)
