"""The audit trail's writer: a thread of the router that copies what the client's logs tell into the audit log.

It stands in nobody's way: what it has not copied when the router dies, the next one copies.
"""

import errno
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from strategy_runner.errors import StrategyRunnerError
from strategy_runner.router.audit_log import (
    NO_HASH,
    SOURCES,
    Place,
    Source,
    audit_log,
    chained,
    decode_entry,
    read_audit,
    source_log,
)
from strategy_runner.router.note import read_note, write_note
from strategy_runner.router.right_of_way import GiveWay, no_way_given
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.logs import START, AppendLog, LogReader

LOOK_INTERVAL_S = 1.0
FEW_ENTRIES = 1_000  # wait for the next look, with what comes until then: each copying syncs every source
NOTE_ENTRIES = 10_000
PIECE_ENTRIES = 200  # between which signals that wait are decided

log = logging.getLogger(__name__)


class _Note(msgspec.Struct, kw_only=True):
    """What the audit log comes to at `offset`."""

    boot: int = 0
    offset: int = START
    number: int = 0
    chain: bytes = NO_HASH
    places: dict[Source, Place] = {}


class AuditTrail:
    """The one writer of a run's audit log. `folder` is the run's. Raises StateError, OSError."""

    def __init__(self, folder: Path) -> None:
        self._note_path = folder / "router" / "audit.note"
        self._at = _read_note(self._note_path)
        self._noted = self._at.number
        self._log = AppendLog(
            audit_log(folder), whole_to=self._at.offset, permissions=0o600, unsynced=_are_of_one_round
        )
        for _, entry in read_audit(folder, self._at.offset):
            self._pass(entry.source, Place(entry.ordinal + 1, entry.end), entry.number + 1, entry.chain)
        self._sources = {
            source: LogReader(source_log(folder, source), self._place(source).offset) for source in SOURCES
        }

    def follow(self, give_way: GiveWay = no_way_given) -> int:
        """Copies what has come, and returns how much that is. A source is on the disk before its copy is."""
        copied = sum(self._copy(source, reader, give_way) for source, reader in self._sources.items())
        if copied:
            self._log.sync()
        if self._at.number - self._noted >= NOTE_ENTRIES:
            self.note()
        return copied

    def note(self) -> None:
        try:
            self._at.boot = this_boot()
            write_note(self._note_path, msgspec.msgpack.encode(self._at))
        except OSError as error:
            log.warning("%s: no note at entry %d: %s", self._note_path, self._at.number, error)
        self._noted = self._at.number

    def close(self) -> None:
        for reader in self._sources.values():
            reader.close()
        self._log.close()

    def _copy(self, source: Source, reader: LogReader, give_way: GiveWay) -> int:
        """Raises OSError, and then nothing is copied."""
        begin = reader.offset
        frames = list(reader.read())
        if not frames:
            return 0
        at_ns, chain, number = time.time_ns(), self._at.chain, self._at.number
        ordinal = self._place(source).count
        entries: list[bytes] = []
        for index, (end, payload) in enumerate(frames):
            if not index % PIECE_ENTRIES:
                give_way()
            entry, chain = chained(chain, number + index, at_ns, source, ordinal + index, end, payload)
            entries.append(entry)
        try:
            reader.sync()
            self._log.append_many(entries)
        except OSError:
            reader.offset = begin
            raise
        count = len(frames)
        self._pass(source, Place(ordinal + count, frames[-1][0]), number + count, chain)
        return count

    def _pass(self, source: Source, place: Place, number: int, chain: bytes) -> None:
        """The log holds so many entries, the last of them of this source, up to this place of it."""
        self._at.number, self._at.chain, self._at.offset = number, chain, self._log.offset
        self._at.places[source] = place

    def _place(self, source: Source) -> Place:
        return self._at.places.get(source, Place())


class Audit:
    """The thread. `fault` is why it cannot go on, "" while it can; it tries again. `broken` is a disk that failed: what it did
    not keep cannot be synced again, so the router ends."""

    def __init__(self, folder: Path) -> None:
        self.fault = ""
        self.broken: OSError | None = None
        self._folder = folder
        self._give_way: GiveWay = no_way_given
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self, give_way: GiveWay = no_way_given) -> None:
        self._give_way = give_way
        self._thread.start()

    def finish(self) -> None:
        """Whatever is there by now is the last that comes."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Copies what is there by now."""
        self.finish()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        trail: AuditTrail | None = None
        while True:
            is_last = self._stopping.is_set()
            try:
                trail = trail or AuditTrail(self._folder)
                while trail.follow(self._give_way) > (0 if is_last else FEW_ENTRIES):
                    pass
                self.fault = ""
            except (StrategyRunnerError, OSError) as error:
                if not self.fault:
                    log.error("audit trail: %s; trying again", error)
                self.fault = str(error)
                if isinstance(error, OSError) and error.errno == errno.EIO:
                    self.broken = error
                    return
            if is_last:
                break
            self._stopping.wait(LOOK_INTERVAL_S)
        if trail is not None:
            trail.note()
            trail.close()


def _are_of_one_round(behind: Iterator[bytes]) -> bool:
    """Each round of copying is synced before the next, and copies what there is of a source at one moment."""
    moments = {(entry.source, entry.at_ns) for entry in map(decode_entry, behind)}
    return len({source for source, _ in moments}) == len(moments)


def _read_note(path: Path) -> _Note:
    """An empty note, which costs a whole read, for one that is missing, damaged or of another boot."""
    payload = read_note(path)
    try:
        note = msgspec.msgpack.decode(payload, type=_Note) if payload else _Note()
    except msgspec.DecodeError:
        return _Note()
    return note if note.boot == this_boot() else _Note()
