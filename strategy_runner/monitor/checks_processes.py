"""Checks of what runs: the daemon and its lock, processes that belong to nobody, locks whose holder is gone."""

from collections import Counter
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.errors import ConfigurationError, NotRunningError, StrategyRunnerError, TimeoutExpiredError
from strategy_runner.model.counted import counted
from strategy_runner.model.names import MONITOR_GROUP, WATCHDOG_NAME
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.monitor.host import Host, ProcessSeen, read_locks
from strategy_runner.small_files import paths_below
from strategy_runner.supervision.conditions import read_actions, read_conditions
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.fleet import BEAT_SILENCE_S
from strategy_runner.tape.status import State, read_status

ANSWER_TIMEOUT_S = 5.0
LATELY_S = 24 * 3600.0
_OURS = ("strategy_runner.assembly", "strategy_runner.supervision.")
_AT_WORK = (State.STARTING, State.CATCHING_UP, State.FOLLOWING)


def daemon_pid(home: Home) -> int | None:
    """The daemon that answers on the socket, None if nobody does. Raises TimeoutExpiredError if it does not answer."""
    try:
        return Daemon(home).pid(ANSWER_TIMEOUT_S)
    except (NotRunningError, ConfigurationError):
        return None


def check_daemon(home: Home, host: Host) -> list[Finding]:
    """Somebody holds the lock and answers, or nobody does either."""
    path = home.daemon / "lock"
    holder = _holder(path, host)
    try:
        pid = daemon_pid(home)
    except (TimeoutExpiredError, StrategyRunnerError) as fault:
        advice = f"it hangs: look at {home.daemon / 'supervisord.log'}, then kill process {holder or 'of the socket'}"
        return [error("daemon", home.supervisor_socket, "an answer", str(fault), advice)]
    if pid is None and holder is not None:
        end_it = "`strategy-runner down` ends it with all that it runs" if _lives(holder, host) else "kill that one"
        advice = f"it starts or stops now; if it stays so, {end_it}"
        return [
            error(
                "daemon",
                path,
                "free, since no daemon answers",
                f"held by process {holder} {_word(holder, host)}",
                advice,
            )
        ]
    if pid is not None and holder is None:  # it may have begun since: it takes its lock before it answers
        host = msgspec.structs.replace(host, locks=read_locks())
        holder = _holder(path, host)
    if pid is not None and host.locks is not None and holder is None:
        advice = "stop that process: it is no daemon of this home"
        return [error("daemon", home.supervisor_socket, "the daemon that holds the lock", f"process {pid}", advice)]
    if pid is not None:
        return [ok("daemon", home.supervisor_socket, f"running, process {pid}")]
    if home.supervisor_socket.exists():
        advice = "it was killed; `strategy-runner up` clears it away and goes on where it was"
        return [warning("daemon", home.supervisor_socket, "no socket of a daemon that is gone", "one", advice)]
    return [ok("daemon", home.daemon, "not running")]


def check_strays(home: Home, host: Host, daemon: int | None) -> list[Finding]:
    """Processes of this home that are no descendants of its daemon: they may hold locks, or write beside a second copy."""
    daemon = daemon or _holder(home.daemon / "lock", host)  # one whose socket is gone runs on
    family = _family(host, daemon)
    own, session = _ancestors(host, host.own_pid), _session(host, host.own_pid)
    findings = []
    for process in host.processes:
        if process.pid in family or process.pid in own:
            continue
        beside_us = process.has_terminal or process.session == session  # a shell, or what runs with us in a pipe
        if _is_ours(process, home):
            why, advice, make = "its command or log", f"kill {process.pid}", error
        elif _is_below(process.cwd, home.root) and not beside_us:
            why, advice, make = "its working folder", f"kill {process.pid} unless you know it", warning
        else:
            continue
        findings.append(
            make(
                "strays",
                f"process {process.pid}",
                f"a child of the daemon ({daemon or 'none runs'})",
                f"child of process {process.parent}, ours by {why}: {process.command or process.cwd}",
                advice,
            )
        )
    return findings or [ok("strays", home.root, "none")]


def check_locks(home: Home, host: Host) -> list[Finding]:
    """Of every state folder that is locked the holder lives, and is who its status says."""
    if host.locks is None:
        return [ok("locks", home.var, "the kernel does not tell")]
    alive = {process.pid for process in host.processes}
    findings, held = [], 0
    for path in _lock_files(home):
        holder = _holder(path, host)
        if holder is None:
            continue
        held += 1
        status = read_status(path.parent / "status")
        if holder not in alive:
            advice = f"a child of it holds the lock still: find it with `fuser {path}` and kill it"
            findings.append(
                error("locks", path, "held by a living process", f"held for process {holder}, which is gone", advice)
            )
        elif status is not None and status.pid != holder and status.state in _AT_WORK:
            advice = (
                "two processes share this folder: look at `strategy-runner status` and kill the one it does not name"
            )
            findings.append(
                error("locks", path, f"held by process {status.pid}, as its status says", f"process {holder}", advice)
            )
    return findings or [ok("locks", home.var, f"{held} held, every holder alive")]


def check_beats(home: Home, host: Host) -> list[Finding]:
    """Processes that live and say nothing."""
    alive = {process.pid for process in host.processes}
    findings, beating = [], 0
    for path in _lock_files(home):
        status = read_status(path.parent / "status")
        if status is None or status.pid not in alive or _holder(path, host) != status.pid:
            continue
        silent_s = (host.wall_ns - status.beat_ns) / 1e9
        if status.state in _AT_WORK and silent_s > BEAT_SILENCE_S:
            advice = "look at its log; `strategy-runner restart` begins it anew and loses nothing"
            findings.append(
                warning(
                    "beats", path.parent, f"a beat within {BEAT_SILENCE_S:g} s", f"none for {silent_s:.0f} s", advice
                )
            )
        else:
            beating += 1
    return findings or [ok("beats", home.var, f"{counted(beating, 'process')} with a beat")]


def check_watchdog(home: Home, host: Host, daemon: int | None) -> list[Finding]:
    """The one that watches all others is there, what it sees now, and what it had to do lately."""
    subject, lock = WATCHDOG_NAME, home.monitor / "lock"
    expected = daemon is not None and (home.daemon / "specs" / MONITOR_GROUP / "watchdog.json").exists()
    findings = []
    if expected and not is_locked(lock, host):
        advice = f"look at {home.log(WATCHDOG_NAME)}; `strategy-runner restart {WATCHDOG_NAME}` starts it"
        findings.append(error("watchdog", subject, "running, since a daemon is", "no process", advice))
    for name, conditions in read_conditions(home.monitor).items() if expected else ():
        for one in conditions:
            advice = f"`strategy-runner logs {name}` and `strategy-runner status` say more"
            findings.append(warning("watchdog", name, "nothing to say", one.told(host.wall_ns), advice))
    return findings or [ok("watchdog", subject, _lately(home, host))]


def _lately(home: Home, host: Host) -> str:
    """How often it did what within LATELY_S."""
    since_ns = host.wall_ns - int(LATELY_S * 1e9)
    counts = Counter(action.action for action in read_actions(home) if action.at_ns >= since_ns)
    told = ", ".join(f"{action} {count}" for action, count in sorted(counts.items()))
    return f"{told or 'did nothing'} within the last {LATELY_S / 3600:g} h"


def is_locked(path: Path, host: Host) -> bool:
    """Where the kernel does not tell, a lock whose noted holder lives counts as held."""
    if host.locks is not None:
        return _holder(path, host) is not None
    alive = {str(process.pid) for process in host.processes}
    return path.exists() and path.read_text(errors="replace").strip() in alive


# -- inside ------------------------------------------------------------------------------------------------------------


def _lock_files(home: Home) -> list[Path]:
    patterns = ("market/*", "oms/*", "monitor", "clients/*/*/router", "clients/*/*/workers/*")
    return sorted(path for pattern in patterns for path in paths_below(home.var, f"{pattern}/lock"))


def _holder(path: Path, host: Host) -> int | None:
    """The process that took a file's lock; None if it is free, missing, or the kernel does not tell."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return None
    return (host.locks or {}).get(inode)


def _word(pid: int, host: Host) -> str:
    return "(alive)" if _lives(pid, host) else "(gone; a child of it has the lock)"


def _lives(pid: int, host: Host) -> bool:
    return any(process.pid == pid for process in host.processes)


def _family(host: Host, daemon: int | None) -> set[int]:
    """The daemon and all its descendants."""
    family = {daemon} if daemon is not None else set()
    while more := {one.pid for one in host.processes if one.parent in family} - family:
        family |= more
    return family


def _ancestors(host: Host, pid: int) -> set[int]:
    """A process and whoever runs it."""
    parents = {process.pid: process.parent for process in host.processes}
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found


def _session(host: Host, pid: int) -> int | None:
    return next((process.session for process in host.processes if process.pid == pid), None)


def _is_ours(process: ProcessSeen, home: Home) -> bool:
    names_us = any(module in process.command for module in _OURS)
    return (names_us and _names(process.command, home.root)) or _is_below(process.log, home.var)


def _names(command: str, root: Path) -> bool:
    """Whether a word of the command is the home or lies in it; a home whose name only begins alike is another."""
    return any(word == str(root) or word.startswith(f"{root}/") for word in command.split())


def _is_below(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")
