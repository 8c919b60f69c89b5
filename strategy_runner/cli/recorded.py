"""Verbs about recorded data: backtest, import, export."""

import os
from pathlib import Path

import click

from strategy_runner.cli.output import nameless_output_option, output_option, show_json, show_table, talk
from strategy_runner.cli.progress import bar
from strategy_runner.cli.table import Column
from strategy_runner.cli.values import moment_ns
from strategy_runner.config.home import Home
from strategy_runner.config.times import duration
from strategy_runner.errors import UsageError
from strategy_runner.model.counted import counted
from strategy_runner.supervision.historical import backtest as run_backtest
from strategy_runner.supervision.process import HISTORICAL
from strategy_runner.supervision.target import split_symbols
from strategy_runner.supervision.wishes import Wish, running_mode
from strategy_runner.tape.reader import TapeReader

CHECKED_BARS = 20_000
ALL_BARS = 1 << 62
_FIGURES = ("records", "signals", "refused", "seconds", "records/s")


@click.command()
@click.argument("client")
@click.option("--history", type=click.Path(path_type=Path), help="Folder of recorded history.")
@click.option(
    "--from",
    "from_ns",
    type=moment_ns,
    metavar="TIME",
    help="First moment, such as 2026-01-05 or 2026-01-05T10:00:00Z.",
)
@click.option("--to", "to_ns", type=moment_ns, metavar="TIME", help="Moment at which it ends (not included).")
@click.option("--symbols", metavar="A,B", help="Only these symbols, separated by commas.")
@click.option(
    "--parallel", type=click.IntRange(min=1), default=None, metavar="N", help="Workers at a time [default: cores]."
)
@click.option(
    "--vectorised",
    is_flag=True,
    help=f"Take bars at once where a strategy has on_bars; the first {CHECKED_BARS} go through on_bar as well.",
)
@click.option("--verify", is_flag=True, help="As --vectorised, and every bar goes through on_bar as well.")
@click.option("--environment", metavar="NAME", help="Environment file configs/NAME.toml [default: the one in use].")
@output_option
@click.pass_obj
def backtest(
    home: Home,
    client: str,
    history: Path | None,
    from_ns: int | None,
    to_ns: int | None,
    symbols: str | None,
    parallel: int | None,
    vectorised: bool,
    verify: bool,
    environment: str | None,
    output: str,
) -> None:
    """Run a client over recorded history, as fast as it goes.

    With --from strategies begin there, and see nothing of before.
    With --vectorised or --verify the first signal or fill that differs between on_bars and on_bar ends the run.
    """
    checked = ALL_BARS if verify else CHECKED_BARS if vectorised else None
    wish = Wish(
        mode=HISTORICAL,
        history=str(history.absolute()) if history else None,
        from_ns=from_ns or 0,
        to_ns=to_ns or 0,
        symbols=split_symbols(symbols),
        parallel=parallel or 0,
        checked_bars=checked,
    )
    with bar("rows") as show:
        results = run_backtest(home, client, wish, environment, os.environ, show)
    if output == "json":
        show_json(results)
    elif output == "name":
        for result in results:
            click.echo(result.name)
    else:
        show_table(
            (
                Column("worker", folds=True),
                *(Column(title, right=True) for title in _FIGURES),
                Column("taken", folds=True),
            ),
            (
                (
                    r.name,
                    r.records,
                    r.signals,
                    r.refusals,
                    f"{r.seconds:.2f}",
                    f"{r.records / max(r.seconds, 1e-9):,.0f}",
                    r.way,
                )
                for r in results
            ),
        )
        click.echo()
        # workers on the same symbol read the same series
        quality = {series: report.summary() for r in results for series, report in r.quality.items()}
        show_table((Column("history"), Column("quality", folds=True)), quality.items())
    for result in results:
        if not result.records:
            rows = ", ".join(f"{series} has {report.seen} rows" for series, report in result.quality.items())
            talk(f"warning: {result.name}: no record came of its history: {rows} in the period asked for")
    # what is shown by itself is the run that is under way
    mode = f" --mode {HISTORICAL}" if running_mode(home, client) else ""
    talk(f"see them: strategy-runner signals {client}{mode}")


@click.command(name="import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--history", type=click.Path(path_type=Path), required=True, help="History folder to write into.")
@click.option("--kind", required=True, help="trades, quotes, or bars_1m and the like.")
@click.option("--symbol", required=True, help="Our name for it, such as BTC-USD.")
@click.option(
    "--columns", required=True, help="ts=0,open=1,high=2,...: index, header name, or JSON path such as info.price."
)
@click.option(
    "--time",
    "time_format",
    required=True,
    help="s, ms, us, ns, ms-of-day:YYYY-MM-DD, or a pattern such as %Y%m%d %H%M%S%f.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of the stamps: IANA name, or UTC-5.")
@click.option("--stamp", default="close", show_default=True, help="Which end of a bar is stamped: open or close.")
@click.option("--scale", default="1", show_default=True, help="Number that prices are divided by.")
@click.option("--sides", default="buy=buy,sell=sell", show_default=True, help="The source's words for the aggressor.")
@click.option(
    "--delimiter", default=",", show_default=True, help="Between the fields of a text file: one character, or tab."
)
@click.option("--member", default="", help="Member of a zip.")
@click.option("--replace", is_flag=True, help="Replace a series that is there already.")
@nameless_output_option
def import_(
    source: Path,
    history: Path,
    kind: str,
    symbol: str,
    columns: str,
    time_format: str,
    zone: str,
    stamp: str,
    scale: str,
    sides: str,
    delimiter: str,
    member: str,
    replace: bool,
    output: str,
) -> None:
    """Convert a foreign file into history and report its faults.

    Nothing is cleaned: bad rows stay in the file, are counted, and are never traded on. Left out, and counted too, are rows
    that cannot be read and those whose time is still to come.
    """
    from strategy_runner.history.importing import import_file
    from strategy_runner.history.mapping import ImportMapping

    mapping = ImportMapping.parse(
        columns=columns,
        time=time_format,
        zone=zone,
        stamp=stamp,
        scale=scale,
        sides=sides,
        delimiter=delimiter,
        member=member,
    )
    report = import_file(source, history, kind, symbol, mapping, replace=replace)
    if output == "json":
        show_json(report)
        return
    rows = [("rows", report.seen, ""), ("sound", report.kept, "")]
    rows += [
        (rule, count, report.first[rule].told() if rule in report.first else "")
        for rule, count in report.counts.items()
    ]
    longest = duration(report.longest_gap_ns)
    rows.append(("gaps", report.gaps, f"{counted(report.missing_intervals, 'bar')} missing, longest {longest}"))
    show_table((Column("what"), Column("count", right=True), Column("first", folds=True)), rows)
    talk(f"wrote {history / kind / symbol}.parquet")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--mode", type=click.Choice(["mock", "live", "simulation"]), default="mock", show_default=True, help="Whose tape."
)
@click.option("--first", type=click.IntRange(min=0), default=0, help="First seq.")
@click.option("--last", type=click.IntRange(min=0), default=None, help="Seq after the last [default: all].")
@click.option(
    "--what",
    type=click.Choice(["all", "records", "history"]),
    default="all",
    show_default=True,
    help="Every record as it is, the market in the layout of a history folder, or both.",
)
@click.pass_obj
def export(home: Home, folder: Path, mode: str, first: int, last: int | None, what: str) -> None:
    """Export the tape to Parquet."""
    from strategy_runner.history.export import export_history, export_records

    reader = TapeReader(home.market(mode) / "tape")
    kept, end = reader.head.first, reader.head.count
    begin, end = max(first, kept), end if last is None else min(last, end)
    if begin >= end:
        asked = f"--first {first}" + ("" if last is None else f" --last {last}")
        raise UsageError(
            f"{asked}: expected seqs among the {kept} to {reader.head.count - 1} of the tape, found none there"
        )
    written = export_records(reader, folder, begin, end) if what != "history" else []
    written += export_history(reader, folder, begin, end) if what != "records" else []
    for path in written:
        click.echo(path)
    talk(f"exported seq {begin} to {end - 1}")


COMMANDS = [backtest, import_, export]
