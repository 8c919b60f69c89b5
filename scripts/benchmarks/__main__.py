"""scripts/bench: runs benchmarks by name, or all, and prints one line for each figure."""

import argparse
import datetime
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import (
    boot,
    density,
    doorbell,
    end_to_end,
    fan_out,
    fleet,
    growth,
    historical,
    idle,
    ingest,
    latency,
    limit,
    oms,
    own,
    peers,
    restart,
    risk,
    router,
    simulation,
    tape,
)
from benchmarks.common import Figure, Settings, read_figures, talk
from benchmarks.machine import describe_machine, load_average
from benchmarks.plots import check_plotting, write_plots
from benchmarks.table import as_text, write_into
from strategy_runner.errors import StrategyRunnerError

BENCHMARKS: dict[str, Callable[[Settings], Iterator[Figure]]] = {
    module.NAME: module.run
    for module in (
        tape,
        risk,
        doorbell,
        latency,
        fan_out,
        density,
        boot,
        restart,
        idle,
        growth,
        own,
        fleet,
        end_to_end,
        limit,
        ingest,
        historical,
        peers,
        simulation,
        oms,
        router,
    )
}
SHORT: dict[str, Any] = {
    "workers": 20,
    "runs": 1,
    "rows": 20_000,
    "appends": 20_000,
    "events": 200,
    "fan_out_events": 2_000,
    "kills": 3,
    "idle_s": 2.0,
    "settle_s": 0.5,
    "ingest_s": 1.0,
    "fleet_workers": 20,
    "fleet_s": 1.0,
    "fleet_rates": (500, 2_000),
    "end_to_end_workers": 10,
    "end_to_end_rate": 1_000,
    "end_to_end_s": 3.0,
    "growth": (5, 10, 20),
    "latency_workers": (1,),
    "density_workers": (20,),
    "limit_workers": 30,
    "limit_rate": 2_000,
    "tapes": (1_000, 100_000),
}
_SIZES = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if field.name not in ("names", "words", "workers", "runs")
}


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no fleet may outlive the benchmark
    settings = _settings(given)
    machine = describe_machine() if given.measured else f"{describe_machine()}, load average {load_average()} before"
    talk(machine)
    try:
        if given.plots is not None:
            check_plotting()
        figures = read_figures(given.measured) if given.measured else _measure(settings, given)
        if given.output == "table":
            print(as_text(figures))
        if given.write is not None:
            circumstances = machine if given.measured else f"{machine} and {load_average()} after"
            write_into(given.write, figures, circumstances, datetime.date.today().isoformat())
        if given.plots is not None:
            for path in write_plots(given.plots, figures):
                talk(f"drew {path}")
    except StrategyRunnerError as error:
        talk(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        talk("interrupted")
        return 130
    return 0


def _measure(settings: Settings, given: argparse.Namespace) -> list[Figure]:
    figures = []
    for name in given.names or BENCHMARKS:
        talk(f"{name} ...")
        for figure in BENCHMARKS[name](settings):
            figures.append(figure)
            if given.output == "json":
                print(msgspec.json.encode(figure).decode(), flush=True)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure each thing beside a reference in the same run."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} [default: all]")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="one JSON object a line")
    parser.add_argument("--short", action="store_true", help="everything tiny: shows that it works, and no more")
    parser.add_argument("--workers", type=_positive, metavar="N", help="size of the fleet [default: 200]")
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of which the median counts [default: 3]")
    parser.add_argument(
        "--set",
        action="append",
        type=_sizing,
        default=[],
        metavar="NAME=VALUE",
        help=f"another size, numbers of a list with commas: {', '.join(_SIZES)}",
    )
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw SVG files there, from the root on")
    parser.add_argument(
        "--from",
        dest="measured",
        action="append",
        type=Path,
        metavar="FILE",
        help="measure nothing: what earlier runs with -o json wrote, of the same figure the last one",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document, from the root on")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _sizing(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in _SIZES:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE with a NAME of {', '.join(_SIZES)}, found {text!r}")
    wanted = _SIZES[name]
    try:
        found = msgspec.convert(value.split(",") if wanted == tuple[int, ...] else value, wanted, strict=False)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(f"expected {name} to be a number, found {value!r}") from None
    if not found or any(not number > 0 for number in (found if isinstance(found, tuple) else (found,))):
        raise argparse.ArgumentTypeError(f"expected {name} above 0, found {value!r}")
    return name, found


def _settings(given: argparse.Namespace) -> Settings:
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        _parser().error(f"expected names of {', '.join(BENCHMARKS)}, found {', '.join(unknown)}")
    chosen = {name: getattr(given, name) for name in ("workers", "runs") if getattr(given, name) is not None}
    words = (" --short" if given.short else "") + "".join(f" --{name} {value}" for name, value in chosen.items())
    words += "".join(f" --set {name}={_text(value)}" for name, value in given.set)
    sizes = SHORT if given.short else {}
    return Settings(names=frozenset(given.names or BENCHMARKS), words=words, **{**sizes, **dict(given.set), **chosen})


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
