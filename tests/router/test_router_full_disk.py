"""A full disk: the router holds what it has not decided and goes on by itself; a failed sync ends it at once."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from router.desk import CLIENT, Desk, KeepingSink, Talker, decisions_in
from worker.build import short_folder
from worker.processes import await_that

from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.router import Router
from strategy_runner.sinks.dead_letters import DeadLetterLog
from strategy_runner.sinks.interface import DeadLetter, SinkUnavailable
from strategy_runner.tape.logs import LogReader

SIGNALS = 40
SPARE_BYTES = 10_000


@pytest.fixture
def root() -> Iterator[Path]:
    """The router's folder alone lies on a disk of 1 MB; the workers' logs lie elsewhere."""
    with short_folder() as path:
        disk = path / "router"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
        yield path
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def desk(root: Path) -> Iterator[Desk]:
    made = Desk(root)
    yield made
    made.close()


def fill_disk(root: Path, *, spare_bytes: int = 0) -> Path:
    """Takes all space of the router's disk but for about `spare_bytes`."""
    ballast = root / "router" / "ballast"
    free = os.statvfs(root / "router")
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - spare_bytes)
    return ballast


def try_at_once(router: Router) -> int:
    router._next_try = router._next_look = 0.0
    return router.turn()


@pytest.mark.parametrize("spare_bytes", [0, SPARE_BYTES], ids=["no space", "space for a part"])
def test_what_a_full_disk_does_not_take_is_held_and_decided_once_when_there_is_space(
    root: Path, desk: Desk, spare_bytes: int
) -> None:
    talker, sink = Talker(root), KeepingSink()
    desk.restart(Delivery("keeping", sink.open, decision_log(root / "router"), pause_s=0.0))
    said = [talker.say()]
    desk.decide()
    await_that(lambda: len(sink.kept) == 1, "the first decision")
    ballast = fill_disk(root, spare_bytes=spare_bytes)
    said += [talker.say() for _ in range(SIGNALS)]
    for _ in range(3):
        assert try_at_once(desk.router) == 0
        assert "cannot write decisions: No space left on device" in desk.status.last_error
        assert "cannot write decisions" in desk.status.reason
    assert [decision.signal_id for decision in desk.decisions()] == said[:1]
    assert (len(sink.kept), desk.status.signals) == (1, 1)
    ballast.unlink()
    said.append(talker.say())
    try_at_once(desk.router)
    assert desk.decide() == said
    assert desk.status.last_error == desk.status.reason == ""
    await_that(lambda: len(sink.kept) == len(said), "all decisions in the sink")
    desk.router.stop()
    assert [decision.signal_id for decision in sink.kept] == said


def test_a_router_stopped_or_killed_on_a_full_disk_loses_and_doubles_nothing(root: Path, desk: Desk) -> None:
    talker = Talker(root)
    said = [talker.say()]
    desk.decide()
    for end in ("stopped", "killed"):
        ballast = fill_disk(root, spare_bytes=4_096)  # which a note would fit into
        said += [talker.say() for _ in range(SIGNALS)]
        assert try_at_once(desk.router) == 0
        if end == "stopped":
            desk.router.stop()
        ballast.unlink()
        desk.restart()
        assert desk.decide() == said


def test_between_two_tries_the_router_does_nothing(root: Path, desk: Desk) -> None:
    talker = Talker(root)
    desk.decide()
    ballast = fill_disk(root)
    for _ in range(SIGNALS):
        talker.say()
    assert try_at_once(desk.router) == 0
    ballast.unlink()
    desk.router._next_try = float("inf")
    assert desk.router.turn() == 0
    assert try_at_once(desk.router) == SIGNALS


def test_a_note_that_a_full_disk_does_not_take_ends_nothing(root: Path, desk: Desk) -> None:
    talker = Talker(root)
    said = [talker.say()]
    desk.decide()
    fill_disk(root)
    desk.router.stop()
    assert not (root / "router" / "note").exists()
    desk.restart()
    assert desk.decide() == said


def test_a_drain_waits_for_space(root: Path, desk: Desk) -> None:
    talker = Talker(root)
    ballast = fill_disk(root)
    said = [talker.say() for _ in range(SIGNALS)]
    looks = iter([False, True])

    def frees_space() -> bool:
        stop = next(looks)
        if not stop:
            ballast.unlink()
        return stop

    assert desk.router.drain(frees_space) == len(said)
    assert [decision.signal_id for decision in decisions_in(root)] == said


def test_dead_letters_that_a_full_disk_does_not_take_make_the_sink_wait(root: Path, desk: Desk) -> None:
    desk.decide()
    path = root / "router" / "dead_letters.log"
    letters = DeadLetterLog(path)
    ballast = fill_disk(root)
    letter = DeadLetter(sink="duckdb", number=0, signal_id=f"{CLIENT}:talk.X@0/0", problem="p" * 5_000)
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="cannot keep a dead letter"):
            letters(letter)
    ballast.unlink()
    letters(letter)
    assert len(list(LogReader(path).read())) == 1


def test_a_failed_sync_is_never_tried_again(root: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system here fails a sync on demand, so the system call itself is made to."""
    talker, tries = Talker(root), 0
    desk.decide()

    def fails(fd: int) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    talker.say()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            try_at_once(desk.router)
    assert tries == 1
    assert desk.status.signals == 0, "no sink and nobody else was told of the decision"
