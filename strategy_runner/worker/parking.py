"""Parking: a worker that ends again and again at one record, or too often in short time, is not started any more.

Each life of a worker begins with a look at what the one before left behind: its status page says whether it ended in the
middle of a record, or of `on_start`, and the file of its troubles how often that happened before. So a strategy that raises,
hangs or takes its process down is treated alike, and nobody has to survive to tell. A person lets a parked worker go on, with
the record or without it.

A life that ended together with the daemon above it says nothing against the worker. New code begins without troubles.
"""

import hashlib
import os
import time
from pathlib import Path

import msgspec

from strategy_runner.config.spec import LimitsSpec, WorkerSpec
from strategy_runner.errors import StateError
from strategy_runner.model.stream import Stream
from strategy_runner.small_files import read_whole, replace_file
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import UNFORESEEN, State, Status, StatusFile, read_status
from strategy_runner.worker.snapshot import oldest_seq

TRIES = 3
ENDS_KEPT = 1_000
# the page's reason while the strategy begins
ON_START = "in on_start"
# longer than that, and supervisord takes a process for one that started well: it would never give it up
START_S = 1.0
_FOLLOWED = (State.CATCHING_UP, State.FOLLOWING)
_STRATEGYS = ("StrategyError", UNFORESEEN)  # the reasons of an end by its error
_AT_NONE, _AT_START = -1, -2
_WITHOUT_A_WORD = "the process ended inside {} without a word: it crashed, or it hung and was killed"


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in the lives of one generation of a worker.

    `counted_ns` is the start of the newest life that was counted. `seq` is the record at which it ended (-1: at none, -2: in
    `on_start`), in `tries` lives running; `stream` and `ordinal` name it once it is parked. `ends_ns` are the newest unclean
    ends, `error` is the last word of the newest. `parked_ns` is when it was parked, 0 if it is not, and `why` says for what.
    """

    generation: str
    counted_ns: int = 0
    seq: int = -1
    tries: int = 0
    stream: str = ""
    ordinal: int = -1
    error: str = ""
    ends_ns: tuple[int, ...] = ()
    parked_ns: int = 0
    why: str = ""
    resumed_ns: int = 0
    resumed_why: str = ""

    @property
    def is_parked(self) -> bool:
        return self.parked_ns > 0

    @property
    def is_at_a_record(self) -> bool:
        """Parked for one record, which may be skipped; else for ending too often."""
        return self.seq >= 0 and self.tries >= TRIES

    @property
    def is_nameless(self) -> bool:
        return self.is_parked and self.is_at_a_record and not self.stream

    @property
    def record(self) -> str:
        if self.seq == _AT_START:
            return "on_start"
        return f"seq {self.seq}" + (f" ({self.stream} ordinal {self.ordinal})" if self.stream else "")


def begin_life(spec: WorkerSpec) -> tuple[Trouble, StatusFile]:
    """The status page of a life that begins, and the troubles of those before it. For whoever holds the folder's lock.

    Of a parked worker the page still tells how far it had come. Raises StateError, OSError.
    """
    folder, descent = Path(spec.folder), descent_of(spec.generation)
    left, known = read_status(folder / "status"), read_trouble(folder, spec.generation)
    trouble = after_life(known, left, spec.limits, descent=descent, now_ns=time.time_ns())
    if trouble is not known:
        write_trouble(folder, trouble)  # before the page that it was read from is another one's
    file = StatusFile(folder / "status")
    if trouble.is_parked:
        file.status = _kept(file.status, left or Status(), oldest_seq(folder))
    file.enter(State.STARTING, "waits for the feed")
    file.applying, file.descent = 0, descent
    return trouble, file


def park(spec: WorkerSpec, trouble: Trouble, file: StatusFile) -> None:
    """Names the record, if there is one and it has no name yet, and says on the page that the worker is parked.

    Needs the tape for a name. Raises StrategyRunnerError, OSError.
    """
    if trouble.is_nameless:
        trouble = named(trouble, TapeReader(Path(spec.market.tape)), spec.heard)
        write_trouble(Path(spec.folder), trouble)
    file.status.last_error = long_reason(trouble)
    file.enter(State.PARKED, short_reason(trouble))
    file.status.since_ns = trouble.parked_ns
    file.write()


def after_life(trouble: Trouble, left: Status | None, limits: LimitsSpec, *, descent: int, now_ns: int) -> Trouble:
    """The troubles with those of the life that left this page, each life counted once. The same object if there are none.

    A life of another descent does not count: it ran other code, or under another daemon, whose end may have ended it.
    """
    if left is None or trouble.is_parked or left.started_ns == trouble.counted_ns or left.descent != descent:
        return trouble
    raised, began = strategy_raised(left), _ended_before_the_first(left)
    if left.state not in _FOLLOWED and not raised and not began:
        return trouble
    seq = _AT_START if began else left.applying - 1
    tries = 0 if seq == _AT_NONE else trouble.tries + 1 if seq == trouble.seq else 1
    ends_ns = (*trouble.ends_ns, left.beat_ns)[-ENDS_KEPT:]
    if left.state is State.FAILED:
        error = left.last_error
    else:
        place = "on_start" if began else "the record" if seq >= 0 else ""
        error = _WITHOUT_A_WORD.format(place) if place else "the process ended without a word"
    recent = sum(left.beat_ns - end_ns <= limits.crash_window_s * 1e9 for end_ns in ends_ns)
    why = ""
    if tries >= TRIES:
        why = f"{tries} tries" if seq >= 0 else f"ended {tries} times before its first record"
    elif recent > limits.crash_limit:
        why = f"ended {recent} times within {limits.crash_window_s:g} s, limits.crash_limit is {limits.crash_limit}"
    return msgspec.structs.replace(
        trouble,
        counted_ns=left.started_ns,
        seq=seq,
        tries=tries,
        error=error,
        ends_ns=ends_ns,
        parked_ns=now_ns if why else 0,
        why=why,
    )


def strategy_raised(left: Status | None) -> bool:
    """The life that left this page ended by an error of its strategy's, and not before there was something to read."""
    if left is None:
        return False
    return left.state is State.FAILED and left.reason in _STRATEGYS and bool(left.applying or left.total)


def _ended_before_the_first(left: Status) -> bool:
    """Killed in `on_start`, or raised in it so late that supervisord tries again for ever; what raises at once it gives up."""
    if left.state is State.FAILED:
        has_begun = bool(left.applying or left.total)
        is_late = left.beat_ns - left.started_ns > START_S * 1e9
        return left.reason in _STRATEGYS and not has_begun and is_late
    return left.state is State.STARTING and left.reason == ON_START


def named(trouble: Trouble, reader: TapeReader, streams: tuple[str, ...]) -> Trouble:
    """With stream and ordinal of its record, if the tape has it among these streams."""
    for name in streams:
        stream_id = reader.find(Stream.parse(name))
        if stream_id is None:
            continue
        ordinal = reader.first_ordinal_at(stream_id, trouble.seq)
        if ordinal < reader.entries(stream_id) and reader.seqs(stream_id, ordinal, ordinal + 1)[0] == trouble.seq:
            return msgspec.structs.replace(trouble, stream=name, ordinal=ordinal)
    return trouble


def short_reason(trouble: Trouble) -> str:
    """For the first 64 bytes of the status page's reason."""
    if trouble.seq == _AT_START:
        return trouble.why
    if not trouble.is_at_a_record:
        return f"ended {len(trouble.ends_ns)} times"
    return f"at seq {trouble.seq} {trouble.stream}"[:64]


def long_reason(trouble: Trouble) -> str:
    """For people: where, how often and why."""
    if trouble.is_at_a_record:
        return f"{trouble.record}: {trouble.why}: {trouble.error}"
    return f"{trouble.why}: {trouble.error}"


def resumed(trouble: Trouble, *, reason: str, now_ns: int) -> Trouble:
    """A person lets the worker try again: all is forgotten but that."""
    return Trouble(generation=trouble.generation, counted_ns=trouble.counted_ns, resumed_ns=now_ns, resumed_why=reason)


# -- on disk -----------------------------------------------------------------------------------------------------------


def trouble_path(folder: Path) -> Path:
    return folder / "trouble.json"


def read_trouble(folder: Path, generation: str) -> Trouble:
    """Without any, if the file is not there or tells of another generation. Raises StateError if it is damaged."""
    trouble = latest_trouble(folder)
    if trouble is None or trouble.generation != generation:
        return Trouble(generation=generation)
    return trouble


def latest_trouble(folder: Path) -> Trouble | None:
    """Those of whichever generation had some last; None if none ever had. Raises StateError if the file is damaged."""
    path = trouble_path(folder)
    try:
        return msgspec.json.decode(read_whole(path), type=Trouble)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: expected a worker's troubles, found: {error}; remove it to forget them") from error


def write_trouble(folder: Path, trouble: Trouble) -> None:
    """Whole or not at all, and on the disk. Raises OSError."""
    replace_file(trouble_path(folder), msgspec.json.encode(trouble), synced="content")


def _kept(fresh: Status, left: Status, snapshot_seq: int) -> Status:
    """How far the worker had come, on the page of a life that will not go on from there."""
    return msgspec.structs.replace(
        left,
        pid=fresh.pid,
        started_ns=fresh.started_ns,
        snapshot_seq=snapshot_seq,
        reason="",
        last_error="",
        applying=0,
        descent=0,
    )


def descent_of(generation: str) -> int:
    """A number for this generation under this life of the process above. A process id alone may come again."""
    parent = os.getppid()
    try:
        began = read_whole(Path(f"/proc/{parent}/stat")).rpartition(b")")[2].split()[19]
    except OSError:  # it has just ended, and so will this process
        began = b""
    text = f"{this_boot()} {parent} {began.decode()} {generation}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
