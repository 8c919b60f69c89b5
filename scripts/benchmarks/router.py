"""router: signals decided and durable, and orders at the paper OMS, through one client's whole router (routed.py).

Routers with a route to the paper OMS are measured, which check each signal against [risk] and accept as many orders a second as
may go, many or few, and one without, which has no risk state and accepts all. A decision counts when it is on the disk. The
reference of what is written is the same bytes appended and synced (fdatasync) by themselves, in groups of the same size.

Before each measurement the sinks have all that was decided; while one goes on they follow, as always.
"""

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.routed import Routed
from strategy_runner.router.journal import decision_log
from strategy_runner.router.router import TURN_SIGNALS_MAX
from strategy_runner.tape.logs import AppendLog, read_log

NAME = "router"
_WORKERS = 20
_FEW, _MANY = 10, 300
_RATE = 10_000
_BURST = 20_000
_ONE_BY_ONE = 300
_ORDER_RATES = (100, 500, 1_000)
_ORDERS_PER_S = 1_100  # more than will come: some come late
_FEW_ORDERS_PER_S = 100
_WARM_UP = 500
_LOOK_MS = 5
# by how many orders may go a second
_KINDS = {
    _ORDERS_PER_S: "checked by [risk], with the paper OMS",
    _FEW_ORDERS_PER_S: f"checked by [risk], {_FEW_ORDERS_PER_S} orders a second may go",
    0: "without a route to an OMS",
}
_SYNCED = "the same bytes appended and synced"
_ONE_SYNCED = "one decision appended and synced"


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run; times in us, rates a second."""

    burst: float
    bare_burst: float
    rate: float
    paced_us: Sample
    single_us: Sample
    bare_single_us: Sample
    acknowledged_us: dict[int, Sample]  # by the orders a second that came
    orders: float


def run(settings: Settings) -> Iterator[Figure]:
    burst, singles = min(_BURST, 10 * settings.events), min(_ONE_BY_ONE, settings.events)
    for orders_per_s, kind in _KINDS.items():
        seen, orders = [], orders_per_s == _ORDERS_PER_S
        for number in range(settings.runs):
            talk(f"  {kind}: run {number + 1} ...")
            with Routed(_WORKERS, orders_per_s=orders_per_s) as routed:
                seen.append(_see(routed, burst, singles, orders=orders))
        yield from _figures(settings, seen, burst, kind, orders=orders)
    yield from _growth(settings, burst)


def _see(routed: Routed, burst: int, singles: int, *, orders: bool) -> _Seen:
    routed.heap(_WARM_UP)
    routed.decide(_WARM_UP)
    number = routed.router._journal.number
    rate = _burst(routed, burst)
    bare_burst, bare_single_us = _bare(routed, number, singles)
    routed.settle()
    number = routed.router._journal.number
    paced = _paced(routed, burst, _RATE)
    paced_us = _latency_us(routed, number)
    routed.settle()
    number = routed.router._journal.number
    for _ in range(singles):
        routed.pace(1, _RATE)
        routed.turn_until(routed.talked, "a signal")
        routed.turn_until(lambda: routed.is_all_decided, "a decision")
    single_us = _latency_us(routed, number)
    acknowledged_us: dict[int, Sample] = {}
    ordered = 0.0
    for order_rate in _ORDER_RATES if orders else ():
        acknowledged_us[order_rate], ordered = _orders(routed, min(3 * order_rate, burst // 8), order_rate)
    return _Seen(
        burst=rate,
        bare_burst=bare_burst,
        rate=paced,
        paced_us=paced_us,
        single_us=single_us,
        bare_single_us=bare_single_us,
        acknowledged_us=acknowledged_us,
        orders=ordered,
    )


def _figures(settings: Settings, seen: list[_Seen], burst: int, kind: str, *, orders: bool) -> Iterator[Figure]:
    def line(what: str, unit: str, ours: Sample, reference: Sample | None = None, against: str = "") -> Figure:
        return figure(settings, NAME, f"{what}, {kind}", unit, ours, reference, against)

    bare = Sample.of(one.bare_burst for one in seen)
    yield line(
        f"decided and durable of {burst} there at once", "1/s", Sample.of(one.burst for one in seen), bare, _SYNCED
    )
    asked = Sample.of([float(_RATE)])
    yield line(
        f"decided and durable of {_RATE} a second", "1/s", Sample.of(one.rate for one in seen), asked, "those that came"
    )
    for percent in (50.0, 99.0):
        single = Sample.of(one.bare_single_us.percentile(percent) for one in seen)
        for what, samples in (
            (f"signal written to decision durable, {_RATE} a second", [one.paced_us for one in seen]),
            ("signal written to decision durable, one at a time", [one.single_us for one in seen]),
            *(
                (
                    f"decision durable to order acknowledged, {rate} a second",
                    [one.acknowledged_us[rate] for one in seen],
                )
                for rate in (_ORDER_RATES if orders else ())
            ),
        ):
            ours = Sample.of(one.percentile(percent) for one in samples)
            yield line(f"{what}, p{percent:g}", "us", ours, single, _ONE_SYNCED)
    if orders:
        wanted = Sample.of([float(_ORDER_RATES[-1])])
        yield line(
            f"orders filled and told of {_ORDER_RATES[-1]} a second",
            "1/s",
            Sample.of(one.orders for one in seen),
            wanted,
            "signals that came",
        )


def _growth(settings: Settings, burst: int) -> Iterator[Figure]:
    """Whether a signal costs the router's loop more with more workers, or after more signals. An order costs much more than a
    signal that is refused: each is measured when no more orders may go, but for those that the time that passes allows."""
    few: list[float] = []
    many: list[float] = []
    first, last, memory = [], [], []
    after = 5 * burst
    for _ in range(settings.runs):
        for workers, costs in ((_FEW, few), (_MANY, many)):
            with Routed(workers, orders_per_s=_ORDERS_PER_S) as routed:
                _loop_us(routed, _ORDERS_PER_S)
                costs.append(_loop_us(routed, burst // 4))
                if workers == _FEW:
                    first.append(_loop_us(routed, burst // 4))
                    before = _resident_mb()
                    _loop_us(routed, after)
                    last.append(_loop_us(routed, burst // 4))
                    memory.append(_resident_mb() - before)
    what = f"loop's time for a signal, {_MANY} workers"
    yield figure(settings, NAME, what, "us", Sample.of(many), Sample.of(few), f"{_FEW} workers")
    begin = _ORDERS_PER_S + burst // 4
    what = f"loop's time for a signal, after {begin + burst // 4 + after} signals"
    yield figure(settings, NAME, what, "us", Sample.of(last), Sample.of(first), f"after {begin}")
    yield figure(settings, NAME, f"more memory after {after} signals more", "MB", Sample.of(memory))


def _burst(routed: Routed, count: int) -> float:
    """Decisions a second from a heap of signals that is there."""
    routed.heap(count)
    begun = time.perf_counter()
    routed.decide(count)
    return count / (time.perf_counter() - begun)


def _loop_us(routed: Routed, count: int) -> float:
    """Processor time of the loop's thread for each signal of a heap."""
    routed.heap(count)
    used = time.thread_time()
    routed.decide(count)
    return (time.thread_time() - used) / count * 1e6


def _paced(routed: Routed, count: int, rate: float) -> float:
    """Decisions a second while signals come at a rate."""
    begun = time.perf_counter()
    routed.pace(count, rate)
    routed.turn_until(lambda: routed.is_all_decided, "all decisions")
    elapsed = time.perf_counter() - begun
    routed.turn_until(routed.talked, "the talkers' word")
    return count / elapsed


def _orders(routed: Routed, count: int, rate: int) -> tuple[Sample, float]:
    """While so many signals come at a rate: from each decision's durability to its acknowledged order (us), and the orders filled
    and told a second, from the first to the last."""
    routed.settle()
    journal, filled = routed.router._journal, routed.filled()
    number, refusals = journal.number, journal.refusals
    _paced(routed, count, rate)
    wanted = filled + count - (journal.refusals - refusals)
    routed.turn_until(lambda: routed.filled() >= wanted, "a fill of each order", look_ms=_LOOK_MS)
    accepted = {one.orders[0].client_order_id: at_ns for one, at_ns in routed.durable(number) if one.orders}
    told_ns, filled_ns = routed.acknowledged_ns(), routed.filled_ns(accepted)
    ordered = (len(filled_ns) - 1) / (max(filled_ns) - min(filled_ns)) * 1e9
    return Sample.of((told_ns[order_id] - at_ns) / 1e3 for order_id, at_ns in accepted.items()), ordered


def _latency_us(routed: Routed, since: int) -> Sample:
    return Sample.of((at_ns - one.envelope.recorded_ns) / 1e3 for one, at_ns in routed.durable(since))


def _bare(routed: Routed, since: int, singles: int) -> tuple[float, Sample]:
    """The decisions of the burst appended and synced by themselves: a second in groups, and each alone in us."""
    payloads = list(read_log(decision_log(routed.root / "router")))[since:]
    log = AppendLog(Path(routed.root / "bare.log"))
    begun = time.perf_counter()
    for at in range(0, len(payloads), TURN_SIGNALS_MAX):
        log.append_many(payloads[at : at + TURN_SIGNALS_MAX])
        log.sync()
    rate = len(payloads) / (time.perf_counter() - begun)
    found = []
    for payload in payloads[:singles]:
        begun_ns = time.perf_counter_ns()
        log.append(payload)
        log.sync()
        found.append((time.perf_counter_ns() - begun_ns) / 1e3)
    log.close()
    return rate, Sample.of(found)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
