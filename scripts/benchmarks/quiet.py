"""A fleet while the market hardly moves: what density, boot, restart, idle, growth and own measure, each size once.

One fleet serves all of them that were asked for, since a thousand workers are not started in vain.
"""

import time
from functools import cache

import msgspec

from benchmarks.common import Sample, Settings, talk
from benchmarks.homes import CLIENT, bench_home
from benchmarks.load import COUNT_TRADES
from benchmarks.processes import children, processor_s, pss_mb
from benchmarks.standing import Fleet, grid, running
from strategy_runner.model.names import FEED_NAME, WATCHDOG_NAME, router_name

_CROSSOVER = 'id = "ma{number}"\nstrategy = "moving_average_crossover"\ntimeframe = "1m"'
_MEASURES = frozenset({"density", "boot", "restart", "idle"})


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Proportional set sizes in MB; `zygote` is 0 where there is none."""

    workers: Sample
    feed: float
    router: float
    watchdog: float
    daemon: float
    zygote: float

    @property
    def worker(self) -> float:
        """The mean, which times the number of workers is what they take together."""
        return sum(self.workers.values) / len(self.workers.values)

    @property
    def fleet(self) -> float:
        return sum(self.workers.values) + self.feed + self.router + self.watchdog + self.daemon + self.zygote


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one supervisor's fleet showed. None is what was not asked for."""

    boot_s: Sample
    stop_s: Sample
    memory: Memory | None
    restart_ms: Sample | None
    fleet_cpu_percent: float | None
    daemon_cpu_percent: float | None


def of_size(settings: Settings, workers: int) -> Measured:
    """A fleet of another size than the settings', under the warm fork."""
    return measure(msgspec.structs.replace(settings, workers=workers), warm=True)


def measure(settings: Settings, *, warm: bool, own: bool = False) -> Measured:
    """Runs the fleet as often as `settings.runs` says; what needs a fleet that stands is measured on the last. With `own` its
    strategy is the client's own code and not a built-in one."""
    names = _MEASURES if "growth" in settings.names else settings.names & _MEASURES
    return _measure(msgspec.structs.replace(settings, names=names), warm=warm, own=own)


@cache
def _measure(settings: Settings, *, warm: bool, own: bool) -> Measured:
    boots, stops = [], []
    again = settings.runs if "boot" in settings.names else 1
    symbols, strategies = grid(settings.workers, COUNT_TRADES if own else _CROSSOVER)
    what = "own strategies" if own else "warm fork" if warm else "stock"
    for left in reversed(range(again)):
        with (
            bench_home(symbols, strategies, own=["count_trades"] if own else ()) as home,
            running(home, settings.workers, warm=warm) as fleet,
        ):
            talk(f"  {what}: {settings.workers} workers ready in {fleet.boot_s:.1f} s")
            boots.append(fleet.boot_s)
            if left:
                stops.append(fleet.stop())
                continue
            if settings.names & {"idle", "density"}:
                time.sleep(settings.settle_s)
            cpu = _cpu_percent(fleet, settings.idle_s) if "idle" in settings.names else (None, None)
            memory = _memory(fleet) if "density" in settings.names else None
            restart = fleet.restart_ms(settings.kills) if "restart" in settings.names else None
            stops.append(fleet.stop())
    return Measured(
        boot_s=Sample.of(boots),
        stop_s=Sample.of(stops),
        memory=memory,
        restart_ms=restart,
        fleet_cpu_percent=cpu[0],
        daemon_cpu_percent=cpu[1],
    )


def worker_mb(measured: Measured) -> Sample:
    assert measured.memory is not None
    return Sample.of([measured.memory.worker])


def restart_ms(measured: Measured) -> Sample:
    assert measured.restart_ms is not None
    return measured.restart_ms


def _memory(fleet: Fleet) -> Memory:
    daemon = fleet.daemon_pid()
    pids = {name: fleet.pid(name) for name in fleet.pages}
    others = [pid for pid in children(daemon) if pid not in pids.values()]
    return Memory(
        workers=Sample.of(pss_mb(pids[name]) for name in fleet.workers),
        feed=pss_mb(pids[FEED_NAME]),
        router=pss_mb(pids[router_name(CLIENT)]),
        watchdog=pss_mb(pids[WATCHDOG_NAME]),
        daemon=pss_mb(daemon),
        zygote=sum(pss_mb(pid) for pid in others),
    )


def _cpu_percent(fleet: Fleet, seconds: float) -> tuple[float, float]:
    """Per cent of one core over a window in which nothing happens: the whole fleet, and the daemon alone."""
    daemon = fleet.daemon_pid()
    pids = [daemon, *children(daemon)]
    begun, whole, alone = time.perf_counter(), processor_s(pids), processor_s([daemon])
    time.sleep(seconds)
    whole, alone = processor_s(pids) - whole, processor_s([daemon]) - alone
    elapsed = time.perf_counter() - begun
    return 100.0 * whole / elapsed, 100.0 * alone / elapsed
