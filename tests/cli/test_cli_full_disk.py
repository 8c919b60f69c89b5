"""A disk that takes nothing, and text that is no UTF-8: one line that names it, and no traceback."""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.clients import CROSSOVER
from end_to_end.harness import Firm, Ran, assert_one_message, clean_environment, told, until
from end_to_end.recordings import write_market

FAILURE, USAGE, CONFIGURATION = 1, 2, 6


@pytest.fixture(scope="module")
def running() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CROSSOVER)
        firm.run("start", "acme")
        yield firm


def on_a_full_disk(firm: Firm, *arguments: object, bytes_: int = 0) -> Ran:
    """A command of which no file takes more bytes."""
    command = ["prlimit", f"--fsize={bytes_}", *firm.command, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(None))
    ran = Ran(arguments=tuple(map(str, arguments)), code=ended.returncode, out=ended.stdout, err=ended.stderr)
    assert "Traceback" not in ran.err, told(ran)
    return ran


def test_a_fault_of_a_file_is_one_line_with_the_file(running: Firm) -> None:
    assert_one_message(on_a_full_disk(running, "start", "acme:cross"), FAILURE, "latest.json: ")
    halt = on_a_full_disk(running, "halt", "acme", "--reason", "prices look wrong")
    assert halt.code == FAILURE and "operator.log" in halt.err
    assert_one_message(running.run("init", "/proc/x", code=None), FAILURE, "/proc/x")
    ran = running.run("audit", "export", "acme", "--to-file", "/nonexistent/x", code=None)
    assert_one_message(ran, FAILURE, "/nonexistent/x: No such file or directory")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*running.command, "status"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(None),
        )
    assert (ended.returncode, ended.stderr) == (FAILURE, "error: output: No space left on device\n")


def test_a_process_that_a_full_disk_ends_says_in_its_log_which_file(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER.replace('"quantconnect"', '"oms"'))
    firm.run("start", "acme")
    journal, log = firm.root / "var/oms/mock/acme/orders.log", firm.root / "var/logs/oms/paper.log"
    until(lambda: journal.exists() and journal.stat().st_size > log.stat().st_size + 10_000, "orders")
    pid = firm.status("oms:paper")["oms:paper"]["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (journal.stat().st_size, resource.RLIM_INFINITY))
    until(lambda: f"{journal}: File too large" in log.read_text(), "a word of it", instead=log.read_text)


def test_what_a_command_would_write_is_named_and_not_left_in_half(running: Firm, tmp_path: Path) -> None:
    rows = tmp_path / "trades.csv"
    rows.write_text("1700000000,100.5,1\n")
    columns = ("--kind", "trades", "--symbol", "BTC-USD", "--columns", "ts=0,price=1,size=2", "--time", "s")
    for command, named in (
        (("export", tmp_path / "out", "--what", "records"), "out/tape/"),
        (("export", tmp_path / "out", "--what", "history"), "out/bars_10s/BTC-USD.parquet: "),
        (("import", rows, "--history", tmp_path / "out", *columns), "out/trades/BTC-USD.parquet: "),
        (("audit", "export", "acme", "--format", "parquet", "--to-file", tmp_path / "a.parquet"), "a.parquet: "),
        (("audit", "export", "acme", "--to-file", tmp_path / "a.csv"), "a.csv: "),
        (("init", tmp_path / "home"), "home/clients/"),
        (("new-client", "other"), "clients/other/client.toml: "),
        (("new-strategy", "acme", "breakout"), "strategies/breakout.py: "),
    ):
        assert_one_message(on_a_full_disk(running, *command), FAILURE, named, "File too large")
    running.run("init", tmp_path / "home")
    running.run("new-client", "other")
    running.run("new-strategy", "acme", "breakout")
    beside = running.root / "clients/acme/strategies/test_dip.py"
    beside.symlink_to("nowhere")
    assert_one_message(running.run("new-strategy", "acme", "dip", code=None), FAILURE, "test_dip.py: File exists")
    beside.unlink()
    running.run("new-strategy", "acme", "dip")


def test_streams_that_the_caller_has_closed_lead_nowhere(running: Firm) -> None:
    def closed(which: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f'exec "$@" {which}', "sh", *running.command, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(None))

    rows = closed("2>&-", "status", "-o", "json")
    assert rows.returncode == 0 and "acme:router" in rows.stdout
    assert (closed(">&-", "status").returncode, closed(">&-", "status").stderr) == (0, "")
    running.run("down")
    assert closed("<&- >&- 2>&-", "start", "acme").returncode == 0
    daemon = Path(f"/proc/{running.daemon_pid}/fd")
    assert [str((daemon / number).readlink()) for number in "012"] == [
        "/dev/null",
        *[f"{running.home.daemon}/daemon.log"] * 2,
    ]


def test_a_reason_that_is_no_utf_8_halts_all_the_same_and_a_query_is_refused(running: Firm) -> None:
    odd = os.fsdecode(b"bad\xff")
    assert "acme: halted" in running.run("halt", "acme", "--reason", odd).err
    assert "bad\N{REPLACEMENT CHARACTER}" in running.run("status", "acme").out
    assert "acme: resumed" in running.run("resume", "acme", "--reason", odd).err
    ran = running.run("sql", "acme", f"SELECT '{odd}'", code=None)
    assert_one_message(ran, USAGE, "expected arguments in UTF-8", "bad\\udcff")


SIMULATION = ("--mode", "simulation", "--speed", "0", "--history")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    disk = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))  # socket paths are short
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        disk.rmdir()
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)
    disk.rmdir()


def signals(firm: Firm, mode: str) -> list[str]:
    return firm.run("signals", "acme", "--mode", mode, "-o", "name").lines


def with_a_simulation(firm: Firm) -> list[str]:
    """Its signals, of a home with a small tape that is down."""
    firm.write("clients/acme/client.toml", CROSSOVER)
    firm.edit("configs/local-dev.toml", "segment_records = 262_144", "reserve_mb = 1\nsegment_records = 16_384")
    write_market(firm.root / "history", "BTC-USD", seed=1, seconds=100, per_second=5)
    firm.run("start", "acme", *SIMULATION, firm.root / "history")
    firm.run("down")
    firm.run("stop", "acme")
    made = signals(firm, "simulation")
    assert made
    return made


def test_a_start_that_the_disk_does_not_take_leaves_the_simulation_before_it(firm: Firm) -> None:
    before = with_a_simulation(firm)
    history = firm.root / "history"
    firm.run("backtest", "acme", "--history", history)
    ran = on_a_full_disk(firm, "backtest", "acme", "--history", history)
    assert_one_message(ran, FAILURE, "backtests/acme/lock: File too large")
    for command in (("start", "acme", *SIMULATION), ("backtest", "acme", "--history")):
        ran = on_a_full_disk(firm, *command, history, bytes_=100)
        assert_one_message(ran, FAILURE, "room.new: File too large")
    assert signals(firm, "simulation") == before
    assert signals(firm, "historical")


def test_a_start_over_recordings_that_cannot_be_read_leaves_the_simulation_before_it(firm: Firm) -> None:
    before = with_a_simulation(firm)
    history = firm.root / "history"
    window = ("--from", "2026-01-06", "--to", "2026-01-05")
    ran = firm.run("start", "acme", *SIMULATION, history, *window, code=None)
    assert_one_message(ran, USAGE, "--to: expected a moment after 2026-01-06 00:00:00", "found 2026-01-05 00:00:00")
    bad = {b"": "0 bytes", b"\x00\xff" * 500: "1000 bytes", b"PAR1, and cut": "13 bytes", None: "is a directory"}
    for content, found in bad.items():
        path = firm.root / "bad" / "trades" / "BTC-USD.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if content is not None else (path.unlink(), path.mkdir())
        for command in (("start", "acme", *SIMULATION), ("backtest", "acme", "--history")):
            ran = firm.run(*command, firm.root / "bad", code=None)
            assert_one_message(ran, CONFIGURATION, f"{path}: expected a readable Parquet file, found: {found}")
    assert signals(firm, "simulation") == before
    assert "acme" not in firm.run("up").err


def test_a_full_disk_takes_a_simulation_in_the_room_of_the_one_before_it_or_leaves_that(small_disk: Path) -> None:
    with Firm() as firm:
        firm.home.var.symlink_to(small_disk)
        before = with_a_simulation(firm)
        tape = firm.home.market("simulation") / "tape"
        shutil.move(tape, firm.root / "tape")
        fill(small_disk / "filling")
        again = ("start", "acme", *SIMULATION, firm.root / "history")
        assert_one_message(firm.run(*again, code=None), FAILURE, "bytes of room for the run, found 0 free and ")
        assert signals(firm, "simulation") == before
        assert not firm.home.daemon.joinpath("room.new").exists()

        (small_disk / "filling").unlink()
        shutil.move(firm.root / "tape", tape)
        fill(small_disk / "filling", but=1_000_000)  # logs grow meanwhile
        assert "ready" in firm.run(*again).err
        assert signals(firm, "simulation") == before, "the same history, from its beginning"
        firm.run("down")


def fill(path: Path, *, but: int = 0) -> None:
    """The whole disk, but for so many bytes."""
    with path.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - but)
