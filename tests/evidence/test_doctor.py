"""doctor: a healthy home is healthy, and each kind of damage is told with file, place and what to do."""

import os
import random
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from end_to_end.harness import Firm, clean_environment, told, until
from evidence.recorded_run import (
    CROSS,
    LISTENING,
    SEGMENT_RECORDS,
    flip,
    forge,
    logged,
    rewrite,
    segment_of,
    signal_log,
    with_body,
    worker_folder,
)
from worker.build import new_tape, write_rows

from strategy_runner.config.home import Home
from strategy_runner.monitor import checks_host
from strategy_runner.monitor.checks_home import check_code, check_specs
from strategy_runner.monitor.checks_logs import check_client
from strategy_runner.monitor.checks_processes import check_daemon, check_locks, check_strays
from strategy_runner.monitor.checks_tape import check_tape
from strategy_runner.monitor.finding import Finding
from strategy_runner.monitor.host import Host, ProcessSeen, look_at_host
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import AppendLog, read_log

SECOND_NS = 1_000_000_000


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == "error"]


def the_error(findings: list[Finding]) -> Finding:
    (found,) = errors(findings)
    assert found.advice, "nothing is said of what to do"
    return found


def tape_of(firm: Firm) -> Path:
    return firm.home.market("mock") / "tape"


def client_findings(firm: Firm) -> list[Finding]:
    return check_client(firm.home.client_state("acme", "mock"), "acme")


# -- health ------------------------------------------------------------------------------------------------------------


def test_a_healthy_home_is_healthy_while_it_runs_and_when_it_is_down(damaged: Firm) -> None:
    down = damaged.run("doctor", "-o", "json").json()
    assert [finding for finding in down if finding["level"] == "error"] == []
    checks = {finding["check"] for finding in down}
    assert checks >= {"clock", "disk", "limits", "permissions", "version", "daemon", "strays", "locks"}
    assert checks >= {"specs", "templates", "versions", "tape", "signals", "decisions", "sinks"}

    damaged.run("start", "acme")
    for _ in range(2):
        running = damaged.run("doctor", "-o", "json").json()
        assert [finding for finding in running if finding["level"] == "error"] == []
    (locks,) = [finding["found"] for finding in running if finding["check"] == "locks"]
    assert locks == "6 held, every holder alive"
    assert "0 errors" in damaged.run("doctor").err


def test_a_folder_that_cannot_be_read_is_told_of_and_keeps_no_other_from_being_looked_at(damaged: Firm) -> None:
    """From Python 3.13 on `glob` takes it for an empty one."""
    loop = damaged.home.var / "clients" / "loop"
    loop.symlink_to("loop")
    found = damaged.run("doctor", "-o", "json", code=None).json()
    (fault,) = [finding for finding in found if finding["check"] == "folders"]
    assert (fault["level"], fault["subject"], fault["found"]) == (
        "error",
        str(loop),
        "Too many levels of symbolic links",
    )
    assert {"signals", "tape"} <= {one["check"] for one in found}


def test_every_error_is_a_line_with_what_to_do_and_ends_with_1(damaged: Firm) -> None:
    (damaged.root / "supervisor" / "group.conf").unlink()
    (damaged.home.var / "VERSION").write_text("99\n")
    damaged.home.var.chmod(0o755)
    spec = next((damaged.home.daemon / "specs" / "acme").glob("*.json"))
    spec.write_text('{"type": "wor')
    ran = damaged.run("doctor", "-o", "json", code=1)
    found = {f["check"]: f for f in ran.json() if f["level"] == "error"}
    assert found.keys() == {"templates", "version", "permissions", "specs"}, told(ran)
    assert found["specs"]["subject"] == str(spec)
    assert (found["version"]["expected"], found["version"]["found"]) == ("2", "'99'")
    assert (found["permissions"]["subject"], found["permissions"]["found"]) == (str(damaged.home.var), "mode 0755")
    assert all(f["advice"] for f in found.values())
    assert damaged.run("doctor", "-o", "name", code=1).lines == ["permissions", "version", "specs", "templates"]


# -- the tape ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [0, 4, 8, 31, 79], ids=["crc", "stream", "event time", "flags", "last byte"])
def test_a_flipped_bit_of_a_record_is_named_by_segment_and_seq(damaged: Firm, within: int) -> None:
    seq = SEGMENT_RECORDS + 77
    path, offset = segment_of(tape_of(damaged), seq)
    flip(path, offset + within, bit=within % 8)
    found = the_error(check_tape(tape_of(damaged)))
    assert (found.check, found.subject) == ("tape", str(path))
    assert f"seq {seq}: crc" in found.expected


def test_a_flipped_bit_of_an_index_is_named_by_file_and_offset(damaged: Firm) -> None:
    path = tape_of(damaged) / "streams" / "0-0.idx"
    flip(path, 5 * 8, bit=1)
    found = the_error(check_tape(tape_of(damaged)))
    assert found.subject == str(path)
    assert "entry 5 of " in found.expected and "at offset 40" in found.expected


def test_counts_and_head_that_do_not_fit_the_records_are_errors(damaged: Firm) -> None:
    tape = tape_of(damaged)
    for path, offset in (
        (tape / "counts", 0),
        (tape / "head", 4 * 8),
        (tape / "head", 5 * 8),
        (tape / "head", 4 * 8 + 2),
    ):
        flip(path, offset, bit=1)
        assert errors(check_tape(tape)), f"{path} at {offset}"
        flip(path, offset, bit=1)
    assert errors(check_tape(tape)) == []


def test_a_tape_that_grows_while_its_head_is_read_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = new_tape(tmp_path)
    word = {name: getattr(Head, name) for name in ("first", "durable", "count")}

    def read(head: Head, name: str) -> int:
        found: int = word[name].fget(head)
        with monkeypatch.context() as undone:  # whose own look grows nothing
            for one, kept in word.items():
                undone.setattr(Head, one, kept)
            write_rows(tape, [("X/trade", 1, (100.0, 1.0, 1.0))])
        return found

    write_rows(tape, [("X/trade", 1, (100.0, 1.0, 1.0))])
    for name, kept in word.items():
        monkeypatch.setattr(Head, name, property(partial(read, name=name), kept.fset))
    assert errors(check_tape(tmp_path / "tape")) == []


def test_a_lost_and_a_short_segment_are_named_with_the_seqs_they_should_hold(damaged: Firm) -> None:
    path, _ = segment_of(tape_of(damaged), 0)
    raw = path.read_bytes()
    path.write_bytes(raw[: 80 * 1000 + 13])
    found = the_error(check_tape(tape_of(damaged)))
    assert (found.subject, found.found) == (str(path), "80013 bytes, which end at seq 1000")
    path.unlink()
    assert the_error(check_tape(tape_of(damaged))).subject == str(path)


def test_a_damaged_name_of_a_stream_is_named_by_offset(damaged: Firm) -> None:
    path = tape_of(damaged) / "names.log"
    flip(path, 16 + 8 + 2)
    assert [f.found for f in errors(check_tape(tape_of(damaged))) if f.subject == str(path) and "offset 16" in f.found]


def test_a_time_of_receipt_that_goes_back_is_a_warning(damaged: Firm) -> None:
    path, offset = segment_of(tape_of(damaged), 500)
    with path.open("r+b") as file:
        file.seek(offset + 16)
        file.write((1_000_000_000).to_bytes(8, "little"))
    forge(tape_of(damaged), 500, ())
    findings = check_tape(tape_of(damaged))
    assert errors(findings) == []
    (found,) = [finding for finding in findings if finding.level == "warning"]
    assert found.expected.startswith("seq 500: ")


# -- the logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["header", "first frame", "middle", "last frame"])
def test_a_flipped_bit_of_a_signal_log_is_named_by_file_and_offset(damaged: Firm, where: str) -> None:
    path = signal_log(damaged.home, CROSS)
    offsets = frame_offsets(path)
    begin = {"header": 12, "first frame": offsets[0], "middle": offsets[7], "last frame": offsets[-1]}[where]
    flip(path, begin + (0 if where == "header" else 20))
    found = [finding for finding in errors(client_findings(damaged)) if finding.check == "signals"]
    assert [finding.subject for finding in found] == [str(path)]
    assert f"offset {begin}" in found[0].found


def test_a_flipped_bit_of_the_decision_log_is_named_by_file_and_offset(damaged: Firm) -> None:
    path = damaged.home.router("acme", "mock") / "decisions.log"
    begin = frame_offsets(path)[9]
    flip(path, begin + 30)
    found = the_error(client_findings(damaged))
    assert (found.check, found.subject) == ("decisions", str(path))
    assert f"offset {begin}" in found.found


def test_whole_frames_that_say_what_cannot_be_are_named_too(damaged: Firm) -> None:
    """Not bit rot but a bug or a forger: every crc fits."""
    path = signal_log(damaged.home, CROSS)
    before = logged(path)
    offset = frame_offsets(path)[3]
    changes = {
        "body and digest differ": lambda s: [
            *s[:3],
            with_body(s[3], s[3].body.replace(b'"buy"', b'"bux"') + b" "),
            *s[4:],
        ],
        "is next": lambda s: [*s[:3], *s[4:]],
    }
    for word, change in changes.items():
        rewrite(path, change)
        found = [finding for finding in errors(client_findings(damaged)) if finding.check == "signals"]
        assert word in found[0].found and f"offset {offset}" in found[0].expected
        rewrite(path, lambda _: before)
    assert errors(client_findings(damaged)) == []


def test_a_decision_without_its_signal_and_a_log_without_its_end_are_errors(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    before = logged(path)
    rewrite(path, lambda signals: signals[:-1])
    found = the_error(client_findings(damaged))
    assert found.check == "decisions" and before[-1].envelope.generation in found.found
    assert "which its worker's log does not hold" in found.found
    rewrite(path, lambda _: before)

    log = damaged.home.router("acme", "mock") / "decisions.log"
    frames = list(read_log(log))
    log.unlink()
    shorter = AppendLog(log)
    shorter.append_many(frames[:-2])
    shorter.close()
    found = the_error(client_findings(damaged))
    assert (found.expected, found.found) == (f"{len(frames)} decisions, as the router says", str(len(frames) - 2))


def test_a_torn_tail_is_a_warning_while_its_writer_may_come_back_and_an_error_once_it_has_ended(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    end = path.stat().st_size
    with path.open("ab") as file:
        file.write((500).to_bytes(4, "little") + b"torn")
    assert the_error(client_findings(damaged)).found.startswith(f"offset {end}: ")
    (worker_folder(damaged.home, CROSS) / "status").unlink()
    findings = client_findings(damaged)
    assert errors(findings) == []
    assert [f.found for f in findings if f.level == "warning"] == [
        f"offset {end}: 8 bytes of a frame that is not whole"
    ]


def test_damaged_snapshots_cursors_and_sinks_are_found(damaged: Firm) -> None:
    state = damaged.home.client_state("acme", "mock")
    snapshot = sorted(worker_folder(damaged.home, CROSS).glob("*.snapshot"))[-1]
    cursor = state / "quantconnect" / "signals" / "acme" / ".cursor"
    flip(snapshot, 40)
    flip(cursor, 20)
    (state / "signals.duckdb").write_bytes(b"garbage" * 1000)
    found = {f["subject"]: f for f in damaged.run("doctor", "-o", "json", code=1).json() if f["level"] != "ok"}
    assert found[str(snapshot)]["level"] == "warning"
    assert found[str(cursor)]["level"] == "error"
    assert found[str(state / "signals.duckdb")]["level"] == "error"


def test_a_duckdb_file_that_somebody_has_open_is_no_damaged_one(damaged: Firm) -> None:
    path = damaged.home.client_state("acme", "mock") / "signals.duckdb"
    code = "import duckdb, sys, time; file = duckdb.connect(sys.argv[1]); print('ready', flush=True); time.sleep(600)"
    with process(sys.executable, "-c", code, str(path), cwd=damaged.root):
        found = {f["subject"]: f for f in damaged.run("doctor", "-o", "json").json()}[str(path)]
    assert found["level"] == "warning"
    assert "lock on file" in found["found"]


def frame_offsets(path: Path) -> list[int]:
    offsets, at = [], 16
    for payload in read_log(path):
        offsets.append(at)
        at += 8 + len(payload)
    return offsets


# -- processes ---------------------------------------------------------------------------------------------------------


@contextmanager
def process(*command: str, cwd: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process without a terminal that lives until the test ends, ready when it has said so."""
    environment = clean_environment(environ)
    with subprocess.Popen(
        command, cwd=cwd, env=environment, start_new_session=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as running:
        try:
            assert running.stdout is not None
            running.stdout.read(1)
            yield running
        finally:
            running.kill()


WAIT = "import sys; sys.stdout.write('r'); sys.stdout.flush(); sys.stdin.read()"


def test_kept_code_that_rots_or_is_gone_is_told(damaged: Firm) -> None:
    [kept] = damaged.home.code.glob("*/clients/acme")
    [compiled] = kept.rglob("listener.*.pyc")
    flip(compiled, compiled.stat().st_size // 2)
    assert the_error(check_code(damaged.home)).subject == str(kept)
    flip(compiled, compiled.stat().st_size // 2)
    assert errors(check_code(damaged.home)) == []
    damaged.run("up")  # with the paths of this copy of the home, and the same digest
    damaged.run("down")
    shutil.rmtree(kept)
    found = the_error(check_specs(damaged.home))
    assert (found.expected, found.found) == (f"the code of acme:{LISTENING}", "no file")
    damaged.run("up")
    damaged.run("down")
    assert errors(check_specs(damaged.home) + check_code(damaged.home)) == []


def test_a_process_of_the_home_that_is_nobodys_child_is_a_stray(damaged: Firm) -> None:
    log = damaged.home.log(f"acme:{CROSS}")
    spec = damaged.home.daemon / "specs" / "acme" / f"{CROSS}.json"
    arguments = ("doctor", "-o", "json")
    with (
        process(sys.executable, "-c", WAIT, "-m", "strategy_runner.assembly", str(spec), cwd=Path("/")) as by_command,
        process(sys.executable, "-c", WAIT, cwd=Path("/"), STRATEGY_RUNNER_LOG=str(log)) as by_log,
        process(sys.executable, "-c", WAIT, cwd=damaged.root) as by_folder,
    ):
        findings = damaged.run(*arguments, code=1).json()
        found = {f["subject"]: f["level"] for f in findings if f["check"] == "strays"}
        assert found == {
            f"process {by_command.pid}": "error",
            f"process {by_log.pid}": "error",
            f"process {by_folder.pid}": "warning",
        }
    assert [f["level"] for f in damaged.run(*arguments).json() if f["check"] == "strays"] == ["ok"]


def test_children_of_the_daemon_and_the_caller_are_no_strays() -> None:
    home = Home(Path("/srv/home"))
    line = (
        ProcessSeen(pid=1, parent=0, command="init"),
        ProcessSeen(pid=10, parent=1, command="python -m strategy_runner.supervision.daemon --home /srv/home"),
        ProcessSeen(pid=11, parent=10, command="python -m strategy_runner.supervision.daemon --home /srv/home"),
        ProcessSeen(pid=12, parent=11, command="strategy's child", cwd="/srv/home", session=10),
        ProcessSeen(pid=20, parent=1, command="bash", cwd="/srv/home", has_terminal=True),
        ProcessSeen(pid=21, parent=20, command="strategy-runner --home /srv/home doctor", cwd="/srv/home", session=20),
        ProcessSeen(pid=22, parent=20, command="tee", cwd="/srv/home", session=20),
        ProcessSeen(pid=30, parent=1, command="python -m strategy_runner.supervision.daemon --home /srv/home2"),
    )
    host = host_of(processes=line, own_pid=21)
    assert [finding.level for finding in check_strays(home, host, 10)] == ["ok"]
    strays = check_strays(home, host, None)
    assert [finding.subject for finding in strays] == ["process 10", "process 11", "process 12"]
    assert "kill 10" in strays[0].advice


def test_a_lock_that_outlives_its_process_is_an_error(damaged: Firm) -> None:
    path = worker_folder(damaged.home, CROSS) / "lock"
    held = host_of(locks={path.stat().st_ino: 4_000_000}, processes=())
    found = the_error(check_locks(damaged.home, held))
    assert found.subject == str(path) and "4000000" in found.found
    assert errors(check_locks(damaged.home, msgspec.structs.replace(held, locks={}))) == []


# a process whose first thread has ended, and whose other one holds the lock of a folder
DYING = """
import ctypes, fcntl, os, sys, threading
lock = open(sys.argv[1])
fcntl.flock(lock, fcntl.LOCK_EX)
def last():
    while open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    os.write(1, b"r")
    sys.stdin.read()
threading.Thread(target=last).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def test_a_killed_process_holds_its_lock_until_its_last_thread_has_ended(damaged: Firm) -> None:
    path = worker_folder(damaged.home, CROSS) / "lock"
    with process(sys.executable, "-c", DYING, str(path), cwd=Path("/")) as dying:
        host = look_at_host(damaged.home)
        assert host.locks is not None and host.locks[path.stat().st_ino] == dying.pid
        assert [finding.found for finding in check_locks(damaged.home, host)] == ["1 held, every holder alive"]


def test_a_daemon_that_has_just_begun_is_known_and_a_killed_one_leaves_a_socket_that_is_told(damaged: Firm) -> None:
    damaged.run("start", "acme")
    daemon = damaged.daemon_pid
    (found,) = check_daemon(damaged.home, host_of(locks={}))  # as it was before the daemon began
    assert (found.level, str(daemon) in found.found) == ("ok", True)
    ended = os.pidfd_open(daemon)
    os.kill(daemon, 9)
    select.select([ended], [], [], 10)
    os.close(ended)
    until(lambda: len(damaged.processes()) == 0, "the end of the children")
    findings = damaged.run("doctor", "-o", "json").json()
    (found,) = [finding for finding in findings if finding["check"] == "daemon"]
    assert (found["level"], found["subject"]) == ("warning", str(damaged.home.supervisor_socket))


# -- the host ----------------------------------------------------------------------------------------------------------


def host_of(**changes: object) -> Host:
    """A host with room for everything."""
    host = Host(
        wall_ns=time.time_ns(),
        up_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        disk_free_bytes=10**12,
        disk_free_inodes=10**9,
        memory_available_bytes=10**11,
        descriptors_max=1 << 20,
        processes_max=1 << 20,
        user=os.getuid(),
        own_pid=os.getpid(),
        processes=(),
        locks={},
        ntp=True,
        clock_error_ms=1.0,
    )
    return msgspec.structs.replace(host, **changes)


def test_a_disk_without_room_for_two_segments_is_an_error_and_a_nearly_full_one_a_warning(recorded: Firm) -> None:
    def level(free: int) -> str:
        host = host_of(disk_free_bytes=free)
        (found,) = checks_host.check_disk(recorded.home, host, retention_gb=20)
        return found.level

    segment = SEGMENT_RECORDS * 80
    assert level(10**12) == "ok"
    assert level(2 * segment - 1) == "error"
    # a tape that took seconds grows by far more than a few megabytes in a day
    assert level(2 * segment + 1) == "warning"
    few = host_of(disk_free_inodes=10)
    assert [f.level for f in checks_host.check_disk(recorded.home, few, retention_gb=20)] == ["ok", "warning"]


def test_limits_are_measured_against_the_processes_that_are_planned() -> None:
    ample = checks_host.check_limits(host_of(), 1000)
    assert [finding.level for finding in ample] == ["ok", "ok", "ok"]
    tight = checks_host.check_limits(
        host_of(descriptors_max=1024, processes_max=2000, memory_available_bytes=10**9), 1000
    )
    assert [(f.subject, f.level) for f in tight] == [
        ("descriptors", "error"),
        ("processes", "error"),
        ("memory", "warning"),
    ]
    assert tight[0].expected == "at least 4024 for 1000 processes"


def test_a_clock_that_was_set_is_told_by_how_much(damaged: Firm) -> None:
    damaged.run("start", "acme")
    host = look_at_host(damaged.home)

    def found(**changes: object) -> Finding:
        changed = msgspec.structs.replace(host, ntp=False, **changes)
        return checks_host.check_clock(damaged.home, changed)[1]

    assert found().level == "ok"
    forward = found(wall_ns=host.wall_ns + 3600 * SECOND_NS)
    assert forward.level == "warning" and "forward by about 3" in forward.found
    back = found(wall_ns=host.wall_ns - 3600 * SECOND_NS)
    assert back.level == "warning" and "went back" in back.found
    undisciplined = checks_host.check_clock(damaged.home, msgspec.structs.replace(host, ntp=True, clock_error_ms=None))
    assert undisciplined[0].level == "warning"


# -- bit rot -----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_is_accepted_in_silence(damaged: Firm) -> None:
    seed = int(os.environ.get("STRATEGY_RUNNER_SEED") or random.SystemRandom().randrange(2**32))
    print(f"STRATEGY_RUNNER_SEED={seed} repeats the choices of this run")
    luck, tape = random.Random(seed), tape_of(damaged)
    count = int.from_bytes((tape / "head").read_bytes()[32:40], "little")
    counts = (tape / "counts").read_bytes()
    used = {path: min(count - int(path.stem[4:]), SEGMENT_RECORDS) * 80 for path in tape.glob("seg-*")}
    used = {path: size for path, size in used.items() if size > 0}  # the next one is there before it is needed
    for path in (tape / "streams").glob("*-0.idx"):
        stream = int(path.stem.partition("-")[0])
        entries = int.from_bytes(counts[stream * 8 : stream * 8 + 8], "little")
        used[path] = min(entries * 8, path.stat().st_size)  # on a slow machine the stream has come to its next chunk
    logs = [tape / "names.log", damaged.home.router("acme", "mock") / "decisions.log"]
    logs += damaged.home.client_state("acme", "mock").glob("workers/*/signals.log")
    used |= {path: path.stat().st_size for path in logs}

    for path in luck.choices(sorted(used), k=120):
        offset, bit = luck.randrange(used[path]), luck.randrange(8)
        flip(path, offset, bit)
        found = check_tape(tape) if path.is_relative_to(tape) else client_findings(damaged)
        told_of = [finding.subject for finding in found if finding.level != "ok"]
        assert str(path) in told_of, f"{path} offset {offset} bit {bit}: {told_of}"
        flip(path, offset, bit)
    assert errors(check_tape(tape)) == [] == errors(client_findings(damaged))
