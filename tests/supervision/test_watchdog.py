"""The watchdog: it ends what is silent for too long, says why, and touches nobody else's process."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_home import until
from watch import Watch, cpu_s, is_gone
from worker.processes import is_alive

from strategy_runner.supervision.watchdog import agent
from strategy_runner.supervision.watchdog.watched import Watched
from strategy_runner.tape.status import APPLYING, State, StatusFile, read_status


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path)
    yield watch
    watch.close()


def test_a_process_without_a_beat_is_killed_when_its_time_is_over_and_not_before(watch: Watch) -> None:
    silent = watch.worker("silent", "silent")
    watch.look()
    watch.pass_time(4.9)
    assert is_alive(silent) and watch.deeds() == []
    watch.pass_time(0.6)
    until(lambda: is_gone(silent))
    assert watch.deeds() == [("acme:silent", "killed")]
    [action] = watch.actions()
    assert (action.pid, action.reason) == (silent, "no beat at seq 500 for 5.4 s")
    assert watch.conditions("acme:silent") == {"restarted": action.reason}
    watch.pass_time(20)
    assert len(watch.actions()) == 1, "the dead are not killed again"


def test_a_record_that_hangs_or_spins_is_named_and_a_long_batch_is_left_alone(watch: Watch) -> None:
    hanging, spinning, working = (watch.worker(name, name) for name in ("hang", "spin", "work"))
    watch.look()
    watch.pass_time(3)
    used_s = cpu_s(spinning)
    until(lambda: cpu_s(spinning) > used_s + 1.1)
    for _ in range(6):
        word = applying(watch, "work")
        until(lambda word=word: applying(watch, "work") != word)  # type: ignore[misc]
        watch.pass_time(0.5)
    until(lambda: is_gone(hanging) and is_gone(spinning))
    assert is_alive(working)
    reasons = {action.name: action.reason for action in watch.actions()}
    assert reasons.keys() == {"acme:hang", "acme:spin"}
    assert all(reason.startswith("no progress at seq 812 for ") for reason in reasons.values())


def test_without_the_watchdogs_judgement_nobody_would_end_what_hangs(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "hang_verdict", lambda stat, half, half_s: "waits for the disk")
    silent = watch.worker("silent", "silent")
    watch.look()
    watch.pass_time(60)
    assert is_alive(silent) and watch.deeds() == []


def applying(watch: Watch, name: str) -> int:
    page = read_status(watch.root / name / "status")
    assert page is not None
    return page.applying


def test_a_stopped_process_is_ended_and_its_neighbour_that_beats_is_not(watch: Watch) -> None:
    stopped, beating = watch.worker("stopped", "beat"), watch.worker("beating", "beat")
    watch.look()
    os.kill(stopped, signal.SIGSTOP)
    watch.pass_time_with_beats(6.5, "beating")
    until(lambda: is_gone(stopped))
    assert is_alive(beating)
    [action] = watch.actions()
    assert action.name == "acme:stopped" and action.reason.startswith("stopped by a signal at seq 500 for 5.")


def test_a_process_that_is_short_of_cpu_is_not_taken_for_one_that_spins(watch: Watch) -> None:
    """The clock of the test runs, the process hardly: as on a host with a thousand runnable ones."""
    spinning = watch.worker("spin", "spin")
    watch.look()
    watch.pass_time(5.5)  # in no time at all: it cannot have used a tenth of that
    assert is_alive(spinning) and watch.deeds() == []
    used_s = cpu_s(spinning)
    until(lambda: cpu_s(spinning) > used_s + 1.0)
    watch.pass_time(0.5)
    until(lambda: is_gone(spinning))


def test_after_a_pause_of_its_own_the_watchdog_counts_anew(watch: Watch) -> None:
    silent = watch.worker("silent", "silent")
    watch.look()
    watch.pass_time(4)
    watch.now += 3_600  # stopped, or the host asleep
    watch.pass_time(4.9)
    assert is_alive(silent) and watch.deeds() == []
    watch.pass_time(1.2)
    until(lambda: is_gone(silent))


@pytest.mark.parametrize(("state", "patience_s"), [("STARTING", 60.0), ("CATCHING_UP", 5.0), ("HALTED", 5.0)])
def test_how_long_a_process_may_be_silent_depends_on_its_state(watch: Watch, state: str, patience_s: float) -> None:
    silent = watch.worker("silent", "silent", state)
    watch.look()
    watch.pass_time(patience_s - 0.1)
    assert is_alive(silent)
    watch.pass_time(0.6)
    until(lambda: is_gone(silent))


@pytest.mark.parametrize("state", ["STOPPED", "FAILED", "PARKED"])
def test_who_says_that_he_ends_is_left_to_supervisord(watch: Watch, state: str) -> None:
    ending = watch.worker("ending", "silent", state)
    watch.look()
    watch.pass_time(120)
    assert is_alive(ending) and watch.deeds() == []


def test_a_number_that_is_another_process_by_now_is_never_killed(watch: Watch) -> None:
    """A page from before a crash of the host: its number is anybody's."""
    page = {"old": watch.worker("old", "silent"), "strange": watch.worker("strange", "silent")}
    for name, pid in page.items():
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
        status = (watch.root / name / "status").read_bytes()
        assert pid.to_bytes(4, "little") == status[12:16]
    # a child of the daemon, but one that began long after the page was written
    later = subprocess.Popen(["sleep", "600"], process_group=0)
    watch.children.append(later)
    rewrite(watch, "old", later.pid, beat_ns=time.time_ns() - 3_600_000_000_000)
    # a process of this moment, but nobody's child here
    shell = subprocess.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, check=True)
    stranger = int(shell.stdout)
    rewrite(watch, "strange", stranger, beat_ns=time.time_ns())
    try:
        watch.look()
        watch.pass_time(30)
        assert later.poll() is None and is_alive(stranger) and watch.deeds() == []
    finally:
        os.kill(stranger, signal.SIGKILL)


def rewrite(watch: Watch, name: str, pid: int, *, beat_ns: int) -> None:
    path = watch.root / name / "status"
    raw = bytearray(path.read_bytes())
    raw[12:16] = pid.to_bytes(4, "little")
    raw[32:40] = beat_ns.to_bytes(8, "little")
    path.write_bytes(raw)
    found = read_status(path)
    assert found is not None and (found.pid, found.beat_ns) == (pid, beat_ns)


def test_a_worker_that_is_added_is_watched_and_one_that_is_removed_is_forgotten(watch: Watch) -> None:
    first = watch.worker("first", "silent")
    watch.look()
    second = watch.worker("second", "silent")
    (watch.root / "specs" / "acme" / "first.json").unlink()
    watch.pass_time(6)
    until(lambda: is_gone(second))
    assert is_alive(first)
    assert watch.deeds() == [("acme:second", "killed")]


@pytest.mark.parametrize("content", [b"", b'{"type": "worker", "mode": "\xc2ock"}', None])
def test_a_process_whose_specification_is_damaged_is_watched_on_and_the_log_says_so(
    watch: Watch, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    silent = watch.worker("silent", "silent")
    watch.look()
    path = watch.root / "specs" / "acme" / "silent.json"
    path.unlink()
    if content is None:
        path.mkdir()  # what the disk cannot read back
    else:
        path.write_bytes(content)
    watch.add("later")  # the folder is read once more, and nothing is told twice
    watch.pass_time(6)
    until(lambda: is_gone(silent))
    assert watch.deeds() == [("acme:silent", "killed")]
    said = [one.getMessage() for one in caplog.records if "watched" in one.getMessage()]
    [line] = said
    assert line.startswith(f"acme:silent: watched as it was told before: {path}: expected a process specification, ")


def test_a_process_of_which_no_specification_was_ever_whole_is_told_of(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.add("broken")
    path = watch.root / "specs" / "acme" / "broken.json"
    path.write_bytes(b"")
    watch.look()
    assert f"acme:broken: not watched, as nothing says how: {path}: expected a process specification" in caplog.text
    watch.add("broken")
    silent = watch.begin("broken", "silent")
    watch.pass_time(6)
    until(lambda: is_gone(silent))


def test_a_process_that_began_anew_has_all_its_time_again(watch: Watch) -> None:
    first = watch.worker("silent", "silent")
    watch.look()
    watch.pass_time(5.5)
    until(lambda: is_gone(first))
    watch.children[0].wait()
    second = watch.begin("silent", "silent")
    watch.pass_time(5)
    assert is_alive(second)
    watch.pass_time(1)
    until(lambda: is_gone(second))
    assert len(watch.actions()) == 2


def test_who_begins_anew_again_and_again_is_shown(watch: Watch) -> None:
    watch.add("shaky")
    watch.look()
    for _ in range(4):
        begun = watch.begin("shaky", "silent")
        watch.pass_time(1)
        os.kill(begun, signal.SIGKILL)
    watch.pass_time(5)
    assert watch.conditions("acme:shaky")["restarts"] == "began anew 3 times within a minute"
    watch.pass_time(65)
    assert "restarts" not in watch.conditions("acme:shaky")


def test_a_damaged_log_of_actions_is_put_aside(tmp_path: Path) -> None:
    first = Watch(tmp_path)
    first.worker("silent", "silent")
    first.look()
    first.pass_time(6)
    first.close()
    path = tmp_path / "monitor" / "actions.log"
    path.write_bytes(b"not a log at all, but long enough for a header")
    (tmp_path / "specs").rename(tmp_path / "older")
    second = Watch(tmp_path)
    assert second.actions() == [] and path.with_name("actions.log.unreadable").exists()
    assert "restarted" in second.conditions("acme:silent"), "what was done lately outlives the watchdog"
    second.close()


def test_the_watchdog_says_how_it_is_itself(watch: Watch) -> None:
    watch.worker("one", "beat")
    watch.add("absent")
    watch.look()
    page = read_status(watch.root / "monitor" / "status")
    assert page is not None
    assert (page.state, page.records, page.total) == (State.FOLLOWING, 1, 2)


def test_a_page_with_any_bit_flipped_is_looked_at_all_the_same(watch: Watch) -> None:
    spec = watch.add("damaged")
    page = StatusFile(Path(spec.folder) / "status")
    page.enter(State.FOLLOWING)
    one = Watched("acme:damaged", spec, 0.0)
    one.map_page()
    for bit in range(64 * (APPLYING + 2)):
        page.words[bit // 64] ^= 1 << bit % 64
        one.look(1.0)
        one.adopt(os.getpid(), 1.0)
        assert one.state in State and one.process is None
        assert one.place and one.what_is_missing and isinstance(one.last_error, str)
        assert one.is_expected in (True, False) and one.patience_s(5.0, 60.0) != 0.0
        page.words[bit // 64] ^= 1 << bit % 64
