"""The unit file, checked by systemd's own tools."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.harness import CROSSOVER, Firm, until
from fleet_home import REPOSITORY

UNIT = REPOSITORY / "systemd" / "strategy-runner.service"
FILTER = "SystemCallFilter="

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a command that exists on this machine: verify looks for it."""
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.MULTILINE))
    return copy


@needs_systemd
def test_systemd_verifies_the_unit_without_a_word(installed: Path) -> None:
    result = analyze("verify", "--man=no", "--recursive-errors=no", installed)
    assert (result.returncode, _about(installed, result.stderr)) == (0, [])


@needs_systemd
def test_verify_would_notice_a_wrong_directive(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("WatchdogSec=30", "WatchdogSec=soon"))
    assert _about(installed, analyze("verify", "--man=no", "--recursive-errors=no", installed).stderr)


@needs_systemd
def test_the_hardening_keeps_the_exposure_low(installed: Path) -> None:
    # 100 is a bare unit; --threshold counts in tenths of the points shown
    result = analyze("security", "--offline=true", "--threshold=20", installed)
    assert result.returncode == 0, result.stdout


def test_the_daemon_speaks_for_itself_and_takes_its_children_along() -> None:
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.optionxform = str  # type: ignore[assignment, method-assign]  # directives are case-sensitive
    service.read(UNIT)
    found = service["Service"]
    assert (found["Type"], found["Restart"], found["NotifyAccess"]) == ("notify", "always", "main")
    assert found["KillMode"] in ("control-group", "mixed"), "what the daemon leaves behind is killed"


@needs_systemd
@needs_strace
def test_no_process_makes_a_system_call_that_the_unit_refuses(tmp_path: Path) -> None:
    refused, trace = _refused_calls(), tmp_path / "trace"
    assert {"reboot", "mount", "bpf"} <= refused
    calls = ",".join(f"?{name}" for name in sorted(refused))
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CROSSOVER.replace('["oms"]', '["oms", "quantconnect"]'))
        untraced = firm.command
        quietly = ("-qqq", "-e", "signal=none", "-e", f"trace={calls}")
        firm.command = ("strace", "-f", "--seccomp-bpf", *quietly, "-o", str(trace), *untraced)
        supervising = firm.follow("supervise")
        firm.command = untraced
        until(firm.is_up, "the daemon")
        firm.run("start", "all")
        until(lambda: firm.run("fills", "acme", "-o", "json").json(), "a fill")
        name = "acme:cross.BTC-USD"
        firm.await_new_pid(name, firm.kill(name))
        firm.run("restart", "acme")
        firm.run("stop", "all")
        firm.run("down")
        assert supervising.wait(60) == 0
    # a library asks here whether memory has nodes, and goes on without an answer
    seen = [line for line in trace.read_text().splitlines() if "mempolicy" not in line and "mbind" not in line]
    assert seen == []


def _refused_calls() -> set[str]:
    """What the unit's lines leave out, in their order, of all calls that systemd knows."""
    allowed: set[str] = set()
    for line in UNIT.read_text().splitlines():
        if line.startswith(FILTER):
            words = line.removeprefix(FILTER)
            named = set().union(*map(_calls_of, words.removeprefix("~").split()))
            allowed = allowed - named if words.startswith("~") else allowed | named
    return _calls_of("@known") - allowed


def _calls_of(name: str) -> set[str]:
    """A system call, or all of a set, by systemd's own word."""
    if not name.startswith("@"):
        return {name}
    listed = [line.strip() for line in analyze("syscall-filter", name).stdout.splitlines() if line.startswith(" ")]
    return set().union(*(_calls_of(word) for word in listed if not word.startswith("#")))


def _about(unit: Path, messages: str) -> list[str]:
    return [line for line in messages.splitlines() if unit.name in line]
