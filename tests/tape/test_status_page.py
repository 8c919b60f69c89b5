"""The status page: what a process says of itself is what another one reads."""

import multiprocessing
import os
import time
from pathlib import Path

import msgspec
import pytest

from strategy_runner.errors import StateError
from strategy_runner.tape.status import APPLYING, State, Status, StatusFile, read_status


def test_every_field_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "worker" / "status")
    numbers = [name for name in Status.__struct_fields__ if isinstance(getattr(file.status, name), int)]
    numbers = [name for name in numbers if name not in ("applying", "descent")]
    for value, name in enumerate(numbers, start=1_000_000_000_000):
        setattr(file.status, name, value)
    file.status.state, file.status.pid = State.CATCHING_UP, os.getpid()
    file.status.reason, file.status.last_signal, file.status.last_error = "to seq 7", "a:b.c@0/1", "none"
    before = time.time_ns()
    file.write()
    found = read_status(tmp_path / "worker" / "status")
    assert found is not None
    assert msgspec.structs.replace(found, beat_ns=0) == msgspec.structs.replace(file.status, beat_ns=0)
    assert before <= found.beat_ns <= time.time_ns()


def test_a_page_that_advances_by_a_record_shows_what_it_would_if_it_were_written_anew(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status")
    file.status.records, file.status.signals, file.status.last_error = 7, 3, "none"
    file.enter(State.FOLLOWING, "as it was")
    file.applying = 9
    file.status.signals = 4
    file.show_signal("the fourth")
    file.advance(1, 9, time.time_ns() - 5_000, 77)
    advanced = read_status(tmp_path / "status")
    assert advanced is not None
    assert (advanced.position, advanced.records, advanced.event_ns, advanced.applying) == (9, 8, 77, 0)
    assert (advanced.signals, advanced.last_signal, advanced.last_error) == (4, "the fourth", "none")
    assert 5_000 <= advanced.lag_ns < 60e9
    assert advanced.beat_ns >= advanced.since_ns
    file.write()
    written = read_status(tmp_path / "status")
    assert written is not None
    assert msgspec.structs.replace(written, beat_ns=0) == msgspec.structs.replace(advanced, beat_ns=0)


def test_a_reason_is_read_to_its_end_where_the_cause_stands(tmp_path: Path) -> None:
    """Of a sink that could not write only the path was shown."""
    file = StatusFile(tmp_path / "status")
    for reason in (
        "sink duckdb: /var/lib/strategy-runner/var/clients/ikenna/mock/signals.duckdb: cannot write: No space left",
        "f\u00fcr " * 40,
        "down",
        "",
    ):
        file.enter(State.FOLLOWING, reason)
        found = read_status(tmp_path / "status")
        assert found is not None
        assert (found.reason, found.last_signal, found.last_error) == (reason, "", "")


def test_record_at_hand_and_descent_stand_apart_and_outlive_whatever_else_is_written(tmp_path: Path) -> None:
    first = StatusFile(tmp_path / "status")
    first.words[APPLYING], first.descent = 2**40, 2**64 - 1
    first.status.applying = first.status.descent = 5
    second = StatusFile(tmp_path / "status")
    second.status.last_error = "x" * 400
    second.enter(State.FOLLOWING, "y" * 800)
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.applying, found.descent, found.reason) == (2**40, 2**64 - 1, "y" * 572 + " ...")
    assert (second.applying, second.descent) == (2**40, 2**64 - 1)
    second.applying = 0
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.applying, found.descent) == (0, 2**64 - 1)


def test_a_page_that_is_written_all_the_time_is_never_found_cleared(tmp_path: Path) -> None:
    path = tmp_path / "status"
    writer = multiprocessing.get_context("spawn").Process(target=_write_on, args=(path,), daemon=True)
    writer.start()
    try:
        deadline = time.monotonic() + 30.0
        while (first := read_status(path)) is None or first.position != 7:
            assert time.monotonic() < deadline, "no page was written"
        found = [read_status(path) for _ in range(2_000)]
        last = read_status(path)
    finally:
        writer.kill()
        writer.join()
    assert last is not None
    assert last.beat_ns > first.beat_ns, "the writer wrote on meanwhile"
    assert [page for page in found if page is None or page.position != 7 or not page.pid or not page.beat_ns] == []


def _write_on(path: Path) -> None:
    file = StatusFile(path)
    file.status.position = 7
    while True:
        file.write()


@pytest.mark.parametrize("state", list(State))
def test_a_change_of_state_says_when_and_why(tmp_path: Path, state: State) -> None:
    file = StatusFile(tmp_path / "status")
    before = time.time_ns()
    file.enter(state, "because")
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.state, found.reason, found.pid) == (state, "because", os.getpid())
    assert found.started_ns <= before <= found.since_ns <= found.beat_ns


@pytest.mark.parametrize(
    ("error", "reason", "told"),
    [
        (StateError("state.json: expected a state"), "StateError", "state.json: expected a state"),
        (OSError(28, "No space left"), "OSError", "[Errno 28] No space left"),
        (KeyError("X"), "unforeseen", "KeyError: 'X'"),
        (AssertionError(), "unforeseen", "AssertionError: "),
        (StateError("found \ud800"), "StateError", "found \\ud800"),
    ],
)
def test_an_end_by_a_fault_says_what_it_was(tmp_path: Path, error: Exception, reason: str, told: str) -> None:
    StatusFile(tmp_path / "status").fail(error)
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.state, found.reason, found.last_error) == (State.FAILED, reason, told)


def test_a_long_text_is_cut_and_never_spoils_the_page(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status")
    file.status.position = 9
    file.status.last_error = "é" * 1_000
    file.enter(State.FAILED, "x" * 1_000)
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.reason, found.last_error, found.position) == ("x" * 572 + " ...", "é" * 190 + " ...", 9)
    words = "not reconciled: BTC-USD position binance cross: expected 0.5, found 12345, "
    file.enter(State.FOLLOWING, words * 8)
    found = read_status(tmp_path / "status")
    assert found is not None
    assert found.reason == (words * 8)[:572].rpartition(" ")[0] + " ..."
    file.status.last_error = "short"
    file.enter(State.FOLLOWING)
    found = read_status(tmp_path / "status")
    assert found is not None
    assert (found.reason, found.last_error) == ("", "short")


@pytest.mark.parametrize("content", [None, b"", b"SRST", b"\0" * 4096])
def test_without_a_page_there_is_no_status(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "status").write_bytes(content)
    assert read_status(tmp_path / "status") is None


def test_a_page_with_any_bit_flipped_is_read_or_is_none(tmp_path: Path) -> None:
    """A state that is none raised, in whoever looked: the feed of all clients, and the worker that would have healed it."""
    path = tmp_path / "status"
    file = StatusFile(path)
    file.status.last_error = "none"
    file.enter(State.STOPPED, "by order")
    unread = set()
    for bit in range(64 * (APPLYING + 2)):
        file.words[bit // 64] ^= 1 << bit % 64
        found = read_status(path)
        file.words[bit // 64] ^= 1 << bit % 64
        if found is None:
            unread.add(bit // 8)
        else:
            assert found.state in State
    assert unread == {*range(4), *range(8, 12)}, "magic and state"
