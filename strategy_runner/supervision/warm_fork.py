"""The warm fork: a program of ours is born from the zygote, without exec and without imports.

supervisord forks and then execs. Ours, for a command that names our entry module, asks the zygote for a child in which
numpy, msgspec, zmq and our own code are already loaded and shared page by page with all others. Any other command is
executed as ever. supervisord sees a child of its own either way.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from supervisor.http import deferring_http_channel
from supervisor.options import ProcessConfig, ServerOptions
from supervisor.process import Subprocess
from supervisor.states import ProcessStates

from strategy_runner.errors import ConfigurationError
from strategy_runner.supervision.loop import TurnPoller
from strategy_runner.supervision.programs import ENTRY_MODULE, LOG_VARIABLE, WATCHDOG_MODULE
from strategy_runner.supervision.zygote import Birth, Zygote

# supervisord sends 4 KiB a turn of its loop; the state of a thousand programs would take forty turns
CHANNEL_BUFFER_BYTES = 1 << 18
# more for each of those that end at the same time, before one is killed: twice what one takes on two slow cores
PATIENCE_S = 0.01
# states whose next transition may be a start
STARTABLE_STATES = (ProcessStates.STOPPED, ProcessStates.EXITED, ProcessStates.BACKOFF)


class WarmOptions(ServerOptions):  # type: ignore[misc]  # supervisor ships no types
    """supervisord's operating system calls, with a birth from the zygote in place of fork and exec for our own programs."""

    def __init__(self, zygote: Zygote, entry: str = ENTRY_MODULE) -> None:
        super().__init__()
        self.poller = TurnPoller(self)
        self.entry = entry
        self.next_birth: Birth | None = None
        self.ending = 0
        """Processes that were told to stop and have not ended; counted anew at the end of each turn."""
        self._zygote = zygote
        self._parsed: dict[str, tuple[object, Any]] = {}

    def usage(self, msg: object) -> NoReturn:
        raise ConfigurationError(f"{self.configfile}: {msg}")

    def make_logger(self) -> None:
        """A line that the disk does not take is lost, as far as this process is concerned: the complaint about it goes to stderr,
        which `up` has on the same disk, and what that raises would end the daemon."""
        super().make_logger()
        for one in self.logger.handlers:
            one.emit, one.close = _sparing(one.emit), _sparing(one.close)

    def fork(self) -> int:
        """The process id of a worker that is alive already; for a program that is not ours, fork as it comes."""
        self.poller.count_spawn()
        birth, self.next_birth = self.next_birth, None
        if birth is None:
            return int(super().fork())
        return self._zygote.bear(birth, self.pidhistory)

    def processes_from_section(self, parser: Any, section: str, group_name: str, klass: Any = None) -> Any:
        """Sections that read as they did last time are not parsed again: a thousand would hold the loop for 0.6 s."""
        chosen = WarmConfig if klass in (None, ProcessConfig) else klass
        text = (group_name, chosen, parser.items(section), parser.get("supervisord", "environment", fallback=""))
        known, configs = self._parsed.get(section, (None, None))
        if known != text:
            configs = super().processes_from_section(parser, section, group_name, chosen)
            self._parsed[section] = (text, configs)
        return configs

    def make_http_servers(self, supervisord: Any) -> Any:
        servers = super().make_http_servers(supervisord)
        for _, server in servers:
            server.channel_class = WideChannel
        return servers


def _sparing(write: Callable[..., None]) -> Callable[..., None]:
    def spared(*arguments: Any) -> None:
        with suppress(OSError):
            write(*arguments)

    return spared


class WideChannel(deferring_http_channel):  # type: ignore[misc]  # supervisor ships no types
    """A connection that takes and gives a large message in one turn of the loop."""

    ac_in_buffer_size = CHANNEL_BUFFER_BYTES
    ac_out_buffer_size = CHANNEL_BUFFER_BYTES


class WarmConfig(ProcessConfig):  # type: ignore[misc]  # supervisor ships no types
    """A program that writes its own log needs no pipes: 6 descriptors less to make, poll and close."""

    @property
    def log(self) -> str | None:
        found: str | None = (self.environment or {}).get(LOG_VARIABLE)
        return found

    def make_process(self, group: Any = None) -> "WarmProcess":
        process = WarmProcess(self)
        process.group = group
        return process

    def make_dispatchers(self, proc: Any) -> Any:
        if self.log is None:
            return super().make_dispatchers(proc)
        names = ("child_stdin", "stdin", "stdout", "child_stdout", "stderr", "child_stderr")
        return {}, dict.fromkeys(names)


class WarmProcess(Subprocess):  # type: ignore[misc]  # supervisor ships no types
    """A process that costs the loop next to nothing while it runs, or ends."""

    _told_at = 0.0
    _ending_with = 0

    def kill(self, sig: int) -> Any:
        self._told_at, self._ending_with = time.monotonic(), 0
        self.config.options.ending += 1
        return super().kill(sig)

    def finish(self, pid: int, sts: int) -> None:
        """What it had started ends too, or it would hold the lock of its folder. Where all stop no watchdog is left to see it."""
        if self.config.log is not None:
            with suppress(ProcessLookupError, PermissionError):  # nobody is left, nearly always
                os.killpg(pid, signal.SIGKILL)
        super().finish(pid, sts)

    def transition(self) -> None:
        state = self.state
        if state == ProcessStates.RUNNING:
            # nothing is ever due here, and nearly all of a thousand programs are here at nearly every turn
            return
        if state == ProcessStates.STOPPING and self._has_time_to_end():
            return
        if state in STARTABLE_STATES and not self.config.options.poller.may_spawn:
            return
        super().transition()

    def _has_time_to_end(self) -> bool:
        """Where thousands end at once each waits for its turn, so each has longer before it is killed."""
        self._ending_with = max(self._ending_with, self.config.options.ending)
        patience_s: float = self.config.stopwaitsecs + PATIENCE_S * self._ending_with
        return time.monotonic() < self._told_at + patience_s

    def get_execv_args(self) -> Any:
        """Asked for just before the fork: says there what is to be born."""
        filename, argv = super().get_execv_args()
        options = self.config.options
        log = self.config.log
        if log is not None and argv[1] == "-m" and argv[2] in (options.entry, WATCHDOG_MODULE):
            options.next_birth = Birth(
                name=self.config.name,
                entry=argv[2],
                arguments=list(argv[3:]),
                environment={
                    "SUPERVISOR_ENABLED": "1",
                    "SUPERVISOR_PROCESS_NAME": self.config.name,
                    "SUPERVISOR_GROUP_NAME": self.group.config.name,
                    **{name: value for name, value in self.config.environment.items() if name != LOG_VARIABLE},
                },
                log=log,  # which the child opens before it does anything else
                directory=self.config.directory,
            )
        return filename, argv
