"""A disk that takes nothing, and text that is no UTF-8: one line that names it, and no traceback."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.clients import CROSSOVER
from end_to_end.harness import Firm, Ran, assert_one_message, clean_environment, told

FAILURE, USAGE = 1, 2


@pytest.fixture(scope="module")
def running() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CROSSOVER)
        firm.run("start", "acme")
        yield firm


def on_a_full_disk(firm: Firm, *arguments: object) -> Ran:
    """A command that no file takes a byte of."""
    command = ["prlimit", "--fsize=0", *firm.command, *map(str, arguments)]
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


def test_a_reason_that_is_no_utf_8_halts_all_the_same_and_a_query_is_refused(running: Firm) -> None:
    odd = os.fsdecode(b"bad\xff")
    assert "acme: halted" in running.run("halt", "acme", "--reason", odd).err
    assert "bad\N{REPLACEMENT CHARACTER}" in running.run("status", "acme").out
    assert "acme: resumed" in running.run("resume", "acme", "--reason", odd).err
    ran = running.run("sql", "acme", f"SELECT '{odd}'", code=None)
    assert_one_message(ran, USAGE, "expected arguments in UTF-8", "bad\\udcff")
