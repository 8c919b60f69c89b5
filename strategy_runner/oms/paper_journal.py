"""The journal of a client's paper book: its entries in an append-only log, a snapshot so that a restart reads little of it,
and the events it can tell again from any number on.

The log alone is the truth. A snapshot that is lost or damaged costs a longer read and nothing else.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.paper_state import BookState, Entry
from strategy_runner.small_files import checked, replace_file, with_crc
from strategy_runner.tape.logs import START, AppendLog, begin_of, read_frames

SNAPSHOT_ENTRIES = 5_000
RECENT_EVENTS = 4_096
MARK_EVENTS = 512

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`offset` is where the log ended, `marks` are (number of the first event, offset) of some of its entries."""

    offset: int
    entries: int
    marks: list[tuple[int, int]]
    state: BookState


class Snapshot(NamedTuple):
    """One that is ready to be written: after so many entries, when the book had read the tape below `seq`."""

    entries: int
    seq: int
    payload: bytes


class PaperJournal:
    """The one writer. `state` and the entries `unread` after it make the book; from then on `append` each entry before it is
    folded, and `sync` before anybody is told. `told` is the number of events that are durable, `restart_seq` where on the
    tape a restart goes on."""

    def __init__(self, folder: Path, client: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "orders.log"
        self._snapshot_path = folder / "book"
        self._client = client
        snapshot = self._read_snapshot()
        self.state = snapshot.state if snapshot else BookState(client=client)
        self._marks = list(snapshot.marks) if snapshot else []
        self._entries = self._snapshot_entries = snapshot.entries if snapshot else 0
        self._start = snapshot.offset if snapshot else START
        self._log = AppendLog(self.path, whole_to=self._start, unsynced=_is_missed)
        self._recent: list[OmsEvent] = []
        self._telling = threading.Lock()
        self.number = self.told = self.state.number
        self.restart_seq = self.state.seq

    def unread(self) -> list[Entry]:
        """The entries behind the snapshot, to be folded in order. Once, at the start."""
        found: list[Entry] = []
        for end, payload in read_frames(self.path, self._start):
            entry = _decode(payload)
            self._note(entry, begin_of(end, payload))
            found.append(entry)
        self._log.sync()  # what a killed process had written is told now, so it must be durable now
        self.told = self.number
        return found

    def append(self, entry: Entry) -> None:
        """Survives kill -9. Raises OSError, and then the entry has not happened."""
        offset = self._log.append(_encode(entry))
        self._note(entry, offset)

    def sync(self) -> None:
        """Returns when everything appended survives a power cut; on any thread. An error is final: the process must end."""
        number = self.number
        self._log.sync()
        with self._telling:
            self.told = max(self.told, number)

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """Durable events from a number on."""
        if from_number >= self.told or limit <= 0:
            return []
        end = min(self.told, from_number + limit)
        recent = self._recent
        if recent and recent[0].number <= from_number:
            first = from_number - recent[0].number
            return recent[first : first + end - from_number]
        return self._events_of_log(from_number, end)

    @property
    def wants_snapshot(self) -> bool:
        return self._entries - self._snapshot_entries >= SNAPSHOT_ENTRIES

    def snapshot(self, state: BookState) -> Snapshot:
        """Of the state after all entries so far. To be written: nobody need wait for the disk who trades meanwhile."""
        taken = _Snapshot(offset=self._log.offset, entries=self._entries, marks=self._marks, state=state)
        return Snapshot(self._entries, state.seq, msgspec.msgpack.encode(taken))

    def write_snapshot(self, taken: Snapshot) -> None:
        """Raises OSError; the older snapshot then still stands."""
        self.sync()
        replace_file(self._snapshot_path, with_crc(taken.payload), synced="content")
        self._snapshot_entries = taken.entries
        self.restart_seq = max(self.restart_seq, taken.seq)

    def close(self) -> None:
        self._log.close()

    def _note(self, entry: Entry, offset: int) -> None:
        self._entries += 1
        self.restart_seq = entry.seq
        if not entry.events:
            return
        if not self._marks or entry.events[0].number - self._marks[-1][0] >= MARK_EVENTS:
            self._marks.append((entry.events[0].number, offset))
        self._recent += entry.events
        if len(self._recent) >= 2 * RECENT_EVENTS:
            self._recent = self._recent[-RECENT_EVENTS:]
        self.number = entry.events[-1].number + 1

    def _events_of_log(self, from_number: int, end: int) -> list[OmsEvent]:
        offset = next((at for number, at in reversed(self._marks) if number <= from_number), START)
        found: list[OmsEvent] = []
        for _, payload in read_frames(self.path, offset):
            found += [event for event in _decode(payload).events if from_number <= event.number < end]
            if found and found[-1].number + 1 == end:
                break
        return found

    def _read_snapshot(self) -> _Snapshot | None:
        try:
            payload = checked(self._snapshot_path.read_bytes())
            if payload is None:
                return None
            snapshot = msgspec.msgpack.decode(payload, type=_Snapshot)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if snapshot.state.client != self._client:
            raise CorruptRecordError(
                f"{self._snapshot_path}: expected the book of {self._client}, found that of {snapshot.state.client}"
            )
        return snapshot


def _is_missed(behind: Iterator[bytes]) -> bool:
    """What was told nobody loses in silence: a desk that knows of more events than there are stops its client's entries."""
    return True
