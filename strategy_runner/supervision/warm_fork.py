"""The warm fork: a child of supervisord that is one of our programs runs at once, without exec and without imports.

supervisord forks and then calls `options.execve`. Ours, for a command that names our entry module, calls the entry's
function in the child, where numpy, msgspec, zmq and our own code are already loaded and shared page by page with the
daemon. Any other command is executed as ever.
"""

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from supervisor.http import deferring_http_channel
from supervisor.options import ProcessConfig, ServerOptions
from supervisor.process import Subprocess
from supervisor.states import ProcessStates

from strategy_runner.errors import ConfigurationError, StateError
from strategy_runner.supervision.child import (
    HANDLED_SIGNALS,
    NOT_SPAWNED,
    Run,
    leave_parent,
    run_and_exit,
    take_own_output,
)
from strategy_runner.supervision.loop import TurnPoller
from strategy_runner.supervision.programs import ENTRY_MODULE, LOG_VARIABLE

# zmq without a context: a context owns threads, and threads do not survive a fork
LIBRARIES = ("numpy", "msgspec", "zmq", "ctypes", "traceback")
# supervisord sends 4 KiB a turn of its loop; the state of a thousand programs would take forty turns
CHANNEL_BUFFER_BYTES = 1 << 18
# states whose next transition may be a start
STARTABLE_STATES = (ProcessStates.STOPPED, ProcessStates.EXITED, ProcessStates.BACKOFF)


def preload(modules: Sequence[str]) -> None:
    """Import what every child needs, and keep the collector away from it, so that the pages stay shared.

    Raises StateError when an import started a thread: a child would inherit its locks and not the thread.
    """
    for name in (*LIBRARIES, *modules):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise StateError(f"warm fork: expected one thread after the imports of {list(modules)}, found {threads}")


class WarmOptions(ServerOptions):  # type: ignore[misc]  # supervisor ships no types
    """supervisord's operating system calls, with the warm fork in place of exec for commands of `entry`."""

    def __init__(self, run: Run, entry: str = ENTRY_MODULE) -> None:
        super().__init__()
        self.poller = TurnPoller(self)
        self._run = run
        self._entry = entry
        self._parsed: dict[str, tuple[object, Any]] = {}

    def usage(self, msg: object) -> NoReturn:
        raise ConfigurationError(f"{self.configfile}: {msg}")

    def fork(self) -> int:
        """Fork with signals held back, so that none reaches the child while it still has the daemon's handlers."""
        parent = os.getpid()
        # what lies in the buffers would be written a second time by the child
        sys.stdout.flush()
        sys.stderr.flush()
        self.poller.count_spawn()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        pid = -1
        try:
            pid = os.fork()
            if pid == 0:
                leave_parent(parent)
        except BaseException:
            if pid != 0:
                raise
            traceback.print_exc()
            os._exit(NOT_SPAWNED)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid

    def execve(self, filename: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        if tuple(argv[1:3]) != ("-m", self._entry):
            super().execve(filename, argv, env)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = [self._entry, *argv[3:]]
        run_and_exit(self._run, argv[3:], env["SUPERVISOR_PROCESS_NAME"])

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
    """A process that costs the loop next to nothing while it runs."""

    def transition(self) -> None:
        state = self.state
        if state == ProcessStates.RUNNING:
            # nothing is ever due here, and nearly all of a thousand programs are here at nearly every turn
            return
        if state in STARTABLE_STATES and not self.config.options.poller.may_spawn:
            return
        super().transition()

    def _prepare_child_fds(self) -> None:
        log = self.config.log
        if log is None:
            super()._prepare_child_fds()
            return
        try:
            take_own_output(log)
        except OSError as fault:
            # standard error is still the daemon's own
            os.write(2, f"{log}: expected a log file that can be written, found {fault}\n".encode())
            os._exit(NOT_SPAWNED)
