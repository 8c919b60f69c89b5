"""scripts/bench: runs benchmarks by name, or all, and prints one line for each figure."""

import argparse
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import (
    boot,
    density,
    doorbell,
    fan_out,
    historical,
    idle,
    latency,
    oms,
    peers,
    restart,
    risk,
    simulation,
    tape,
)
from benchmarks.common import Figure, Settings, talk
from benchmarks.machine import describe_machine, load_average
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
        historical,
        peers,
        simulation,
        oms,
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
}


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = _settings(given)
    machine = f"{describe_machine()}, load average {load_average()} before"
    talk(machine)
    figures = []
    try:
        for name in given.names or BENCHMARKS:
            talk(f"{name} ...")
            for figure in BENCHMARKS[name](settings):
                figures.append(figure)
                if given.output == "json":
                    print(msgspec.json.encode(figure).decode(), flush=True)
        if given.output == "table":
            print(as_text(figures))
        if given.write is not None:
            circumstances = f"{machine} and {load_average()} after"
            write_into(given.write, figures, circumstances, datetime.date.today().isoformat())
    except StrategyRunnerError as error:
        talk(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        talk("interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure each thing beside a reference in the same run."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} [default: all]")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="one JSON object a line")
    parser.add_argument("--short", action="store_true", help="everything tiny: shows that it works, and no more")
    parser.add_argument("--workers", type=_positive, metavar="N", help="size of the fleet [default: 200]")
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of which the median counts [default: 3]")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document, from the root on")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _settings(given: argparse.Namespace) -> Settings:
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        _parser().error(f"expected names of {', '.join(BENCHMARKS)}, found {', '.join(unknown)}")
    chosen = {name: getattr(given, name) for name in ("workers", "runs") if getattr(given, name) is not None}
    words = (" --short" if given.short else "") + "".join(f" --{name} {value}" for name, value in chosen.items())
    sizes = SHORT if given.short else {}
    return Settings(names=frozenset(given.names or BENCHMARKS), words=words, **{**sizes, **chosen})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
