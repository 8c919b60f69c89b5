"""The daemon: supervisord with the warm fork, in the foreground, for systemd and for `up`.

python -m strategy_runner.supervision.daemon --home DIR [--stock]
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from strategy_runner.config.home import Home
from strategy_runner.errors import LockedError, StrategyRunnerError
from strategy_runner.supervision.cgroup import enter_own_group
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.loop import FleetSupervisor
from strategy_runner.supervision.notify import ServiceNotifier
from strategy_runner.supervision.programs import (
    ENTRY_MODULE,
    WATCHDOG_MODULE,
    configuration_path,
    write_configuration,
)
from strategy_runner.supervision.state_version import check_state_version
from strategy_runner.supervision.warm_fork import WarmOptions
from strategy_runner.supervision.watchdog.process import ENDED, pids, read_stat
from strategy_runner.supervision.zygote import Zygote
from strategy_runner.tape.lock import FolderLock

# a child forked just before its daemon was killed holds the lock for the moment it takes to die
ORPHANS_S = 2.0
# in the environment of whatever a daemon starts, and of what that starts: the home it was started for
_BELONGS_TO = "STRATEGY_RUNNER_BELONGS_TO"


def supervise(
    home: Home,
    *,
    warm: bool = True,
    entry: str = ENTRY_MODULE,
    modules: Sequence[str] = (ENTRY_MODULE, WATCHDOG_MODULE),
) -> int:
    """Run the programs of HOME/var/daemon/supervisord.conf until SIGTERM or SIGINT; then stop them and return 0.

    A command `python -m ENTRY SPEC` becomes a call of ENTRY's `main([SPEC])` in a warm child; `modules` are imported
    before the first fork. `warm=False` is stock supervisord, for comparison. Raises LockedError, VersionMismatchError,
    ConfigurationError.
    """
    os.umask(0o077)
    lock = FolderLock(home.daemon, expected="no other daemon on this home", orphans_s=ORPHANS_S)
    try:
        check_state_version(home)
        _clear_socket(home)
        _end_left_behind(home)
        os.environ[_BELONGS_TO] = _root(home)
        enter_own_group()
        configuration = configuration_path(home)
        if not configuration.exists():
            write_configuration(home, ())
        home.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        notifier = ServiceNotifier.from_environment(os.environ)
        zygote = Zygote(entry, modules)
        if warm:
            zygote.start()
        mood = SupervisorStates.RESTARTING
        while mood >= SupervisorStates.RESTARTING:
            options = WarmOptions(zygote, entry) if warm else ServerOptions()
            mood = _run(options, configuration, notifier if warm else None)
        zygote.close()
    finally:
        lock.release()
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m strategy_runner.supervision.daemon", description=__doc__)
    parser.add_argument("--home", required=True, help="folder that holds clients/, supervisor/ and var/")
    parser.add_argument("--stock", action="store_true", help="supervisord as it comes: fork and exec")
    parser.add_argument("--entry", default=ENTRY_MODULE, help="module whose main([SPEC]) is a program")
    parser.add_argument("--preload", action="append", metavar="MODULE", help="import before the first fork")
    given = parser.parse_args(arguments)
    try:
        return supervise(
            Home(Path(given.home).resolve()),
            warm=not given.stock,
            entry=given.entry,
            modules=given.preload or (given.entry, WATCHDOG_MODULE),
        )
    except StrategyRunnerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _clear_socket(home: Home) -> None:
    """Remove the file a killed daemon left; supervisord would find it stale too, but only after a pause."""
    if Daemon(home).is_running():
        raise LockedError(f"{home.supervisor_socket}: expected nobody to listen, found another supervisord")
    home.supervisor_socket.unlink(missing_ok=True)


def _end_left_behind(home: Home) -> None:
    """Ends what programs of a daemon that was killed had started: they died with it, and a child of theirs would hold their
    folders. It has that daemon's word in its environment; or has cleared it, and writes to a log of this home in the group of a
    program that is gone. Who leads his group without the word is a person's."""
    logs, word = (home.var / "logs").resolve(), f"{_BELONGS_TO}={_root(home)}".encode()
    for pid in pids():
        stat = read_stat(pid)
        if stat is None or pid == os.getpid():
            continue
        if _was_told(pid, word) or (_has_ended(stat.group) and _writes_below(pid, logs)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _root(home: Home) -> str:
    return str(home.root.resolve())


def _was_told(pid: int, word: bytes) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        return word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _has_ended(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.state in ENDED


def _writes_below(pid: int, logs: Path) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        return any(Path(f"/proc/{pid}/fd/{number}").readlink().is_relative_to(logs) for number in (1, 2))
    return False


def _run(options: Any, configuration: Path, notifier: ServiceNotifier | None) -> int:
    """One life of supervisord; the mood it ended in says whether it wants another (SIGHUP)."""
    options.realize(["-c", str(configuration), "-n"], doc=__doc__)
    # `first` keeps supervisord from closing every descriptor, our lock among them, in a second life
    options.first, options.test = True, False
    supervisor = Supervisor(options) if notifier is None else FleetSupervisor(options, notifier)
    try:
        supervisor.main()
    except asyncore.ExitNow:
        pass
    finally:
        options.close_httpservers()
        if hasattr(options, "logger"):  # a limit that cannot be raised ends it before there is one
            options.close_logger()
    mood: int = options.mood
    return mood


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
