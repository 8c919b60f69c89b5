"""Checks of what follows the decisions and the records: cursors of sinks, dead letters, snapshots, checkpoints."""

from pathlib import Path

from strategy_runner.errors import StateError
from strategy_runner.model.counted import counted
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.frames import Frames
from strategy_runner.router.journal import decision_log
from strategy_runner.sinks.duckdb_watermark import read_watermark
from strategy_runner.sinks.interface import SinkUnavailable
from strategy_runner.sinks.quantconnect_file import damage_of
from strategy_runner.sinks.quantconnect_progress import UnreadableProgress, load_progress
from strategy_runner.small_files import checked, paths_below

_REBUILT = "nothing to do: the router rebuilds it from the decision log at its next start"


def check_sinks(state: Path, *, router_runs: bool) -> list[Finding]:
    """`state` is one client's folder of one mode. A router that runs has its DuckDB file to itself."""
    journal = decision_log(state / "router")
    findings: list[Finding] = []
    for path in paths_below(state, "quantconnect/signals/*/.cursor"):
        findings += _check_quantconnect(path, journal, router_runs=router_runs)
    findings += _check_dead_letters(state / "router" / "dead_letters.log")
    if not router_runs:
        findings += _check_duckdb(state / "signals.duckdb", journal)
    return findings


def check_snapshots(folder: Path) -> list[Finding]:
    """A damaged one costs a longer restart, as long as another is whole. `folder` is a worker's."""
    return _check_crcs(
        "snapshots", folder, "*.snapshot", "the worker goes on from an older one, or from where it began"
    )


def check_checkpoints(folder: Path) -> list[Finding]:
    """`folder` is the feed's."""
    return _check_crcs("checkpoints", folder, "*.checkpoint", "the feed makes its records again from an older one")


# -- inside ------------------------------------------------------------------------------------------------------------


def _check_quantconnect(path: Path, journal: Path, *, router_runs: bool) -> list[Finding]:
    try:
        progress = load_progress(path)
    except UnreadableProgress as fault:
        return [error("sinks", path, "a cursor", str(fault), _REBUILT)]
    decisions, folder = _count(journal), path.parent  # counted behind the cursor: a router that runs moves both
    if progress.next_number > decisions:
        return [_ahead(path, progress.next_number, decisions)]
    damage = (
        [] if router_runs else [found for n, mark in progress.files.items() if (found := damage_of(folder / n, mark))]
    )
    if damage:
        return [error("sinks", path, "the files as they were written", one, _REBUILT) for one in damage]
    return [
        ok(
            "sinks",
            path,
            f"{progress.next_number} of {counted(decisions, 'decision')}, {counted(len(progress.files), 'file')}",
        )
    ]


def _check_duckdb(path: Path, journal: Path) -> list[Finding]:
    if not path.exists():
        return []
    try:
        watermark = read_watermark(path)
    except SinkUnavailable as fault:
        advice = (
            "the file is sound: end what holds it, or mend what it says; a router that starts meanwhile waits for it"
        )
        return [warning("sinks", path, "a file that can be read", str(fault), advice)]
    except StateError as fault:
        return [error("sinks", path, "a DuckDB file of this product", str(fault), _REBUILT)]
    decisions = _count(journal)
    if watermark > decisions:
        return [_ahead(path, watermark, decisions)]
    return [ok("sinks", path, f"{watermark} of {counted(decisions, 'decision')}")]


def _count(journal: Path) -> int:
    frames = Frames(journal)
    for _ in frames:
        pass
    return frames.count


def _ahead(path: Path, found: int, decisions: int) -> Finding:
    advice = "the decision log has lost its end: restore it from a copy before the router starts"
    return error("sinks", path, f"a cursor of at most {decisions}, the number of decisions", str(found), advice)


def _check_dead_letters(path: Path) -> list[Finding]:
    frames = Frames(path)
    for _ in frames:
        pass
    if frames.damage:
        return [error("sinks", path, "a whole log", frames.damage, "restore the file from a copy")]
    if frames.count:
        advice = "read it: each names a sink, a signal and why it was refused for good"
        return [warning("sinks", path, "no dead letters", f"{frames.count}", advice)]
    return []


def _check_crcs(check: str, folder: Path, pattern: str, consequence: str) -> list[Finding]:
    files = paths_below(folder, pattern)
    broken = []
    for path in files:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            continue  # a newer one has taken its place
        if checked(raw) is None:
            broken.append(path)
    advice = f"rm it: {consequence}"
    make = error if broken and len(broken) == len(files) else warning
    return [make(check, path, "bytes that match their crc at offset 0", "other bytes", advice) for path in broken]
