"""The status file: one memory-mapped page in which a process says how it is.

The CLI, the watchdog and the metrics read these pages; no worker serves anything. One writer; a reader may see a text
half replaced for an instant, numbers are whole. Two words behind the page's numbers and texts are stored by themselves,
each with one aligned 8-byte store: the record that is being applied, which must stand there when its process is killed,
and the descent, by which a later life knows whether this one's end says something about itself.
"""

import mmap
import os
import struct
from enum import IntEnum
from pathlib import Path
from time import time_ns  # bound here: once the determinism guard watches, `time.time_ns` asks who is calling

import msgspec

from strategy_runner.errors import StrategyRunnerError, naming
from strategy_runner.small_files import open_made, read_whole

_HEAD, _NUMBERS, _TEXTS = struct.Struct("<4sIII"), struct.Struct("<13q"), struct.Struct("<64s128s384s")
_SIGNAL = struct.Struct("<128s")  # the second text
_NUMBERS_END = _HEAD.size + _NUMBERS.size
_SIZE_USED = _NUMBERS_END + _TEXTS.size
_REST, _REST_AT = struct.Struct("<512s"), 1024  # of a reason that has more than 64 bytes
_REASON_BYTES = 64
_ROOM = (_REASON_BYTES + _REST.size, _SIGNAL.size, 384)
_SIGNAL_AT = slice(_NUMBERS_END + _REASON_BYTES, _NUMBERS_END + _REASON_BYTES + _SIGNAL.size)
_MORE = " ..."
_MAGIC = b"SRST"
_SIZE = 4096
# the page's words that others keep an eye on: state and, in the upper half, pid; the next seq; the beat
STATE_AND_PID, POSITION, BEAT = 1, 2, 4
APPLYING = _SIZE_USED // 8
_DESCENT = APPLYING + 1
_KEPT = _DESCENT + 1  # the complement of `snapshot_seq`; 0 is none
_WORDS = struct.Struct("<3Q")
_ONES = (1 << 64) - 1
UNFORESEEN = "unforeseen"
assert _SIZE_USED % 8 == 0


class State(IntEnum):
    """How far a process is in its life. `following` is ready."""

    STARTING = 0
    CATCHING_UP = 1
    FOLLOWING = 2
    FINISHED = 3
    STOPPED = 4
    FAILED = 5
    HALTED = 6
    PARKED = 7


_STATES = frozenset(State)


class Status(msgspec.Struct, kw_only=True):
    """What is on the page. Times are wall clock; `position` is the next seq (feed: count, router: next decision);
    `started_ns` is when the process began. `applying` is 0, or 1 + the seq of the record that the strategy has in hand;
    `descent` stands for what it ran and under whom (worker/parking.py). These two are set through StatusFile alone."""

    state: State = State.STARTING
    pid: int = 0
    position: int = 0
    snapshot_seq: int = 0
    beat_ns: int = 0
    since_ns: int = 0
    records: int = 0
    signals: int = 0
    refusals: int = 0
    lag_ns: int = 0
    last_signal_ns: int = 0
    event_ns: int = 0
    progress: int = 0
    total: int = 0
    started_ns: int = 0
    applying: int = 0
    descent: int = 0
    reason: str = ""
    last_signal: str = ""
    last_error: str = ""


class StatusFile:
    """The writer's side. `status` is changed in place and shown by `write`.

    `words` are the page's 8-byte words. A loop that stores `words[APPLYING] = seq + 1` for each record pays 40 ns for it
    and not a page; what an earlier process left there stays until `applying` is set.
    """

    def __init__(self, path: Path) -> None:
        fd = open_made(path, os.O_RDWR, 0o640)
        try:
            with naming(path):
                os.posix_fallocate(fd, 0, _SIZE)
                self._page = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self.words = memoryview(self._page).cast("Q")
        self.status = Status(pid=os.getpid(), since_ns=time_ns(), started_ns=time_ns())
        self._shown: tuple[str, str, str] | None = None  # the texts that stand on the page

    @property
    def applying(self) -> int:
        """0, or 1 + the seq of the record that the strategy has in hand."""
        return self.words[APPLYING]

    @applying.setter
    def applying(self, value: int) -> None:
        self.words[APPLYING] = value

    @property
    def descent(self) -> int:
        """What this process runs and under whom, as one number."""
        return self.words[_DESCENT]

    @descent.setter
    def descent(self, value: int) -> None:
        self.words[_DESCENT] = value

    def enter(self, state: State, reason: str = "") -> None:
        """Changes the state, with the time of the change."""
        self.status.state, self.status.reason, self.status.since_ns = state, reason, time_ns()
        self.write()

    def fail(self, error: Exception) -> None:
        """The end by a fault: the reason is its kind, `last_error` what it says. One that nobody foresaw says little without its
        type, and is of one kind whatever that is."""
        name, foreseen = type(error).__name__, isinstance(error, StrategyRunnerError | OSError)
        self.status.last_error = str(error) if foreseen else f"{name}: {error}"
        self.enter(State.FAILED, name if foreseen else UNFORESEEN)

    def beat(self) -> None:
        """Still there, and nothing else to say."""
        self.status.beat_ns = self.words[BEAT] = time_ns()

    def advance(self, records: int, position: int, received_ns: int, event_ns: int) -> None:
        """So many records more, which change nothing but these numbers: as `write`, in a part of the time."""
        s, now_ns = self.status, time_ns()
        s.position = s.progress = s.total = position
        s.beat_ns, s.event_ns, s.lag_ns = now_ns, event_ns, now_ns - received_ns if now_ns > received_ns else 0
        s.records += records
        # in one go, as `write`: whoever looks in between would find records counted and its place not moved
        self._page[_HEAD.size : _NUMBERS_END] = self._numbers()
        self.words[APPLYING] = 0

    def show_signal(self, last_signal: str) -> None:
        """Before an `advance` that tells of it. To be called once the page has been written."""
        assert self._shown is not None, "an older process's texts stand there"
        reason, _, last_error = self._shown
        self.status.last_signal = last_signal
        self._page[_SIGNAL_AT] = _SIGNAL.pack(_fitted(last_signal, _SIGNAL.size))
        self._shown = reason, last_signal, last_error

    def write(self) -> None:
        """Texts are written where one has changed, and before the numbers: whoever sees a new state finds its reason."""
        s = self.status
        s.beat_ns = time_ns()
        texts = s.reason, s.last_signal, s.last_error
        if texts != self._shown:
            reason, *others = map(_fitted, texts, _ROOM)
            self._page[_NUMBERS_END:_SIZE_USED] = _TEXTS.pack(reason, *others)
            self._page[_REST_AT : _REST_AT + _REST.size] = _REST.pack(reason[_REASON_BYTES:])
            self._shown = texts
        # not pack_into: it clears the page before it packs, and a reader would find zeros
        self._page[:_NUMBERS_END] = _HEAD.pack(_MAGIC, 1, s.state, s.pid) + self._numbers()
        self.words[_KEPT] = s.snapshot_seq ^ _ONES

    def _numbers(self) -> bytes:
        s = self.status
        return _NUMBERS.pack(
            s.position,
            s.snapshot_seq,
            s.beat_ns,
            s.since_ns,
            s.records,
            s.signals,
            s.refusals,
            s.lag_ns,
            s.last_signal_ns,
            s.event_ns,
            s.progress,
            s.total,
            s.started_ns,
        )


def _fitted(text: str, room: int) -> bytes:
    """As much of a text as there is room for: half of a word, or of a number, would say something else."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= room:
        return raw
    kept = raw[: room - len(_MORE)].decode(errors="ignore")
    whole = kept.rpartition(" ")[0]
    return ((whole if len(whole) > len(kept) // 2 else kept) + _MORE).encode()


def read_status(path: Path) -> Status | None:
    """What the page says, or None if there is none, or one that no process has written like that.

    `snapshot_seq` stands there twice, and the lower one counts: what a stopped process would go on from is not removed for one
    flipped bit.
    """
    try:
        raw = read_whole(path)
    except OSError:  # a folder under its name is its own process's trouble, and nobody else's
        return None
    if len(raw) < _SIZE or raw[:4] != _MAGIC:
        return None
    _, _, state, pid = _HEAD.unpack_from(raw)
    if state not in _STATES:
        return None
    numbers = _NUMBERS.unpack_from(raw, _HEAD.size)
    reason, *others = _TEXTS.unpack_from(raw, _NUMBERS_END)
    if reason[-1]:
        reason += _REST.unpack_from(raw, _REST_AT)[0]
    texts = [text.rstrip(b"\0").decode(errors="replace") for text in (reason, *others)]
    names = Status.__struct_fields__[2:15]
    applying, descent, kept = _WORDS.unpack_from(raw, 8 * APPLYING)
    said = dict(zip(names, numbers, strict=True))
    if kept:
        said["snapshot_seq"] = min(said["snapshot_seq"], kept ^ _ONES)
    return Status(
        state=State(state),
        pid=pid,
        applying=applying,
        descent=descent,
        reason=texts[0],
        last_signal=texts[1],
        last_error=texts[2],
        **said,
    )
