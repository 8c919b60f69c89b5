"""What `explain` says of signals that the router expired, and of a worker that it cut off."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from router.desk import CLIENT, body_of
from worker.build import START_NS

from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyError, UsageError
from strategy_runner.model.decision import Decision
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.model.stream import Stream
from strategy_runner.router.cut_off import write_cut_off
from strategy_runner.router.journal import Journal
from strategy_runner.supervision.story import tell
from strategy_runner.supervision.worker_story import tell_worker
from strategy_runner.tape import files
from strategy_runner.tape.status import State, StatusFile
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.parking import Trouble, write_trouble


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    yield Home(tmp_path)


def test_an_expired_signal_is_explained_with_its_age_and_the_limit(home: Home) -> None:
    body = body_of("talk.X", 0)
    envelope = Envelope(n=0, seq=-1, epoch=0, mode="mock", received_ns=1, recorded_ns=START_NS, generation="0badcafe")
    late = Decision(0, body.id, "expired", "late", START_NS, envelope, canonical(body), 75_250_000_000, 60_000_000_000)
    fine = msgspec.structs.replace(late, number=1, signal_id="x", verdict="accepted", reason="", age_ns=0, limit_ns=0)
    journal = Journal(home.router(CLIENT, "mock"))
    journal.append([late, fine], {})
    ruled = dict(tell(home, body.id, "mock").chapters)["decision"]
    assert ruled[0].startswith("expired: late: older than the strategy's `time_to_live_s`")
    assert ruled[1] == "75.250 s old, 60 s allowed"


def test_a_signal_whose_record_retention_took_with_its_index_is_explained_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "INDEX_ENTRIES", 64)
    tape = TapeWriter(home.market("mock") / "tape", segment_records=64)
    trade = tape.stream_id(Stream.parse("X/trade"))
    for number in range(200):
        tape.append(trade, START_NS + number, 100.0, 1.0, 1.0, 0.0, 0.0)
    tape.publish()
    tape.make_durable()
    assert tape.remove_before(128) == 2
    bodies = [body_of("talk.X", n) for n in (0, 150)]
    envelope = Envelope(n=0, seq=0, epoch=1, mode="mock", received_ns=1, recorded_ns=START_NS, generation="0badcafe")
    decided = [
        Decision(number, body.id, "accepted", "", START_NS, envelope, canonical(body), 1, 0)
        for number, body in enumerate(bodies)
    ]
    Journal(home.router(CLIENT, "mock")).append(decided, {})
    old, new = (dict(tell(home, body.id, "mock").chapters)["record"] for body in bodies)
    assert old[1] == "no longer kept (the tape begins at seq 128)"
    assert new[1].startswith("seq 150, epoch 1,")


def test_a_worker_that_is_cut_off_is_explained_and_so_is_a_signal_of_it_that_nobody_decided(home: Home) -> None:
    folder, key = home.router(CLIENT, "mock"), WorkerKey(CLIENT, "talk", "X")
    Journal(folder).close()
    StatusFile(home.worker(key, "mock") / "status").write()
    write_cut_off(folder, {key.folder: "expected signal 0badcafe/1, found 0badcafe/5"})
    with pytest.raises(UsageError, match="its worker is cut off by the router: expected signal 0badcafe/1, found"):
        tell(home, f"{key.name}@0badcafe/5", "mock")
    told = dict(tell_worker(home, key, "mock").chapters)["cut off"]
    assert told == ["the router decides none of its signals: expected signal 0badcafe/1, found 0badcafe/5"]


def test_a_worker_that_failed_is_explained_with_its_error_and_the_ways_out(home: Home) -> None:
    key = WorkerKey(CLIENT, "talk", "X")
    StatusFile(home.worker(key, "mock") / "status").fail(StrategyError("on_start: AttributeError: missing"))
    told = dict(tell_worker(home, key, "mock").chapters)
    assert told["error"] == ["on_start: AttributeError: missing"]
    assert told["worker"][0].startswith("failed since ") and "never" not in told["worker"][0]
    assert told["way out"][0] == f"strategy-runner start {key.name}: it tries again"


@pytest.mark.parametrize("is_failed", [False, True], ids=["runs", "failed"])
def test_what_was_parked_with_other_code_is_told_as_past(home: Home, is_failed: bool) -> None:
    key = WorkerKey(CLIENT, "talk", "X")
    folder = home.worker(key, "mock")
    page = StatusFile(folder / "status")
    write_trouble(folder, Trouble(generation="0badcafe", seq=7, tries=3, ends_ns=(1,), parked_ns=1, why="3 tries"))
    page.enter(State.PARKED)
    told = dict(tell_worker(home, key, "mock").chapters)
    assert told["worker"][1] == "parked at seq 7: 3 tries" and "way out" in told
    if is_failed:
        page.fail(StrategyError("the new code fails"))
    else:
        page.enter(State.FOLLOWING)
    told = dict(tell_worker(home, key, "mock").chapters)
    if is_failed:
        assert told["error"] == ["the new code fails"]
        assert "parked" not in str(told)
    else:
        assert told["worker"][1] == "parked before, as generation 0badcafe, at seq 7: 3 tries"
        assert "way out" not in told
