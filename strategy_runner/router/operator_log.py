"""The operator log: what people asked of a client's trading, with who, when and why. On the disk before anybody acts on it.

The command line writes it, and the router's own rule for restarts; the router follows it, and begins with it before it decides
anything. So what was asked while no router ran, or while it hung, holds for the one that comes.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from strategy_runner.errors import StateError, naming
from strategy_runner.model.counted import counted
from strategy_runner.router.acknowledgement import read_acknowledgement
from strategy_runner.tape.logs import AppendLog, LogReader

# `configure` tells of changed specs, `restart` of a position that was there when trading came back
Verb = Literal["halt", "resume", "flatten", "reconcile", "configure", "restart"]

_encode = msgspec.msgpack.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. "" as strategy or symbol is all of them. `is_hard` halts exits too, `accepts` lets the OMS's word be the
    truth; `detail` says what changed."""

    verb: Verb
    strategy: str = ""
    symbol: str = ""
    is_hard: bool = False
    accepts: bool = False
    reason: str = ""
    detail: str = ""

    @property
    def scope(self) -> str:
        """As it is typed behind the client's name: "", `:talk`, `:talk:BTC-USD`, `:*:BTC-USD`."""
        if not self.strategy and not self.symbol:
            return ""
        return f":{self.strategy or '*'}" + (f":{self.symbol}" if self.symbol else "")


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it was recorded. `number` is dense from 1, so that 0 is none."""

    number: int
    at_ns: int
    who: str
    request: Request


decode_action = msgspec.msgpack.Decoder(Action).decode


def operator_log(folder: Path) -> Path:
    """In the folder of a client's run, beside the router's own."""
    return folder / "operator.log"


def record(
    folder: Path,
    requests: Sequence[Request],
    *,
    who: str,
    at_ns: int,
    is_wanted: Callable[[Request, Sequence[Action]], bool] | None = None,
) -> tuple[Action, ...]:
    """Appends requests and returns them as the actions they are now; on the disk. Raises OSError, StateError.

    `is_wanted` is asked of each request with all actions that are there, of which none comes in between.
    """
    if not requests:
        return ()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _one_writer(folder):
        known = list(read_actions(folder))
        refuse_loss(folder, known[-1].number if known else 0)
        wanted = [one for one in requests if is_wanted is None or is_wanted(one, known)]
        if not wanted:
            return ()
        actions = tuple(
            Action(number=number, at_ns=at_ns, who=who, request=request)
            for number, request in enumerate(wanted, known[-1].number + 1 if known else 1)
        )
        with naming(operator_log(folder)):
            log = AppendLog(operator_log(folder))
            try:
                log.append_many([_encode(action) for action in actions])
                log.sync()
            finally:
                log.close()
    return actions


def refuse_loss(folder: Path, number: int) -> None:
    """Raises StateError if a router has taken more than `number` actions: what was asked next would pass for taken too."""
    word = read_acknowledgement(folder / "router")
    if word is not None and word.taken > number:
        raise StateError(
            f"{operator_log(folder)}: expected the {counted(word.taken, 'action')} that the router has taken, found {number}: "
            "restore the file from a copy"
        )


def read_actions(folder: Path) -> Iterator[Action]:
    """All of a run, the oldest first. Raises StateError."""
    reader = ActionReader(folder)
    try:
        while actions := reader.read():
            yield from actions
    finally:
        reader.close()


class ActionReader:
    """Reads actions in order, and goes on each time it is asked."""

    def __init__(self, folder: Path) -> None:
        self._reader = LogReader(operator_log(folder))
        self._last: int | None = None

    def read(self) -> list[Action]:
        """What has come. Raises StateError."""
        found = [decode_action(payload) for _, payload in self._reader.read()]
        for action in found:
            if self._last is not None and action.number != self._last + 1:
                raise StateError(f"{self._reader.path}: expected action {self._last + 1}, found {action.number}")
            self._last = action.number
        return found

    def sync(self) -> None:
        """Returns when what was read is on the disk: its writer may not have come to that yet. Raises OSError."""
        self._reader.sync()

    def close(self) -> None:
        self._reader.close()


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """The command line and a router may both have something to say."""
    descriptor = os.open(folder / "operator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
