"""The private log as a worker reads it: the payload of a record of its private stream, from its client's fill log.

The record's digest says that it is the very entry, the entry's names that it is this worker's: what is not is refused.
"""

from pathlib import Path

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.private import PrivateEntry, PrivateEvent, Slot, decode_private, slot_of
from strategy_runner.model.stream import private
from strategy_runner.tape.logs import LogReader, read_log
from strategy_runner.tape.reader import TapeReader

_ENTRY_BYTES = 4096  # a longer one is read in two steps


class PrivateLog:
    """One worker's entries of one fill log."""

    def __init__(self, path: Path, key: WorkerKey) -> None:
        self._path = path
        self._key = key
        self._reader = LogReader(path)

    def event(self, event_ns: int, v0: float, v1: float, v2: float, v3: float, v4: float) -> PrivateEvent:
        """The event of a record. Raises CorruptRecordError if the log does not hold its entry."""
        slot = Slot(v0, v1, v2, v3)
        return PrivateEvent(event_ns, self.entry(slot), slot)

    def entry(self, slot: Slot) -> PrivateEntry:
        """The entry that a record stands for. Raises CorruptRecordError if the log does not hold it."""
        offset, number = int(slot.offset), int(slot.number)
        self._reader.offset = offset
        payload = next((payload for _, payload in self._reader.read(_ENTRY_BYTES)), None)
        if payload is None or slot_of(payload, offset, number) != slot:
            found = "another" if payload else "none"
            raise CorruptRecordError(f"{self._path}: offset {offset}: expected entry {number}, found {found}")
        return self._own(payload, offset)

    def close(self) -> None:
        self._reader.close()

    def _own(self, payload: bytes, offset: int) -> PrivateEntry:
        try:
            entry = decode_private(payload)
        except msgspec.DecodeError as error:
            raise CorruptRecordError(f"{self._path}: offset {offset}: expected a private entry: {error}") from error
        if (entry.event.client, entry.worker) != (self._key.client, self._key.folder):
            raise CorruptRecordError(
                f"{self._path}: offset {offset}: expected an entry of {self._key.name}, "
                f"found one of {entry.event.client}:{entry.worker}"
            )
        return entry


def position_at(reader: TapeReader, spec: WorkerSpec, seq: int) -> float:
    """What a worker holds in its account when the tape stands at a seq, by its last private record of that account before it.
    Raises CorruptRecordError."""
    path, key = Path(spec.fills), spec.key
    stream_id = reader.find(private(key))
    ordinal = 0 if stream_id is None else reader.first_ordinal_at(stream_id, seq)
    if stream_id is None or not ordinal:
        return 0.0
    log = PrivateLog(path, key)
    try:
        for count in range(ordinal, 0, -1):  # mostly the last one: an account is seldom changed
            try:
                fields = reader.fields(reader.seqs(stream_id, count - 1, count)[0], stream_id)
            except CorruptRecordError:
                if seq > reader.head.first:
                    oldest = reader.first_ordinal_at(stream_id, reader.head.first)
                    if oldest < count:
                        raise  # it is kept, and damaged
                return _position_of_entry(spec, count)
            held = log.entry(Slot(*fields[8:12])).position
            if held.account == spec.account:
                return float(held.quantity)
        return 0.0
    finally:
        log.close()


def _position_of_entry(spec: WorkerSpec, count: int) -> float:
    """After so many of a worker's entries, counted in the log: retention has taken the record of the last."""
    held = 0.0
    for payload in read_log(Path(spec.fills)):
        entry = decode_private(payload)
        if entry.worker == spec.key.folder:
            if entry.position.account == spec.account:
                held = float(entry.position.quantity)
            count -= 1
            if not count:
                break
    return held
