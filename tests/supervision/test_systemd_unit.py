"""The unit file, checked by systemd's own tools."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_home import REPOSITORY

UNIT = REPOSITORY / "systemd" / "strategy-runner.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


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


def _about(unit: Path, messages: str) -> list[str]:
    return [line for line in messages.splitlines() if unit.name in line]
