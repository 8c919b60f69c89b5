"""The zygote: an idle process that workers are forked from, so that they share nearly all of their memory.

If supervisord forked them itself, every page that its loop changes between two forks would stay behind as the older
worker's own copy. The zygote changes almost nothing between forks. It forks with CLONE_PARENT, so that a worker is its
sibling: a child of the daemon, which waits for it and restarts it as supervisord does with any child.

    daemon -> zygote    length u32, msgpack of Birth
    zygote -> daemon    pid i32, or minus errno

python -m strategy_runner.supervision.zygote DESCRIPTOR PARENT ENTRY [MODULE...]
"""

import ctypes
import gc
import importlib
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import traceback
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's own makes enums: 50 KB of a child's memory
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.pinned_environment import PINNED_ENVIRONMENT
from strategy_runner.supervision.child import leave_parent, run_and_exit, take_own_output
from strategy_runner.supervision.programs import ENTRY_MODULE, LOG_VARIABLE
from strategy_runner.supervision.watchdog.process import ENDED, pids, read_stat

# zmq without a context: a context owns threads, and threads do not survive a fork
LIBRARIES = ("numpy", "msgspec", "zmq", "ctypes", "traceback")
TRIAL_MODULE = "strategy_runner.supervision.rehearsal"
ANSWER_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0
HELD_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
# <linux/sched.h>, and the number of clone(2) by architecture
_CLONE_PARENT = 0x8000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
# not CDLL: the interpreter's lock stays held across the fork, as os.fork holds it
_SYSCALL = ctypes.PyDLL(None, use_errno=True).syscall
# systemd speaks to the daemon alone
_DAEMONS_OWN = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"})
_LENGTH = struct.Struct("<I")
_ANSWER = struct.Struct("<i")


class Birth(msgspec.Struct, frozen=True):
    """A process to be forked: the module whose `main` it calls, that one's arguments, what it adds to the daemon's
    environment, and where it runs and logs."""

    name: str
    entry: str
    arguments: list[str]
    environment: dict[str, str]
    log: str
    directory: str | None


class Zygote:
    """The daemon's side. Started by `start`, or at the first birth, and again if it has died."""

    def __init__(self, entry: str, modules: Sequence[str]) -> None:
        self._entry = entry
        self._modules = modules
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins to load, which takes most of a second, and does not wait for it."""
        if self._socket is None:
            self._process, self._socket = _start(self._entry, self._modules)

    def bear(self, birth: Birth, known: Container[int]) -> int:
        """Forks a worker and returns its process id, a child of this process. Blocks a few milliseconds; raises OSError.

        `known` are those born before. A zygote may die, or stand still, between a birth and its answer.
        """
        try:
            return self._ask(birth)
        except (BrokenPipeError, ConnectionResetError, EOFError, TimeoutError):
            self.close()
            _end_unknown(known)
            return self._ask(birth)

    def close(self) -> None:
        """The zygote ends when its socket does. Waits for that: after a daemon nothing is left."""
        if self._socket is not None:
            assert self._process is not None
            self._socket.close()
            self._socket = None
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, birth: Birth) -> int:
        self.start()
        assert self._socket is not None
        payload = msgspec.msgpack.encode(birth)
        self._socket.sendall(_LENGTH.pack(len(payload)) + payload)
        pid: int = _ANSWER.unpack(_receive(self._socket, _ANSWER.size))[0]
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid


def _start(entry: str, modules: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-m",
        "strategy_runner.supervision.zygote",
        str(theirs.fileno()),
        str(os.getpid()),
        entry,
    ]
    # what the interpreter and numpy read when they are loaded; a forked worker inherits it
    inherited = {name: value for name, value in os.environ.items() if name not in _DAEMONS_OWN}
    environment = {**inherited, **PINNED_ENVIRONMENT}
    process = subprocess.Popen(
        [*command, *modules], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
    )
    theirs.close()
    ours.settimeout(ANSWER_TIMEOUT_S)
    return process, ours


def _end_unknown(known: Container[int]) -> None:
    """Ends what a zygote bore and told nobody of: it would hold the folder of the one that is born in its place, and nobody could
    stop it. It has its zygote's command line."""
    for pid in pids():
        stat = read_stat(pid)
        if stat is None or stat.parent != os.getpid() or stat.state in ENDED or pid in known:
            continue
        if __name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


# -- the zygote's own side ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> NoReturn:
    descriptor, parent, entry, *modules = arguments
    leave_parent(int(parent))
    # Ctrl-C in a terminal reaches the whole group; when to end is the daemon's word alone. A worker lets them in again.
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    preload(entry, modules)
    channel = socket.socket(fileno=int(descriptor))
    while True:
        try:
            length = _LENGTH.unpack(_receive(channel, _LENGTH.size))[0]
            birth = msgspec.msgpack.decode(_receive(channel, length), type=Birth)
        except (EOFError, ConnectionResetError):
            os._exit(0)  # the daemon waits, and to take all those modules apart takes a while
        channel.sendall(_ANSWER.pack(_fork(birth, int(parent))))


def preload(entry: str, modules: Sequence[str]) -> None:
    """Import what every worker needs, play it once, and keep the collector away, so that the pages stay shared.

    Raises StateError when an import started a thread: a worker would inherit its locks and not the thread.
    """
    for name in (*LIBRARIES, *modules):
        importlib.import_module(name)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # a file, not a test's
    from strategy_runner.supervision.heap import counts_references, settle_heap

    if entry == ENTRY_MODULE:
        from strategy_runner.supervision.rehearsal import rehearse

        rehearse()
        if not counts_references():  # else they write to all that they use
            _gather_code()
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208  the names alone
    if threads != 1:
        raise StateError(f"zygote: expected one thread after the imports of {list(modules)}, found {threads}")
    settle_heap()


def _gather_code() -> None:
    """Finds by workers on trial which code they write to, and puts it on pages of its own."""
    from strategy_runner.supervision.heap import gather, restless_code, settle_heap
    from strategy_runner.supervision.rehearsal import rehearse, worker_on_trial

    # where code has moved its callers count anew: the second finds those too
    for own_code in (False, True):
        settle_heap()
        try:
            with worker_on_trial(_bear_for_trial, own_code=own_code) as pid:
                found = restless_code(pid)
        except OSError as error:
            print(f"zygote: workers take more memory than they need to: {error}", file=sys.stderr)
            return
        gather(found)
    rehearse(lives=1)


def _bear_for_trial(spec: str, log: Path) -> int:
    pid = _fork(Birth("trial", TRIAL_MODULE, [spec], {LOG_VARIABLE: str(log)}, str(log), None), os.getpid(), 0)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def _fork(birth: Birth, parent: int, flags: int = _CLONE_PARENT) -> int:
    """The worker's process id, or minus errno. In the worker it does not return. `parent` is whose end it does not survive."""
    # what os.fork does around the system call, which here has one flag more
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _SYSCALL(_SYS_CLONE[platform.machine()], flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        _be_worker(birth, parent)
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid if pid > 0 else -ctypes.get_errno()


def _be_worker(birth: Birth, daemon: int) -> NoReturn:
    try:
        leave_parent(daemon)
        os.setpgrp()
        pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
        if birth.directory is not None:
            os.chdir(birth.directory)
        take_own_output(birth.log)
        os.environ.update(birth.environment)
        sys.argv = [birth.entry, *birth.arguments]
        run = importlib.import_module(birth.entry).main
    except BaseException:
        traceback.print_exc()
        os._exit(127)
    run_and_exit(run, birth.arguments, birth.name)


def _receive(channel: socket.socket, length: int) -> bytes:
    """Exactly so many bytes. Raises EOFError when the other side has closed."""
    parts = b""
    while len(parts) < length:
        part = channel.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


if __name__ == "__main__":
    gc.disable()  # one collection after the imports, in settle_heap, and none before a fork
    main(sys.argv[1:])
