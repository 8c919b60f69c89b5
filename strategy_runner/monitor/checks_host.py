"""Checks of what the host gives: clock, disk, descriptors, processes, memory, versions."""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.errors import CorruptRecordError, NotRunningError, VersionMismatchError
from strategy_runner.model.counted import counted
from strategy_runner.model.record import SIZE
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.host import UNLIMITED, Host, ProcessSeen
from strategy_runner.small_files import paths_below
from strategy_runner.supervision.programs import DESCRIPTORS_PER_PROGRAM, DESCRIPTORS_SPARE, PROCESSES_SPARE
from strategy_runner.tape.files import head_path, segment_bytes
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import read_status

DISTRIBUTION = "strategy-runner"
STEP_S_MAX = 1.0
START_S_MAX = 60.0
CLOCK_ERROR_MS_MAX = 100.0
SEGMENTS_FREE_MIN = 2
HOURS_FREE_MIN = 24.0
INODES_FREE_MIN = 10_000
# a worker has two threads of ZeroMQ's beside its own; a router those of its sinks as well
THREADS_PER_PROCESS = 4
MEMORY_PER_PROCESS_BYTES = 8_000_000
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)$")


def check_clock(home: Home, host: Host) -> list[Finding]:
    """Whether the wall clock is disciplined, and whether it was set while the feed ran."""
    findings = [_discipline(host)]
    by_pid = {process.pid: process for process in host.processes}
    for folder in _market_folders(home):
        head = _head(folder)
        status = read_status(folder / "status")
        feed = by_pid.get(status.pid) if status is not None else None
        if head is None or status is None:
            continue
        ahead_s = (head.beat_ns - host.wall_ns) / 1e9
        if ahead_s > STEP_S_MAX:
            findings.append(
                warning(
                    "clock",
                    folder,
                    "the feed's last beat in the past",
                    f"{ahead_s:.1f} s in the future: the clock went back",
                    "let NTP slew the clock instead of setting it; event times of new records may go back",
                )
            )
        elif feed is not None:
            findings.append(_step(folder, host, feed, status.started_ns))
    return findings


def check_disk(home: Home, host: Host, *, retention_gb: float) -> list[Finding]:
    """Room for the tape to grow: a feed that finds none stops before it publishes what it could not keep."""
    findings = []
    grown = [growth for folder in _market_folders(home) if (growth := _growth(folder)) is not None]
    segment = max((bytes_ for bytes_, _, _ in grown), default=0)
    kept = sum(bytes_ for _, bytes_, _ in grown)
    per_hour = sum(rate for _, _, rate in grown)
    free = host.disk_free_bytes
    left = f"{_size(free)} free"
    to_come = max(0.0, retention_gb * 1e9 - kept)
    if free < SEGMENTS_FREE_MIN * max(segment, 1):
        findings.append(
            error(
                "disk",
                home.var,
                f"room for {SEGMENTS_FREE_MIN} segments of the tape, {_size(SEGMENTS_FREE_MIN * segment)}",
                left,
                "free space, or lower tape.retention_gb and tape.retention_hours",
            )
        )
    elif per_hour and free < to_come and free / per_hour < HOURS_FREE_MIN:
        findings.append(
            warning(
                "disk",
                home.var,
                f"room for {HOURS_FREE_MIN:g} hours, or for what the retention keeps ({retention_gb:g} GB)",
                f"{left}, full in {free / per_hour:.1f} hours at {_size(per_hour)} an hour",
                "free space, or lower tape.retention_gb and tape.retention_hours",
            )
        )
    else:
        findings.append(ok("disk", home.var, f"{left}; the tape has {_size(kept)}, grows {_size(per_hour)} an hour"))
    if host.disk_free_inodes < INODES_FREE_MIN:
        findings.append(
            warning(
                "disk",
                home.var,
                f"at least {INODES_FREE_MIN} free inodes",
                f"{host.disk_free_inodes}",
                "remove files that nobody needs",
            )
        )
    return findings


def check_limits(host: Host, planned: int) -> list[Finding]:
    """Limits of the system against the number of processes that should run."""
    descriptors = DESCRIPTORS_SPARE + DESCRIPTORS_PER_PROGRAM * planned
    tasks = PROCESSES_SPARE + THREADS_PER_PROCESS * planned
    memory = MEMORY_PER_PROCESS_BYTES * planned
    return [
        _limit("descriptors", host.descriptors_max, descriptors, planned, "raise LimitNOFILE= or `ulimit -Hn`"),
        _limit("processes", host.processes_max, tasks, planned, "raise TasksMax=, LimitNPROC= or kernel.pid_max"),
        ok("memory", "memory", f"{_size(host.memory_available_bytes)} available for {counted(planned, 'process')}")
        if host.memory_available_bytes >= memory
        else warning(
            "memory",
            "memory",
            f"{_size(memory)} for {counted(planned, 'process')}",
            f"{_size(host.memory_available_bytes)} available",
            "run fewer workers on this host, or give it more memory",
        ),
    ]


def check_versions() -> list[Finding]:
    """Python and the packages that the product asks for."""
    findings = [ok("versions", "python", ".".join(map(str, sys.version_info[:3])))]
    try:
        asked = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return [
            *findings,
            warning("versions", DISTRIBUTION, "an installed package", "none", "install it, so that versions are known"),
        ]
    for match in filter(None, map(_REQUIREMENT.match, asked)):
        findings.append(_package(*match.groups()))
    return findings


# -- inside ------------------------------------------------------------------------------------------------------------


def _discipline(host: Host) -> Finding:
    if not host.ntp:
        return ok("clock", "NTP", "not visible here")
    if host.clock_error_ms is None:
        return warning(
            "clock",
            "NTP",
            "a clock that something disciplines",
            "an undisciplined one",
            "run chrony or systemd-timesyncd: ages, lags and live clock records rest on the clock",
        )
    if host.clock_error_ms > CLOCK_ERROR_MS_MAX:
        return warning(
            "clock",
            "NTP",
            f"an error of at most {CLOCK_ERROR_MS_MAX:g} ms",
            f"{host.clock_error_ms:.0f} ms",
            "look at `chronyc tracking`",
        )
    return ok("clock", "NTP", f"disciplined, estimated error {host.clock_error_ms:.2f} ms")


def _step(folder: Path, host: Host, feed: ProcessSeen, started_ns: int) -> Finding:
    """The feed noted its start by the wall clock; its age by the kernel's own clock says when that was."""
    age_s = host.up_s - feed.started_s
    late_s = started_ns / 1e9 - (host.wall_ns / 1e9 - age_s)
    if -STEP_S_MAX <= late_s <= START_S_MAX:
        return ok("clock", folder, f"not set since the feed started {age_s:.0f} s ago")
    way = "forward" if late_s < 0 else "back"
    return warning(
        "clock",
        folder,
        "a clock that was not set while the feed ran",
        f"one set {way} by about {abs(late_s):.1f} s",
        "let NTP slew the clock; `strategy-runner restart market:feed` begins anew by the clock of now",
    )


def _limit(name: str, found: int, needed: int, planned: int, advice: str) -> Finding:
    if found >= needed:
        shown = "unlimited" if found >= UNLIMITED else str(found)
        return ok("limits", name, f"{shown}, {needed} needed for {counted(planned, 'process')}")
    return error("limits", name, f"at least {needed} for {counted(planned, 'process')}", str(found), advice)


def _package(name: str, least: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return error("versions", name, f"at least {least}", "not installed", f"pip install '{name}>={least}'")
    if _numbers(found) < _numbers(least):
        return error("versions", name, f"at least {least}", found, f"pip install '{name}>={least}'")
    return ok("versions", name, found)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _market_folders(home: Home) -> list[Path]:
    return [path.parent for path in paths_below(home.var, "market/*/tape")]


def _head(folder: Path) -> Head | None:
    """What is wrong with a head, the check of the tape says."""
    try:
        return Head(head_path(folder / "tape"))
    except (NotRunningError, VersionMismatchError, CorruptRecordError):
        return None


def _growth(folder: Path) -> tuple[int, int, float] | None:
    """(bytes of a segment, bytes kept, bytes an hour) of a tape; the rate is that of what is kept."""
    head = _head(folder)
    if head is None:
        return None
    count, kept = head.count, max(0, head.count - head.first)
    segment = segment_bytes(head.segment_records)
    if kept < 2:
        return segment, kept * SIZE, 0.0
    try:
        arrays = TapeReader(folder / "tape").arrays(head.first, count)
    except OSError:
        return segment, kept * SIZE, 0.0
    span_ns = int(arrays[-1][1]["received_ns"][-1]) - int(arrays[0][1]["received_ns"][0]) if arrays else 0
    return segment, kept * SIZE, kept * SIZE * 3.6e12 / span_ns if span_ns > 0 else 0.0


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
