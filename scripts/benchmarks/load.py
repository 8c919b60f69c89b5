"""A fleet under load: the market trades at a rate, and from outside it is seen how far behind the workers are.

Nobody in the fleet measures anything for it. Status pages and stream indexes are looked at, at random moments:
- `reported_ms` is what the workers report of themselves: how old a turn's last record was when the turn ended, from its
  receipt by the feed on;
- `wait_ms` is the mean over all records from publication until a worker had handled them: by Little's law the mean number of
  records that a worker has still to read, through the rate at which they come to it. No batch hides anything from it.
Missed are records below a worker's place on the tape that it has not counted.
"""

import random
import time

import msgspec

from benchmarks.common import Sample
from benchmarks.processes import processor_s, wakes
from benchmarks.standing import PATIENCE_S, Fleet
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import TimeoutExpiredError
from strategy_runner.model.names import FEED_NAME
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader

COUNT_TRADES = 'id = "count{number}"\nstrategy = "count_trades"\ntimeframe = "1m"'
_LOOK_S = 0.05
_LOOKS = 20
# workers each time, and how long between: who looks takes a processor from those it looks at
_SAMPLED_MAX, _SAMPLE_S = 10, 0.02
_SEED = 1


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. Processor time is in per cent of one core; `rate` (on the tape), `deliveries` and `wakes` are a second."""

    rate: float
    reported_ms: Sample
    wait_ms: float
    deliveries: float
    wakes: float
    feed_cpu: float
    workers_cpu: float
    daemon_cpu: float
    missed: int


def under_load(fleet: Fleet, rate: int, seconds: float, settle_s: float) -> Load:
    """The fleet's market must have been SILENT (standing.py) since its start, so that it began with the tape's first record."""
    watched = _Watched(fleet)
    fleet.set_market(rate / watched.symbols)
    time.sleep(settle_s)
    watched.take_pids()
    before = watched.use()
    reported_ms, behind = watched.look(seconds)
    after = watched.use()
    missed = missed_records(fleet, watched.reader)
    elapsed = after.at_s - before.at_s
    deliveries = (after.delivered - before.delivered) / elapsed
    return Load(
        rate=(after.count - before.count) / elapsed,
        reported_ms=reported_ms,
        wait_ms=behind / (deliveries / len(fleet.workers)) * 1e3,
        deliveries=deliveries,
        wakes=(after.wakes - before.wakes) / elapsed,
        feed_cpu=100.0 * (after.feed_s - before.feed_s) / elapsed,
        workers_cpu=100.0 * (after.workers_s - before.workers_s) / elapsed,
        daemon_cpu=100.0 * (after.daemon_s - before.daemon_s) / elapsed,
        missed=missed,
    )


class _Use(msgspec.Struct, frozen=True, kw_only=True):
    """Counters at one moment; `delivered` counts a record for each worker that reads its stream."""

    at_s: float
    count: int
    delivered: int
    wakes: int
    feed_s: float
    workers_s: float
    daemon_s: float


class _Watched:
    """The fleet and its tape, seen from outside."""

    def __init__(self, fleet: Fleet) -> None:
        specs = {name: fleet.specs[name] for name in fleet.workers}
        self._fleet = fleet
        self.reader = TapeReader(fleet.tape)
        self._streams: dict[str, int] = {}
        for name, spec in specs.items():
            assert isinstance(spec, WorkerSpec)
            (stream,) = spec.streams
            found = self.reader.find(Stream.parse(stream))
            assert found is not None, stream
            self._streams[name] = found
        self.symbols = len(set(self._streams.values()))

    def take_pids(self) -> None:
        self._daemon, self._feed = self._fleet.daemon_pid(), self._fleet.pid(FEED_NAME)
        self._workers = [self._fleet.pid(name) for name in self._fleet.workers]

    def use(self) -> _Use:
        return _Use(
            wakes=sum(map(wakes, self._workers)),
            feed_s=processor_s([self._feed]),
            workers_s=processor_s(self._workers),
            daemon_s=processor_s([self._daemon]),
            delivered=sum(map(self.reader.entries, self._streams.values())),
            count=self.reader.head.count,
            at_s=time.perf_counter(),
        )

    def look(self, seconds: float) -> tuple[Sample, float]:
        """The lags that workers report in ms, and how many records a worker has still to read, in the mean."""
        choose, workers = random.Random(_SEED), self._fleet.workers
        lags_ms, behind, looks = [], 0, 0
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for name in choose.sample(workers, min(len(workers), _SAMPLED_MAX)):
                status = self._fleet.status(name)
                behind += self.reader.entries(self._streams[name]) - status.records
                looks += 1
                if status.records:
                    lags_ms.append(status.lag_ns / 1e6)
            time.sleep(_SAMPLE_S)
        if not lags_ms:
            raise TimeoutExpiredError(f"expected records within {seconds:g} s, found that no worker had any")
        return Sample.of(lags_ms), behind / looks


def missed_records(fleet: Fleet, reader: TapeReader) -> int:
    """Of all that each worker hears of, once every worker has read what is on the tape now."""
    target, deadline, missed = reader.head.count, time.monotonic() + PATIENCE_S, 0
    for name in fleet.workers:
        while (position := fleet.status(name).position) < target:
            if time.monotonic() > deadline:
                raise TimeoutExpiredError(f"{name}: expected it at seq {target}, found it at {position}")
            time.sleep(_LOOK_S)
        spec = fleet.specs[name]
        assert isinstance(spec, WorkerSpec)
        streams = (reader.find(Stream.parse(stream)) for stream in spec.heard)
        missed += _not_counted(fleet, name, reader, [stream for stream in streams if stream is not None])
    return missed


def _not_counted(fleet: Fleet, name: str, reader: TapeReader, streams: list[int]) -> int:
    """Records below a worker's place that it has not counted. One that is missed stays missed; at one look the page may belong
    to a writer that was interrupted between two of its numbers, for as long as others had the processor."""
    for _ in range(_LOOKS):
        page = fleet.status(name)
        missed = sum(reader.first_ordinal_at(stream, page.position) for stream in streams) - page.records
        if not missed:
            break
        time.sleep(_LOOK_S)
    return missed
