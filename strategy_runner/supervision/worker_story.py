"""The story of a worker that ended uncleanly: at which record, how often, with what error, and what a person can do."""

from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.config.times import moment
from strategy_runner.errors import UsageError
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.stream import Stream
from strategy_runner.router.cut_off import read_cut_off
from strategy_runner.supervision.story import Story, on_tape, said, tape_of
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, Status, read_status
from strategy_runner.worker.parking import TRIES, Trouble, latest_trouble
from strategy_runner.worker.skips import read_skips

ENDS_SHOWN = 5


def tell_worker(home: Home, key: WorkerKey, mode: str) -> Story:
    """Why a worker is parked, or what is held against it so far. Raises UsageError if it never ran in this mode."""
    folder = home.worker(key, mode)
    status = read_status(folder / "status")
    if status is None:
        raise UsageError(f"{key.name}: expected a worker of the {mode} run of {key.client}, found none")
    trouble = latest_trouble(folder)
    cut_off = read_cut_off(home.router(key.client, mode)).get(key.folder)
    trust = [("cut off", [f"the router decides none of its signals: {cut_off}"])] if cut_off else []
    if status.state is State.FAILED and (trouble is None or _is_past(status, trouble)):
        chapters = [("worker", [_state(status)]), *trust, ("error", status.last_error.splitlines())]
        return Story(key.name, [*chapters, ("way out", _way_out_of_failure(key))])
    if trouble is None:
        return Story(key.name, [("worker", [f"{_state(status)}; it never ended uncleanly"]), *trust])
    chapters = [("worker", _worker(status, trouble)), *trust]
    if trouble.seq >= 0:
        chapters.append(("record", _record(tape_of(home, mode), trouble)))
    if trouble.ends_ns:
        chapters.append(("ends", _ends(trouble)))
        chapters.append(("error", trouble.error.splitlines()))
    skipped = _skipped(folder, trouble.generation)
    if skipped:
        chapters.append(("skipped", skipped))
    if trouble.is_parked and not _is_past(status, trouble):
        chapters.append(("way out", _way_out(key, trouble)))
    return Story(key.name, chapters)


def _worker(status: Status, trouble: Trouble) -> list[str]:
    if _is_past(status, trouble):
        return [
            _state(status),
            f"parked before, as generation {trouble.generation}, at {trouble.record}: {trouble.why}",
        ]
    lines = [f"{_state(status)}, generation {trouble.generation}"]
    if trouble.is_parked:
        lines.append(
            f"parked at {trouble.record}: {trouble.why}" if trouble.is_at_a_record else f"parked: {trouble.why}"
        )
    elif trouble.tries:
        lines.append(f"ended at {trouble.record}, {trouble.tries} of {TRIES} tries")
    if trouble.resumed_ns:
        lines.append(f"resumed {moment(trouble.resumed_ns)}{_because(trouble.resumed_why)}")
    return lines


def _is_past(status: Status, trouble: Trouble) -> bool:
    """What is parked and yet was followed by a life of its own is another generation's."""
    return trouble.is_parked and status.state not in (State.PARKED, State.STARTING)


def _state(status: Status) -> str:
    return f"{status.state.name.lower().replace('_', ' ')} since {moment(status.since_ns)}"


def _record(tape: TapeReader | None, trouble: Trouble) -> list[str]:
    if not trouble.stream or tape is None:
        return [trouble.record]
    stream = Stream.parse(trouble.stream)
    where = on_tape(tape, stream, trouble.ordinal)
    if trouble.seq < tape.head.first:
        return [trouble.record, where]
    record = tape.record(trouble.seq)
    shown = said(stream.kind, (record.v0, record.v1, record.v2, record.v3, record.v4))
    return [f"{trouble.stream} ordinal {trouble.ordinal}, {moment(record.event_ns)}: {shown}", where]


def _ends(trouble: Trouble) -> list[str]:
    newest = trouble.ends_ns[-ENDS_SHOWN:]
    before = len(trouble.ends_ns) - len(newest)
    return [*([f"{before} before these"] if before else []), *(f"last beat {moment(end_ns)}" for end_ns in newest)]


def _skipped(folder: Path, generation: str) -> list[str]:
    return [
        f"{one.stream} ordinal {one.ordinal}, seq {one.seq}, since {moment(one.at_ns)}{_because(one.reason)}"
        for one in read_skips(folder, generation)
    ]


def _way_out(key: WorkerKey, trouble: Trouble) -> list[str]:
    lines = [f"strategy-runner resume {key.name}: it tries again, from its last snapshot"]
    if trouble.is_at_a_record:
        lines.append(f"strategy-runner resume {key.name} --skip: the same, and it is never given this record again")
    lines.append(
        "with other code or parameters it begins anew, without these troubles: edit, then strategy-runner apply"
    )
    return lines


def _way_out_of_failure(key: WorkerKey) -> list[str]:
    return [
        f"strategy-runner start {key.name}: it tries again",
        "with other code or parameters: edit, then strategy-runner apply",
    ]


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
