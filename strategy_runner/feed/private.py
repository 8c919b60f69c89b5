"""Private entries on their way to the tape: the fill logs of all clients are followed, and each entry gets a record.

Only entries that are on the disk are taken, so that no power cut can leave a record without its entry: an order desk rings
when they are, and what rang unheard is synced here, a beat later. After a kill the tape itself says where reading goes on:
behind the last entry that has a record.

A log that cannot be read is its client's trouble alone: the feed says so and carries on with the others. What the disk refused
it tries again at each beat; a log that is damaged or was shortened it leaves until the file is another: its desk may cut off what
a power cut left, or a person put it back. A sync that fails ends the process, as one of the tape does.
"""

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.bus.doorbell import FillListener
from strategy_runner.config.spec import PrivateSource
from strategy_runner.errors import CorruptRecordError, StateError
from strategy_runner.model.names import STRATEGY_PATTERN, SYMBOL_PATTERN, WorkerKey
from strategy_runner.model.private import Slot, decode_private, slot_of
from strategy_runner.model.stream import Stream, private
from strategy_runner.tape.logs import START, Glance, LogReader, begin_of

TURN_BYTES_MAX = 1 << 18
IsRecorded = Callable[[Stream, "Slot"], bool]
_TIMES = range(-(1 << 63), 1 << 63)  # that a record can have

log = logging.getLogger(__name__)


class PrivateRecord(NamedTuple):
    """What goes on the tape for an entry."""

    stream: Stream
    event_ns: int
    slot: Slot


class PrivateLogs:
    """`last` is the newest record of each client, also of those that have left and may come back."""

    def __init__(
        self, sources: Iterable[PrivateSource], listener: FillListener | None, is_recorded: IsRecorded
    ) -> None:
        """`is_recorded` says whether the tape has a record with this slot on a private stream."""
        self._listener = listener
        self._is_recorded = is_recorded
        self._tails: dict[str, _Tail] = {}
        self.last: dict[str, Slot] = {}
        self.faults: dict[str, str] = {}
        self._damaged: dict[str, tuple[int, int]] = {}  # with the inode and the size of the log then
        self._paths = _paths(sources)

    def note(self, stream: Stream, values: tuple[float, ...]) -> None:
        """A record that is on the tape. Before the first `take`."""
        self.last[WorkerKey.parse(stream.worker).client] = Slot(*values[:4])

    def reload(self, sources: Iterable[PrivateSource]) -> None:
        """Follows these logs from now on; whoever was left for a fault is tried again."""
        self._paths = _paths(sources)
        for client in [*self._tails]:
            if client in self.faults or self._paths.get(client) != self._tails[client].path:
                self._tails.pop(client).close()
        self.faults.clear()
        self._damaged.clear()

    def take(self) -> list[PrivateRecord]:
        """The records of what desks rang for or `look` found, at most about TURN_BYTES_MAX of each log."""
        if self._listener is not None:
            for client, durable in self._listener.heard().items():
                tail = self._tail(client)
                if tail is not None:
                    tail.durable = max(tail.durable, durable)
        found: list[PrivateRecord] = []
        for client, tail in [*self._tails.items()]:
            if tail.has_more:
                found += self._read(client, tail)
        return found

    def look(self) -> None:
        """Once a beat: what stood in a log a beat ago and nobody rang for is synced, so that `take` finds it.

        Raises the OSError of a sync: what was not kept then cannot be synced again.
        """
        for client, path in self._paths.items():
            if client in self._damaged and self._damaged[client] != _place(path):
                del self._damaged[client]
            tail = self._tail(client)
            if tail is None:
                continue
            try:
                if tail.look():
                    log.warning("%s: it is another fill log now, or a shorter one", path)
                    self._tails.pop(client).close()
                    continue  # opened anew at the next look
            except (StateError, OSError) as error:
                self._leave(client, error)
            else:
                tail.sync()
                if tail.is_at_end:
                    self._heal(client)

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()
        if self._listener is not None:
            self._listener.close()

    def _tail(self, client: str) -> "_Tail | None":
        """None for a client that is none here, and for a log that is left alone."""
        tail = self._tails.get(client)
        if tail is None and client in self._paths and client not in self._damaged:
            try:
                tail = self._tails[client] = _Tail(
                    client, self._paths[client], self.last.get(client), self._is_recorded
                )
            except (StateError, OSError) as error:
                self._leave(client, error)
        return tail

    def _read(self, client: str, tail: "_Tail") -> list[PrivateRecord]:
        try:
            found = tail.read()
        except (StateError, OSError) as error:
            self._leave(client, error)
            return []
        if found:
            self.last[client] = found[-1].slot
            self._heal(client)
        return found

    def _leave(self, client: str, error: Exception) -> None:
        if client in self._tails:
            self._tails.pop(client).close()
        if not isinstance(error, OSError):
            self._damaged[client] = _place(self._paths[client])
            if self.faults.get(client) != str(error):
                log.error("%s: its private entries get no records any more: %s", client, error)
        elif client not in self.faults:
            log.error("%s: its private entries get no records, trying again: %s", client, error)
        self.faults[client] = str(error)

    def _heal(self, client: str) -> None:
        if self.faults.pop(client, ""):
            log.info("%s: its private entries get records again", client)


class _Tail:
    """One client's log. It is known to be on the disk up to the offset `durable`."""

    def __init__(self, client: str, path: Path, last: Slot | None, is_recorded: IsRecorded) -> None:
        self.path = path
        self.durable = 0
        self._client = client
        self._reader = LogReader(path)
        self._unsynced, self._seen = 0, self._reader.size()
        self._last = last
        self._is_recorded = is_recorded

    @property
    def has_more(self) -> bool:
        """A log that is not there yet may be put back, as it was."""
        return (self._last is not None and self._seen > START) or self._reader.offset < self.durable

    @property
    def is_at_end(self) -> bool:
        return not self.has_more and self._reader.offset >= self._seen

    def look(self) -> bool:
        """Notes how long the log is, and how long it was at the look before. True if it is another one."""
        self._unsynced, self._seen = self._seen, self._reader.size()
        return self._reader.glance() is Glance.REPLACED

    def sync(self) -> None:
        """Of what was there at the look before, if it is not read yet."""
        if self._unsynced > max(self._reader.offset, self.durable):
            self._reader.sync()
            self.durable = self._unsynced

    def read(self) -> list[PrivateRecord]:
        """Raises CorruptRecordError for an entry of another client or without sense: the tape is read by all clients."""
        if self._last is not None:
            if not self._pass(self._last):
                return []
            self._last = None
        offset, begin = self._reader.offset, self._reader.offset
        found: list[PrivateRecord] = []
        if offset >= self.durable:
            return found
        for following, payload in self._reader.read(min(TURN_BYTES_MAX, self.durable - begin)):
            found.append(self._record(payload, offset))
            offset = following
        if not found:
            self.durable = 0  # a ring for what is not there
        return found

    def close(self) -> None:
        self._reader.close()

    def _pass(self, last: Slot) -> bool:
        """Goes on behind the entry that has its record, or at the beginning of another log, whose entries have none. False while
        there is no entry. Raises CorruptRecordError for a rest of the same log: it would be told again."""
        offset = int(last.offset)
        self._reader.offset = offset
        try:
            following, payload = next(self._reader.read(1), (0, b""))
        except CorruptRecordError:  # no frame of another log need begin there
            payload = b""
        if payload and self._record(payload, offset).slot == last:
            self._reader.offset = following
            return True
        ends = self._first_and_last()
        if any(self._is_recorded(one.stream, one.slot) for one in ends):
            raise CorruptRecordError(
                f"{self.path}: offset {offset}: expected entry {last.number:.0f}, which has its record on the tape, "
                f"found a log that ends with entry {ends[-1].slot.number:.0f}: restore the file from a copy"
            )
        self._reader.offset = START
        return bool(ends)

    def _first_and_last(self) -> list[PrivateRecord]:
        found: list[PrivateRecord] = []
        self._reader.offset = START
        for end, payload in self._reader.read_to_end():
            found = [*found[:1], self._record(payload, begin_of(end, payload))]
        return found

    def _record(self, payload: bytes, offset: int) -> PrivateRecord:
        try:
            entry = decode_private(payload)
            worker = WorkerKey.parse(f"{self._client}:{entry.worker}")
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptRecordError(f"{self.path}: offset {offset}: expected a private entry: {error}") from error
        if not (re.fullmatch(STRATEGY_PATTERN, worker.strategy) and re.fullmatch(SYMBOL_PATTERN, worker.symbol)):
            raise CorruptRecordError(f"{self.path}: offset {offset}: expected a worker's name, found {entry.worker!r}")
        if entry.event.event_ns not in _TIMES:
            raise CorruptRecordError(
                f"{self.path}: offset {offset}: expected a time of 64 bits, found {entry.event.event_ns}"
            )
        if entry.event.client != self._client:
            raise CorruptRecordError(
                f"{self.path}: offset {offset}: expected an event of {self._client}, found one of {entry.event.client}"
            )
        return PrivateRecord(private(worker), entry.event.event_ns, slot_of(payload, offset, entry.number))


def _place(path: Path) -> tuple[int, int]:
    """Inode and size."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def _paths(sources: Iterable[PrivateSource]) -> dict[str, Path]:
    return {source.client: Path(source.path) for source in sources}
