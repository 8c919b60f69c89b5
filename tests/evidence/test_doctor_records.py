"""doctor on what people asked and what risk went by: each kind of damage is told with file, place and what to do."""

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from evidence.recorded_run import flip
from router.test_audit import Client

from strategy_runner.monitor.checks_records import check_records
from strategy_runner.monitor.finding import Finding
from strategy_runner.monitor.frames import Frames
from strategy_runner.risk import events
from strategy_runner.router.audit import AuditTrail
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.tape.logs import START, AppendLog
from strategy_runner.worker.skips import Skip, note_skip

LOGS = ("operator.log", "router/breakers.log", "router/risk.log", "workers/talk.X/skips.log", "audit.log")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("state")
    client = Client(state)
    client.decide(3)
    for number in range(3):
        client.act()
        client.trip()
        skip = Skip(generation="0badcafe", seq=number, stream="X/trade", ordinal=number, reason="a test", at_ns=1)
        (state / "workers" / "talk.X").mkdir(parents=True, exist_ok=True)
        note_skip(state / "workers" / "talk.X", skip)
    risk = RiskRecord(state / "router", "acme", "mock")
    for number in range(3):
        risk.take(events.Marked(at_ns=number, symbol="X", price=Decimal(100 + number)))
        risk.keep()
    risk.close()
    trail = AuditTrail(state)
    while trail.follow():
        pass
    trail.close()
    return state


@pytest.fixture
def state(recorded: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(recorded, tmp_path / "copy")
    yield tmp_path / "copy"


def told(state: Path) -> list[tuple[str, str]]:
    """(level, subject below the folder) of what is not well."""
    return [(one.level, str(Path(one.subject).relative_to(state))) for one in findings(state) if one.level != "ok"]


def findings(state: Path) -> list[Finding]:
    return check_records(state, router_runs=False)


def test_what_is_whole_is_well(state: Path) -> None:
    assert told(state) == []
    [audit] = findings(state)
    assert audit.found.startswith("9 entries whole, head ")


@pytest.mark.parametrize("log", LOGS)
def test_a_flipped_bit_of_any_of_them_is_named_with_its_file_and_offset(state: Path, log: str) -> None:
    flip(state / log, START + 8 + 3)
    found = [one for one in findings(state) if one.level == "error" and one.subject == str(state / log)]
    assert found and f"offset {START}" in found[0].found and found[0].advice


@pytest.mark.parametrize("log", LOGS[:2])
def test_whole_frames_in_a_wrong_order_are_named(state: Path, log: str) -> None:
    path = state / log
    frames = [payload for _, payload in Frames(path)]
    path.unlink()
    rewritten = AppendLog(path)
    # the first of each is what may not come last: number 1, a breaker that closes unopened
    if log == "router/breakers.log":
        change = msgspec.msgpack.decode(frames[0])
        frames = [msgspec.msgpack.encode({**change, "opened": False})]
    else:
        frames = [*frames[1:], frames[0]]
    rewritten.append_many(frames)
    rewritten.close()
    assert ("error", log) in told(state)


def test_a_risk_log_that_counts_back_is_well(state: Path) -> None:
    """As it does behind a power cut that took the end of the order journal, which it had counted."""
    path = state / "router" / "risk.log"
    frames = [payload for _, payload in Frames(path)]
    path.unlink()
    rewritten = AppendLog(path)
    rewritten.append_many([msgspec.msgpack.encode({**msgspec.msgpack.decode(frames[0]), "orders": 5}), *frames])
    rewritten.close()
    assert told(state) == []


def test_an_action_that_nobody_copied_yet_is_no_error_and_a_source_that_was_changed_is(state: Path) -> None:
    Client(state).decide()
    assert told(state) == [("warning", "audit.log")]
    (state / "operator.log").unlink()
    assert told(state) == [("error", "audit.log")]
    assert check_records(state, router_runs=True)[0].level == "error"


def test_a_log_that_was_never_synced_and_is_garbage_is_no_damage(state: Path) -> None:
    path = state / "workers" / "talk.X" / "skips.log"
    path.write_bytes(b"\x07" * 40)
    assert told(state) == [("warning", "workers/talk.X/skips.log")]
