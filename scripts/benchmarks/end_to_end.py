"""end-to-end: from a tick to the worker that learns of the fill it led to, through every process there is.

Feed, worker, router with its risk checks, paper OMS, fill log, and by the feed back to the worker. Measured on the tape, by the
feed's own clock: from the receipt of the tick that a signal names as its cause, to the receipt of the record of its first fill.
The paper market fills an order at the first trade of its symbol after it has come. So three times are told of each signal: the
whole; the wait of the acknowledged order for that trade, which is the market's; and the lag, which is the rest. It begins when
each worker has signalled once.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import Figure, Sample, Settings, figure, talk
from benchmarks.homes import bench_home
from benchmarks.load import missed_records
from benchmarks.standing import SILENT, Fleet, running, symbols_for
from strategy_runner.config.spec import RouterSpec, WorkerSpec
from strategy_runner.errors import NotRunningError
from strategy_runner.model.private import PrivateEntry, decode_private
from strategy_runner.model.signal import decode_body
from strategy_runner.model.stream import private
from strategy_runner.router.order_entry import Told
from strategy_runner.router.order_journal import order_log, read_orders
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.outbox import decode_logged

NAME = "end-to-end"
_EVERY = 200  # trades of a symbol between two signals of one worker on it
# cash for all, and a market without delay of its own
_TABLES = "[risk]\nstarting_cash = 1_000_000_000.0\n\n[paper]\nlatency_ms = 0.0"
_DEADLINE_S = 5.0
_RECEIVED_NS, _NUMBER = 3, 11  # places in a record; the number of a private entry is its v3


def run(settings: Settings) -> Iterator[Figure]:
    workers, rate = settings.end_to_end_workers, settings.end_to_end_rate
    symbols = symbols_for(workers)
    home_with_orders = bench_home(
        symbols,
        _strategies(workers // len(symbols)),
        own=["trade_often"],
        routes=["oms"],
        tables=_TABLES,
        lot_size=0.0001,
    )
    with (
        home_with_orders as home,
        running(home, workers, market=SILENT) as fleet,
    ):
        talk(f"  {workers} workers ready in {fleet.boot_s:.1f} s, {rate:,} events/s ...")
        reader = TapeReader(fleet.tape)
        fleet.set_market(rate / len(symbols))
        # a worker keeps what it began with at its first signal, which costs syncs, and all of them at once
        fleet.await_first_signals()
        time.sleep(settings.settle_s)
        begin_ns = reader.head.clock_ns()
        time.sleep(settings.end_to_end_s)
        end_ns = reader.head.clock_ns()
        time.sleep(_DEADLINE_S)
        asked_ns = {id_: at_ns for id_, at_ns in _signals(fleet).items() if begin_ns <= at_ns < end_ns}
        fills = _first_fills(fleet, reader)
        acknowledged_ns = _acknowledged(fleet)
        missed = missed_records(fleet, reader)
        reader.close()
    times = [(at_ns, fills[id_]) for id_, at_ns in asked_ns.items() if id_ in fills]
    whole_ms = Sample.of((fill.told_ns - at_ns) / 1e6 for at_ns, fill in times)
    waits_ms = Sample.of(
        max(0.0, (fill.traded_ns - acknowledged_ns.get(fill.order_id, fill.traded_ns)) / 1e6) for _, fill in times
    )
    lags_ms = Sample.of(whole - wait for whole, wait in zip(whole_ms.values, waits_ms.values, strict=True))
    if not times:
        raise NotRunningError(f"{NAME}: expected fills of {len(asked_ns)} signals, found none")
    what = f"{workers} workers, {rate:,} events/s"
    elapsed_s = (end_ns - begin_ns) / 1e9
    for title, unit, value in (
        ("lag from tick to fill on the tape, without the wait for a trade, p50", "ms", lags_ms.percentile(50.0)),
        ("lag from tick to fill on the tape, without the wait for a trade, p99", "ms", lags_ms.percentile(99.0)),
        ("wait of the order for the next trade, p50", "ms", waits_ms.percentile(50.0)),
        ("wait of the order for the next trade, p99", "ms", waits_ms.percentile(99.0)),
        ("tick to fill on the tape, whole, p50", "ms", whole_ms.percentile(50.0)),
        ("tick to fill on the tape, whole, p99", "ms", whole_ms.percentile(99.0)),
        ("trades of a symbol are apart", "ms", 1e3 * len(symbols) / rate),
        ("signals", "1/s", len(asked_ns) / elapsed_s),
        (f"signals without a fill after {_DEADLINE_S:g} s", "signals", float(len(asked_ns) - len(times))),
        ("records that a worker missed", "records", float(missed)),
    ):
        yield figure(settings, NAME, f"{title}, {what}", unit, Sample.of([value]), at=rate)


def _strategies(count: int) -> list[str]:
    """Each begins to count at another place."""
    return [
        f'id = "often{number}"\nstrategy = "trade_often"\ntimeframe = "1m"\nsize = 0.01\n'
        f"params = {{ every = {_EVERY}, offset = {number * _EVERY // count} }}"
        for number in range(count)
    ]


def _signals(fleet: Fleet) -> dict[str, int]:
    """When the tick that caused it was received, by the id of each signal that the pipeline let pass."""
    found = {}
    for spec in _workers(fleet):
        for payload in read_log(Path(spec.folder) / "signals.log"):
            logged = decode_logged(payload)
            body = decode_body(logged.body)
            if body.refusal is None:
                found[body.id] = logged.envelope.received_ns
    return found


class _Fill(NamedTuple):
    """The first of a signal: when the trade was received that it was filled at, and when the record that tells of it."""

    order_id: str
    traded_ns: int
    told_ns: int


def _first_fills(fleet: Fleet, reader: TapeReader) -> dict[str, _Fill]:
    """By signal."""
    workers = _workers(fleet)
    streams = [stream for spec in workers if (stream := reader.find(private(spec.key))) is not None]
    told = [reader.fields(seq, stream) for stream in streams for seq in _seqs(reader, stream)]
    # behind the records, since the market goes on: each has its entry then
    entries = [decode_private(payload) for payload in read_log(Path(workers[0].fills))]
    found: dict[str, _Fill] = {}
    for fields in told:
        entry: PrivateEntry = entries[int(fields[_NUMBER])]
        fill = entry.event.fill
        if fill is not None and entry.signal_id not in found:
            traded_ns = int(reader.fields(entry.event.seq)[_RECEIVED_NS])
            found[entry.signal_id] = _Fill(fill.client_order_id, traded_ns, int(fields[_RECEIVED_NS]))
    return found


def _acknowledged(fleet: Fleet) -> dict[str, int]:
    """When the desk noted that the OMS has an order, by its id."""
    (folder,) = (Path(spec.folder) for spec in fleet.specs.values() if isinstance(spec, RouterSpec))
    found: dict[str, int] = {}
    for _, entry in read_orders(order_log(folder)):
        if isinstance(entry, Told) and entry.report.state not in ("sent", "unknown"):
            found.setdefault(entry.report.client_order_id, entry.at_ns)
    return found


def _seqs(reader: TapeReader, stream: int) -> Iterator[int]:
    at, entries = 0, reader.entries(stream)
    while at < entries:
        seqs = reader.seqs(stream, at, entries)
        yield from seqs
        at += len(seqs)


def _workers(fleet: Fleet) -> list[WorkerSpec]:
    return [spec for name in fleet.workers if isinstance(spec := fleet.specs[name], WorkerSpec)]
