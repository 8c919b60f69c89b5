"""What every benchmark is given and gives back: settings in, figures out, each figure the median of several runs."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import msgspec

from strategy_runner.errors import UsageError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How large everything is. `names` are the benchmarks asked for: those that share a fleet measure what is asked only.

    `growth`, `density_workers`, `latency_workers`, `fleet_workers` and `limit_workers` are fleet sizes of their own,
    `end_to_end_rate` and `fleet_rates` events a second in all, `tapes` how many records lie behind the worker that is killed.
    `events` are those of `doorbell`, and of `latency` at 1,000 a second: ten times as many come at 10,000.
    """

    names: frozenset[str]
    workers: int = 200
    runs: int = 3
    rows: int = 1_000_000
    appends: int = 500_000
    events: int = 3_000
    fan_out_events: int = 400_000
    kills: int = 20
    idle_s: float = 20.0
    settle_s: float = 5.0
    ingest_s: float = 20.0
    fleet_workers: int = 1_000
    fleet_s: float = 10.0
    fleet_rates: tuple[int, ...] = (500, 1_000, 5_000, 20_000)
    end_to_end_workers: int = 300
    end_to_end_rate: int = 2_000
    end_to_end_s: float = 60.0
    growth: tuple[int, ...] = (10, 100, 1_000)
    latency_workers: tuple[int, ...] = (1, 100, 1_000)
    density_workers: tuple[int, ...] = (100, 1_000)
    limit_workers: int = 2_000
    limit_rate: int = 20_000
    tapes: tuple[int, ...] = (10_000, 10_000_000)
    words: str = ""

    def command(self, name: str) -> str:
        """What to type to see a figure again."""
        return f"scripts/bench {name}{self.words}"


class Sample(msgspec.Struct, frozen=True):
    """One quantity, measured several times."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Sample":
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return median(self.values)

    def percentile(self, percent: float) -> float:
        """Nearest rank."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100.0))]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the result. `ratio` is value / reference; both are None where there is nothing to compare with.

    `value` and `reference` are medians of `runs` measurements between `min` and `max`; `against` says what the reference is.
    `at` is what a plot draws the value over: workers, or events a second.
    """

    name: str
    figure: str
    value: float
    unit: str
    reference: float | None
    ratio: float | None
    command: str
    against: str
    runs: int
    min: float
    max: float
    reference_min: float | None
    reference_max: float | None
    at: float | None = None


def figure(
    settings: Settings,
    name: str,
    what: str,
    unit: str,
    ours: Sample,
    reference: Sample | None = None,
    against: str = "",
    *,
    at: float | None = None,
) -> Figure:
    """The line of one quantity beside its reference. A reference of 0 gives no ratio."""
    return Figure(
        name=name,
        figure=what,
        value=_short(ours.median),
        unit=unit,
        reference=_short(reference.median) if reference else None,
        ratio=_short(ours.median / reference.median) if reference and reference.median else None,
        command=settings.command(name),
        against=against,
        runs=len(ours.values),
        min=_short(min(ours.values)),
        max=_short(max(ours.values)),
        reference_min=_short(min(reference.values)) if reference else None,
        reference_max=_short(max(reference.values)) if reference else None,
        at=at,
    )


def read_figures(paths: Iterable[Path]) -> list[Figure]:
    """What runs with -o json wrote; of a figure beside the same reference the last. Raises UsageError for a line that is none."""
    found: dict[tuple[str, str, str], Figure] = {}
    for path in paths:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise UsageError(f"--from: {path}: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            try:
                one = msgspec.json.decode(line, type=Figure)
            except msgspec.DecodeError as error:
                raise UsageError(f"--from: {path} line {number}: expected a figure as JSON: {error}") from None
            found[one.name, one.figure, one.against] = one
    return list(found.values())


def rate(count: int, call: Callable[[], object]) -> float:
    """Things a second of a call that does `count` of them."""
    begun = time.perf_counter()
    call()
    return count / (time.perf_counter() - begun)


def talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _short(number: float) -> float:
    """Four digits: more would claim more than was measured."""
    return float(f"{number:.4g}")
