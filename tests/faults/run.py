"""One run under faults, from an empty home to the oracle's verdict; and the command behind scripts/faults, which makes many.

A run has a seed of its own. Its faults and their times come from it; the interleaving with the product's own steps does not,
so a seed that found something may need a few tries to find it again. What failed is kept, with all its files.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from faults.home import PATIENCE_S, FaultyHome, Stuck
from faults.injection import WEIGHTS, Injection
from faults.oracle import judge
from faults.settling import settle
from faults.verdict import Verdict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from strategy_runner.errors import StrategyRunnerError

RESTLESS_PER_S = 350.0  # of each of three symbols: with bars and predictions above 1,000 records a second
KILLS = 100  # of one run of the command
CUTS = 10


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did and found. `kept` is its home, if it failed."""

    seed: int
    faults: dict[str, int]
    verdict: Verdict
    log: list[str]
    kept: Path | None = None

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean


def run_once(
    seed: int,
    *,
    kills: int,
    cuts: int,
    restless: bool,
    broken: str = "",
    weights: Mapping[str, int] = WEIGHTS,
    patience_s: float = PATIENCE_S,
    tell: Callable[[], None] = lambda: None,
) -> Run:
    """A home, faults, a clean end, the oracle. What never came back after its faults is a difference too."""
    home = FaultyHome(seed=seed, per_s=RESTLESS_PER_S if restless else 0.0, broken=broken)
    injection, verdict = Injection(home, seed, weights), Verdict()
    is_clean = False
    try:
        try:
            home.start()
            injection.await_life()
            injection.run(kills=kills, cuts=cuts, tell=tell)
            settle(home, patience_s)
            home.stop()
            verdict = judge(home.workers, home.routers, home.books)
        except Stuck as stuck:
            verdict.note(f"{stuck}; last errors: {home.last_errors()}")
        except StrategyRunnerError as damage:
            verdict.note(f"{type(damage).__name__}: {damage}")
        is_clean = verdict.is_clean
        (home.root / "faults.log").write_text("\n".join(injection.log))
    finally:
        home.close(keep=not is_clean and not broken)
    return Run(
        seed=seed,
        faults=dict(injection.count),
        verdict=verdict,
        log=injection.log,
        kept=None if is_clean or broken else home.root,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="begin no further run after so long [default: 2]")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the first run; the next ones count up [default: any]"
    )
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    given = parser.parse_args(arguments)
    seed = time.time_ns() % 1_000_000 if given.seed is None else given.seed
    talk = Console(stderr=True)
    talk.print(f"seed {seed}")
    runs = _runs(seed, given.minutes * 60.0, talk)
    failed = [run for run in runs if not run.is_clean]
    for run in failed:
        shown = "\n  ".join(run.verdict.differences[:1])
        talk.print(f"run {run.seed} failed, its files are in {run.kept}\n  {shown}", markup=False, highlight=False)
        talk.print(f"again: scripts/faults --minutes 0 --seed {run.seed}", markup=False, highlight=False)
    _show(runs, seed, given.output)
    return 1 if failed else 0


def _runs(seed: int, seconds: float, talk: Console) -> list[Run]:
    """At least one run. Even seeds hear a market that is never the same again, odd ones the mock, which is."""
    runs: list[Run] = []
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    began = time.monotonic()
    with Progress(*columns, console=talk, disable=not talk.is_terminal, transient=True) as progress:
        task = progress.add_task("faults", total=max(seconds, 1.0))
        while not runs or time.monotonic() - began < seconds:
            this = seed + len(runs)
            run = run_once(
                this,
                kills=KILLS,
                cuts=CUTS,
                restless=this % 2 == 0,
                tell=lambda: progress.update(task, completed=time.monotonic() - began),
            )
            runs.append(run)
            verdict = run.verdict
            progress.update(
                task, description=f"run {this}: {verdict.signals} signals, {len(verdict.differences)} differences"
            )
    return runs


def _show(runs: Sequence[Run], seed: int, output: str) -> None:
    faults: Counter[str] = Counter()
    total = Verdict()
    for run in runs:
        faults.update(run.faults)
        total.add(run.verdict)
    sums = {"signals": total.signals, "lost": total.lost, "doubled": total.doubled, "alien": total.alien, "seed": seed}
    if output == "json":
        for fault, count in sorted(faults.items()):
            print(json.dumps({"fault": fault, "count": count}))
        print(json.dumps(sums))
        return
    table = Table("fault", "count", title=f"{len(runs)} runs from seed {seed}")
    table.columns[1].justify = "right"
    for fault, count in sorted(faults.items()):
        table.add_row(fault, f"{count:,}")
    table.add_section()
    compared = {
        "signals": total.signals,
        "answers to fills": total.answers,
        "orders": total.orders,
        "fills": total.fills,
    }
    for name, found in (compared | {name: sums[name] for name in ("lost", "doubled", "alien")}).items():
        table.add_row(name, f"{found:,}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
