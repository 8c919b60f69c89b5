"""The journal: a client's decision log, and a note of where each worker's log stood, so that a restart reads little."""

import errno
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from strategy_runner.errors import CorruptRecordError, DiskFullError
from strategy_runner.model.decision import Decision, Verdict
from strategy_runner.model.signal import decode_body, digest, worker_of
from strategy_runner.router.intake import WorkerCursor
from strategy_runner.router.note import read_note, write_note
from strategy_runner.router.position import Position
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.logs import START, AppendLog, LogReader, frame_behind, read_frames

NOTE_DECISIONS = 5_000
SEARCH_BYTES = 65_536
READ_BYTES = 1 << 18
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
decode_decision = msgspec.msgpack.Decoder(Decision).decode


class Note(msgspec.Struct, kw_only=True):
    """State as of `offset` in the decision log: `number` decisions stand before it, `refusals` of them no acceptances.

    `boot` is when it was written: after a power cut a worker's log may be shorter than it says, and is read from its start.
    """

    boot: int = 0
    offset: int = START
    number: int = 0
    refusals: int = 0
    workers: dict[str, WorkerCursor] = {}
    positions: dict[str, Position] = {}


class Journal:
    """The one writer of a client's decision log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = decision_log(folder)
        self._note_path = folder / "note"
        note = _read_note(self._note_path)
        self._log = AppendLog(self.path, whole_to=note.offset, unsynced=_are_one_append)
        self._noted = note.number
        self.number = note.number
        self.refusals = note.refusals
        self.cursors = dict(note.workers)
        self.positions = dict(note.positions)
        self._scan(note.offset)
        self.synced = self._log.offset
        if self.number > self._noted:
            self._log.sync()

    def append(self, decisions: list[Decision], positions: Mapping[str, Position]) -> None:
        """Writes and syncs: when it returns, a power cut cannot take the decisions. `positions` are those that they changed.

        Raises DiskFullError, and then nothing is written: try again when there is space. Any other OSError is final: what a
        failed sync dropped cannot be synced again.
        """
        assert decisions and decisions[0].number == self.number
        try:
            self._log.append_many([_encode(decision) for decision in decisions])
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise DiskFullError(f"{self.path}: cannot write decisions: {error.strerror}") from error
            raise
        self._log.sync()
        self.positions.update(positions)
        self.number += len(decisions)
        self.refusals += sum(decision.verdict != "accepted" for decision in decisions)
        self.synced = self._log.offset

    @property
    def wants_note(self) -> bool:
        return self.number - self._noted >= NOTE_DECISIONS

    def note(self, cursors: dict[str, WorkerCursor]) -> None:
        """Keeps where the workers' logs stand. Losing a note costs a longer scan and nothing else."""
        self.cursors = cursors
        note = Note(
            boot=this_boot(),
            offset=self._log.offset,
            number=self.number,
            refusals=self.refusals,
            workers=cursors,
            positions=self.positions,
        )
        try:
            write_note(self._note_path, msgspec.msgpack.encode(note))
        except OSError as error:
            log.warning("%s: no note at decision %d: %s", self._note_path, self.number, error)
        self._noted = self.number

    def digests_of(self, worker: str) -> dict[tuple[str, int], bytes]:
        """Digest of the body of each decided signal of a worker, by (generation, n). Reads the whole log."""
        return {
            (decision.envelope.generation, decision.envelope.n): digest(decision.body)
            for decision in read_decisions(self.path)
            if worker_of(decision.signal_id).endswith(f":{worker}")
        }

    def close(self) -> None:
        self._log.close()

    def _scan(self, offset: int) -> None:
        for _, payload in read_frames(self.path, offset):
            try:
                decision = decode_decision(payload)
                body, envelope = decode_body(decision.body), decision.envelope
            except msgspec.DecodeError as error:  # whole, and not what a router writes
                raise CorruptRecordError(
                    f"{self.path}: decision {self.number}: expected one as a router writes it, found: {error}"
                ) from error
            assert decision.number == self.number, (decision.number, self.number)
            self.number += 1
            self.refusals += decision.verdict != "accepted"
            worker = f"{body.strategy}.{body.symbol}"
            known = self.cursors.get(worker, WorkerCursor({}))
            self.cursors[worker] = known.after(envelope.generation, envelope.n, known.offset)
            if body.refusal is None:
                position = self.positions.get(worker, Position()).of(envelope.generation)
                accepted = decision.verdict == "accepted"
                self.positions[worker] = position.after(body, accepted=accepted, size=decision.size)


class DecisionReader:
    """Reads decisions in order, from a number on; it begins near that number, wherever it stands in the log."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self._next, offset = _place_before(path, number) if number else (0, START)
        self._reader = LogReader(path, offset)
        self._from = number

    @property
    def number(self) -> int:
        """How many decisions of the log have been passed."""
        return self._next

    def read(self, *, below: int | None = None, accepted: bool = False) -> list[Decision]:
        """The next decisions there are, about a quarter of a megabyte of them; `below` limits it to an offset in the log. With
        `accepted` what is not is passed with a look at its verdict alone, however much of it there is."""
        found: list[Decision] = []
        if below is not None and self._reader.offset >= below:
            return found
        while not found:
            before = self._reader.offset
            for offset, payload in self._reader.read(READ_BYTES):
                if self._next >= self._from and (not accepted or _decode_head(payload).verdict == "accepted"):
                    found.append(decode_decision(payload))
                self._next += 1
                if below is not None and offset >= below:
                    return found
            if self._reader.offset == before:
                break
        return found

    def close(self) -> None:
        self._reader.close()


def decision_log(folder: Path) -> Path:
    return folder / "decisions.log"


def read_decisions(path: Path) -> Iterator[Decision]:
    """Each decision that a log has now, in order."""
    for _, payload in read_frames(path):
        yield decode_decision(payload)


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of a decision."""

    number: int
    signal_id: str
    verdict: Verdict


_decode_head = msgspec.msgpack.Decoder(_Head).decode


def _place_before(path: Path, number: int) -> tuple[int, int]:
    """(number, offset) of a decision at or shortly before `number`: each one says its number, so the log is its own index."""
    try:
        end = path.stat().st_size
    except FileNotFoundError:
        return 0, START
    place = (0, START)
    while end - place[1] > SEARCH_BYTES:
        middle = (place[1] + end) // 2
        found = frame_behind(path, middle)
        found_number = _decode_head(found[1]).number if found else number + 1
        if found and found[0] < end and found_number <= number:
            place = (found_number, found[0])
        else:
            end = middle
    return place


def cut_lost_decisions(folder: Path) -> None:
    """What opening the journal does with the end that a power cut left, for who reads decisions before. Raises StateError,
    OSError."""
    path = decision_log(folder)
    if path.exists():
        AppendLog(path, whole_to=_read_note(folder / "note").offset, unsynced=_are_one_append).close()


def _are_one_append(behind: Iterator[bytes]) -> bool:
    """Each append is synced before the next, and all of one were decided at one moment."""
    return len({decode_decision(payload).decided_ns for payload in behind}) == 1


def _read_note(path: Path) -> Note:
    """An empty note, which costs a whole scan, for one that is missing or damaged."""
    try:
        payload = read_note(path)
        note = msgspec.msgpack.decode(payload, type=Note) if payload else Note()
    except msgspec.DecodeError:
        return Note()
    if note.boot == this_boot():
        return note
    unread = {worker: msgspec.structs.replace(cursor, offset=START) for worker, cursor in note.workers.items()}
    return msgspec.structs.replace(note, workers=unread)
