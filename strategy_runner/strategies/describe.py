"""What a client's strategies are, found out in a child process: their code must not run in the command line's own.

Importing a client's file runs it, and it may exit, hang, print or crash. The child is forked, sends what it found over a
pipe as msgpack, and is killed with everything it started; what went wrong becomes a problem that names the file.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.client_code import code_path, shown, unheard
from strategy_runner.strategies.generation import code_digest
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.strategies.kept_code import folder_digest
from strategy_runner.strategies.params import build_params
from strategy_runner.strategies.registry import BUILTIN, load_client_strategies, unknown_strategy

TIMEOUT_S = 20.0
_MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class Description(msgspec.Struct, frozen=True):
    """A strategy as the rest of the product needs to know it; `code` is the client's own file or "", and `folder_digest`
    says what all code of the folder was when it was imported."""

    inputs: Inputs
    code: str
    code_digest: str
    folder_digest: str


class Use(msgspec.Struct, frozen=True):
    """A strategy named in a file, with the params given there; `where` begins each problem."""

    strategy: str
    params: Mapping[str, Any]
    where: str


class Resolved(msgspec.Struct, frozen=True):
    """A use found good. `params` are complete: every default is written out."""

    description: Description
    params: dict[str, Any]


def resolve(folder: Path, uses: Sequence[Use], timeout_s: float = TIMEOUT_S) -> list[Resolved]:
    """The strategies that a client's file names, with their params checked, in the order of `uses`. `folder` is the client's
    strategies folder.

    Blocks up to `timeout_s`. Raises ConfigurationError with every fault of the client's files and of the uses.
    """

    def work(entering: Callable[[Path], None]) -> list[Resolved]:
        known = _known(folder, entering)
        resolved: list[Resolved] = []
        problems: list[str] = []
        for use in uses:
            try:
                resolved.append(_resolved(use, known, entering))
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(*problems)
        return resolved

    return in_child(work, list[Resolved], timeout_s)


def unheard_of(folder: Path, names: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[str]:
    """What strategies of these names, so far as they are the client's own, have that no record reaches, as `unheard` says it.

    Blocks and raises as `resolve`.
    """

    def work(entering: Callable[[Path], None]) -> list[str]:
        own = load_client_strategies(folder, entering)
        return [
            f"{shown(Path(code_path(own[name])))}: {line}"
            for name in names
            if name in own
            for line in unheard(own[name])
        ]

    return in_child(work, list[str], timeout_s)


def _known(folder: Path, entering: Callable[[Path], None]) -> dict[str, type[Strategy]]:
    """The client's own come before the built-in ones, so that a new one of these never replaces a client's."""
    return {**BUILTIN, **load_client_strategies(folder, entering)}


def _resolved(use: Use, known: Mapping[str, type[Strategy]], entering: Callable[[Path], None]) -> Resolved:
    if use.strategy not in known:
        raise ConfigurationError(f"{use.where}: {unknown_strategy(use.strategy, known)}")
    strategy = known[use.strategy]
    if code := code_path(strategy):
        entering(Path(code))  # a check across fields is the client's code too
    params = msgspec.to_builtins(build_params(strategy, use.params, use.where))
    build_params(strategy, params, use.where)  # as its workers will: nobody has checked the defaults yet
    return Resolved(_description(strategy), params)


def _description(strategy: type[Strategy]) -> Description:
    code = code_path(strategy)
    return Description(strategy.inputs, code, code_digest(strategy), folder_digest(Path(code).parent) if code else "")


# -- the child and its pipe --------------------------------------------------------------------------------------------


class _Entering(msgspec.Struct, tag=True):
    """From here on, what goes wrong is this file's."""

    file: str


class _Failed(msgspec.Struct, tag=True):
    problems: list[str]


class _Done(msgspec.Struct, tag=True):
    found: msgspec.Raw


_Message = _Entering | _Failed | _Done
T = TypeVar("T")


def in_child(work: Callable[[Callable[[Path], None]], T], result: type[T], timeout_s: float) -> T:
    """What `work` finds in a process of its own; it says whose code it is `entering`. Raises its ConfigurationError, or one that
    names the file whose code ends the process or takes longer."""
    reader, writer = Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    # an interrupt waits until each of the two is ready for it: this one to end the child, the child to end without a word
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if pid == 0:
        reader.close()
        _child(work, writer, timeout_s)
    writer.close()
    with suppress(OSError):
        os.setpgid(
            pid, pid
        )  # the child does the same; whoever comes first, it has a group of its own before it is killed
    pidfd = os.pidfd_open(pid)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return msgspec.msgpack.decode(_follow(reader, pidfd, pid, timeout_s), type=result)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(pidfd)
        reader.close()


def _follow(reader: Connection, pidfd: int, pid: int, timeout_s: float) -> msgspec.Raw:
    """What the child found. Raises ConfigurationError if it failed, died or is still running at the timeout."""
    deadline = time.monotonic() + timeout_s
    file = "strategies"
    while reader.poll(max(0.0, deadline - time.monotonic())):
        try:
            message = msgspec.msgpack.decode(reader.recv_bytes(_MESSAGE_BYTES_MAX), type=_Message)
        except (EOFError, OSError):
            if _ended(pidfd, deadline):
                raise ConfigurationError(f"{file}: expected its code to run, found it {_death(pid)}") from None
            break
        match message:
            case _Entering():
                file = message.file
            case _Failed():
                raise ConfigurationError(*message.problems)
            case _Done():
                return message.found
    raise ConfigurationError(f"{file}: expected its code to run within {timeout_s:g} s, found it still running")


def _ended(pidfd: int, deadline: float) -> bool:
    """Whether the process ends before the deadline. With poll, since select takes no descriptor above 1023."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1e3))


def _death(pid: int) -> str:
    """How a child that has ended did; leaves it to be reaped."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None, "asked without WNOHANG"
    if ended.si_code == os.CLD_EXITED:
        return f"ended the process with exit status {ended.si_status}"
    return f"killed the process by {signal.Signals(ended.si_status).name}"


def _child(work: Callable[[Callable[[Path], None]], Any], writer: Connection, timeout_s: float) -> NoReturn:
    """The child's whole life. Ends without the clean-up of the process it is a copy of."""
    status = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1.0)  # ends it even if the parent was killed
        os.dup2(2, 1)  # the parent's stdout is for its own results
        sys.stdout = sys.stderr

        def send(message: _Message) -> None:
            writer.send_bytes(msgspec.msgpack.encode(message))

        try:
            found = work(lambda path: send(_Entering(shown(path))))
        except ConfigurationError as error:
            send(_Failed(list(error.problems)))
        else:
            send(_Done(msgspec.Raw(msgspec.msgpack.encode(found))))
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)
