"""The breaker log: each breaker of a client as it opens and as it closes, with why. For the audit trail.

The risk state alone says what is open; it is made of other logs, and says nothing of what has closed since. After a kill the log
is brought to the state that is made again.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from strategy_runner.risk.state import Latch
from strategy_runner.tape.files import is_full
from strategy_runner.tape.logs import AppendLog, read_log

_encode = msgspec.msgpack.Encoder().encode


class BreakerChange(msgspec.Struct, frozen=True, kw_only=True):
    """A latch that opened, or one that closed."""

    at_ns: int
    opened: bool
    latch: Latch


class BreakerLog:
    """The one writer. Raises OSError, StateError."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._open: list[Latch] = []
        self._log = AppendLog(breaker_log(folder))
        for change in read_breakers(folder):
            if change.opened:
                self._open.append(change.latch)
            else:
                self._open.remove(change.latch)

    def note(self, latches: Sequence[Latch]) -> None:
        """What has changed since the last time. On a full disk it is noted at a later one."""
        if latches == self._open:
            return
        at_ns = time.time_ns()
        changes = [BreakerChange(at_ns=at_ns, opened=False, latch=one) for one in self._open if one not in latches]
        changes += [BreakerChange(at_ns=at_ns, opened=True, latch=one) for one in latches if one not in self._open]
        try:
            if changes:
                self._log.append_many([_encode(change) for change in changes])
        except OSError as error:
            if not is_full(error):
                raise
            return
        self._open = list(latches)


def breaker_log(folder: Path) -> Path:
    """In the router's folder."""
    return folder / "breakers.log"


def read_breakers(folder: Path) -> Iterator[BreakerChange]:
    """All of them, the oldest first."""
    for payload in read_log(breaker_log(folder)):
        yield decode_breaker(payload)


decode_breaker = msgspec.msgpack.Decoder(BreakerChange).decode
