"""The daemon as seen from outside: calls over its UNIX socket, with errors that say what to do."""

import contextlib
import http.client
import os
import select
import signal
import socket
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from strategy_runner.config.home import Home, checked_socket
from strategy_runner.errors import (
    ConfigurationError,
    NotRunningError,
    SafetyRefusal,
    StrategyRunnerError,
    TimeoutExpiredError,
    UsageError,
    naming,
)
from strategy_runner.supervision.reports import ChangeReport, ProcessReport
from strategy_runner.tape.lock import holder

ANSWER_TIMEOUT_S = 30.0
# a change waits for programs to stop, each as long as its stopwaitsecs
CHANGE_TIMEOUT_S = 120.0
SHUTDOWN_TIMEOUT_S = 120.0
# from the moment a daemon holds its home: it reads a file with every program before it listens
LISTEN_TIMEOUT_S = 20.0
LISTEN_INTERVAL_S = 0.02
_ENDS = "ends the daemon with all that it runs, `up` brings back what should run"
WAY_OUT = f"`strategy-runner down` {_ENDS}"


class Daemon:
    """The daemon of one home. Every call opens its own connection; nothing is held between calls.

    Calls raise NotRunningError when nobody answers, TimeoutExpiredError when the answer does not come in time.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def is_running(self) -> bool:
        """Whether somebody listens on the socket; the file of a dead daemon counts as nobody. Does not block.

        Raises ConfigurationError if no socket can have the home's path, PermissionError.
        """
        path = checked_socket(self._home.supervisor_socket)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                with naming(path):  # of another user's home
                    probe.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        return True

    def keeper(self) -> int:
        """The process that holds the home as its daemon, 0 if none does. While it starts it does not listen yet, and where
        somebody has removed its socket nobody hears it."""
        return holder(self._home.daemon)

    def listens(self, timeout_s: float = LISTEN_TIMEOUT_S) -> bool:
        """Whether there is a daemon that can be asked. One that has begun, and has read what to run, is waited for.

        Raises TimeoutExpiredError for one that goes on without listening.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_running():
            keeper = self.keeper()
            if not keeper:
                return False
            if time.monotonic() > deadline:
                raise TimeoutExpiredError(f"{unheard(self._home, keeper)}, for {timeout_s:g} s; {WAY_OUT}")
            time.sleep(LISTEN_INTERVAL_S)
        return True

    def pid(self, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
        with self._call(timeout_s) as proxy:
            return int(proxy.supervisor.getPID())

    def processes(self, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[ProcessReport, ...]:
        """All programs, in the order they start."""
        with self._call(timeout_s) as proxy:
            return msgspec.json.decode(proxy.strategy_runner.processes(), type=tuple[ProcessReport, ...])

    def refuse_other_versions(self, here: Mapping[str, str], timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Raises SafetyRefusal if it is not what the generations of this command's plan name: no worker of it would start."""
        with self._call(timeout_s) as proxy, contextlib.suppress(xmlrpc.client.Fault):  # a daemon of an earlier release
            there = msgspec.json.decode(proxy.strategy_runner.versions(), type=dict[str, str])
            for name, found in there.items():
                if here.get(name) != found:
                    raise SafetyRefusal(
                        f"{name}: expected {found}, which the daemon runs, found {here.get(name)}, which this command runs: "
                        "`strategy-runner down`, then `check` and `up` by the one that is to run it"
                    )

    def reconcile(self, timeout_s: float = CHANGE_TIMEOUT_S) -> ChangeReport:
        """Make the daemon run what its configuration file says. Blocks until stopped and started.

        Raises ConfigurationError when supervisord cannot read the file; then nothing has changed.
        """
        with self._call(timeout_s) as proxy:
            return msgspec.json.decode(proxy.strategy_runner.reconcile(), type=ChangeReport)

    def restart(self, names: Sequence[str], timeout_s: float = CHANGE_TIMEOUT_S) -> ChangeReport:
        """Stop and start `group:program` names. Blocks until done. Raises UsageError for a name it does not run."""
        with self._call(timeout_s) as proxy:
            return msgspec.json.decode(proxy.strategy_runner.restart(list(names)), type=ChangeReport)

    def stop(self, names: Sequence[str], timeout_s: float = CHANGE_TIMEOUT_S) -> ChangeReport:
        """Stop `group:program` names where they stand, without a look at any file: until they are restarted or the daemon is.
        Blocks until they have ended. Raises UsageError for a name it does not run."""
        with self._call(timeout_s) as proxy:
            return msgspec.json.decode(proxy.strategy_runner.stop(list(names)), type=ChangeReport)

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Stop all programs and the daemon. Blocks until its process has ended. One that does not listen is sent a signal; of one
        that hangs the error says how to end it."""
        try:
            self._shut_down(timeout_s)
        except TimeoutExpiredError as error:
            pid = self.keeper()
            by_force = f"; `kill -9 {pid}` {_ENDS}" if pid else ""
            raise TimeoutExpiredError(f"{error}{by_force}") from None

    def _shut_down(self, timeout_s: float) -> None:
        is_heard = self.is_running()
        pid = self.pid() if is_heard else self.keeper()
        if not pid:
            raise NotRunningError(f"{self._home.supervisor_socket}: no daemon listens")
        with contextlib.suppress(ProcessLookupError):
            watched = os.pidfd_open(pid)
            try:
                if is_heard:
                    with self._call(ANSWER_TIMEOUT_S) as proxy:
                        proxy.supervisor.shutdown()
                else:
                    signal.pidfd_send_signal(watched, signal.SIGTERM)
                self._await_end(watched, pid, timeout_s)
            finally:
                os.close(watched)

    def _await_end(self, watched: int, pid: int, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        if not poller.poll(timeout_s * 1000):
            raise TimeoutExpiredError(
                f"daemon (process {pid}): expected to end within {timeout_s:g} s, found it running"
            )

    @contextlib.contextmanager
    def _call(self, timeout_s: float) -> Iterator[Any]:
        path = checked_socket(self._home.supervisor_socket)
        transport = _TimedTransport(path, timeout_s)
        try:
            # the URL is never used: the transport knows its socket
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunningError(f"{path}: no daemon listens; start it with `strategy-runner up`") from None
        except TimeoutError:
            raise TimeoutExpiredError(f"{path}: expected an answer within {timeout_s:g} s, found none") from None
        except (ConnectionError, http.client.HTTPException):
            raise NotRunningError(f"{path}: the daemon ended before it answered") from None
        except xmlrpc.client.Fault as fault:
            raise _error_of(fault) from None
        finally:
            transport.close()


def unheard(home: Home, keeper: int) -> str:
    """What is wrong with a daemon that holds its home and does not listen."""
    return f"{home.supervisor_socket}: expected the daemon, process {keeper}, to listen there, found nobody"


class _TimedTransport(SupervisorTransport):  # type: ignore[misc]  # supervisor ships no types
    """supervisor's transport waits for ever; this one for a given time."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(serverurl=f"unix://{path}")
        self._get_connection = lambda: _TimedConnection(path, timeout_s)


class _TimedConnection(UnixStreamHTTPConnection):  # type: ignore[misc]  # supervisor ships no types
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, str(self._path)) from error


def _error_of(fault: xmlrpc.client.Fault) -> StrategyRunnerError:
    if fault.faultCode == Faults.SHUTDOWN_STATE:
        return NotRunningError("the daemon is stopping; start it again with `strategy-runner up`")
    if fault.faultCode == Faults.CANT_REREAD:
        return ConfigurationError(fault.faultString)
    if fault.faultCode == Faults.BAD_NAME:
        return UsageError(f"expected a program that the daemon runs, found {fault.faultString.partition(': ')[2]}")
    return StrategyRunnerError(f"the daemon refused: {fault.faultString}")
