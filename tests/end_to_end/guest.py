"""A virtual machine that boots Debian with systemd, for what a container does not have: units, control groups, a power cut.

The machine is emulated, so that it needs nothing of the host's processor: everything in it takes about twenty times as long.
"""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from end_to_end.harness import until

PROGRAMS = ("mmdebstrap", "qemu-system-x86_64", "mke2fs")
SUITE, PYTHON = "trixie", "3.13"
PACKAGES = "systemd-sysv,dbus,udev,python3,python3-venv,linux-image-cloud-amd64,procps,kmod,iproute2"
DISK_BYTES = 6 << 30
BOOT_S, COMMAND_S = 240.0, 180.0
_PROMPT = b"root@"
_LOGIN = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear %I 115200 dumb
"""


def what_is_missing() -> str:
    """Of what it takes to make and boot one; "" if nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if platform.machine() != "x86_64":
        missing.append("an x86_64 host")
    if os.geteuid() != 0:
        missing.append("root")
    return ", ".join(missing)


class Guest:
    """One machine with its disk in `folder`. `boot` and `cut` may follow one another."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        """Makes the disk: `checkout` lies in /root/checkout, with the wheels that its installation takes in `wheels`."""
        self._folder = folder
        self._machine: subprocess.Popen[bytes] | None = None
        root = folder / "root"
        hooks = [f"copy-in {checkout} /root", "echo guest > $1/etc/hostname", "echo '/dev/vda / ext4' > $1/etc/fstab"]
        words = [f"--include={PACKAGES}", *(f"--customize-hook={hook}" for hook in hooks)]
        _run("mmdebstrap", "--variant=minbase", "--mode=root", *words, SUITE, root)
        login = root / "etc/systemd/system/serial-getty@ttyS0.service.d/login.conf"
        login.parent.mkdir()
        login.write_text(_LOGIN)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name)
        with (folder / "disk").open("wb") as disk:
            disk.truncate(DISK_BYTES)
        _run("mke2fs", "-q", "-t", "ext4", "-d", root, folder / "disk")
        shutil.rmtree(root)

    def boot(self) -> None:
        """Until somebody is logged in at the console."""
        console = self._folder / "console"
        console.unlink(missing_ok=True)
        machine = ("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072")
        nothing_else = ("-display", "none", "-net", "none")
        devices = ("-drive", "file=disk,format=raw,if=virtio", "-serial", "unix:console,server=on,wait=off")
        kernel = ("-kernel", "vmlinuz", "-initrd", "initrd.img", "-append", "root=/dev/vda rw console=ttyS0 quiet")
        self._console = socket.socket(socket.AF_UNIX)
        self._machine = subprocess.Popen(
            ["qemu-system-x86_64", *machine, *devices, *nothing_else, *kernel], cwd=self._folder
        )
        until(console.exists, "the machine's console")
        self._console.connect(str(console))
        self._read_until(re.compile(_PROMPT), BOOT_S)
        self.run("PS1= PS2=; stty -echo cols 30000; cd /", code=None)

    def run(self, command: str, *, code: int | None = 0, timeout_s: float = COMMAND_S) -> str:
        """What a command says. Fails unless it ends with `code`; None allows any."""
        mark = f"end{time.time_ns()}"
        # split, so that the echo of the command is not taken for its end
        self.say(f"{command}\nended=$?; echo; echo {mark[:5]}''{mark[5:]} $ended")
        said = self._read_until(re.compile(rb"\r\n" + mark.encode() + rb" (\d+)\r\n"), timeout_s)
        text, ended = re.split(rf"\r\n{mark} (\d+)\r\n", said)[:2]
        text = text.replace("\r\n", "\n")
        assert code is None or int(ended) == code, f"{command}: {ended}\n{text}"
        return text

    def say(self, line: str) -> None:
        self._console.sendall(line.encode() + b"\n")

    def hear(self, seconds: float) -> str:
        """Whatever comes."""
        return self._read_until(None, seconds).replace("\r\n", "\n")

    def cut(self) -> None:
        """The power: what its kernel had not written is gone."""
        if self._machine is not None:
            self._machine.kill()
            self._machine.wait()
            self._console.close()
            self._machine = None

    def _read_until(self, end: "re.Pattern[bytes] | None", timeout_s: float) -> str:
        came, deadline = b"", time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self._console.settimeout(left)
            try:
                part = self._console.recv(1 << 16)
            except TimeoutError:
                break
            assert part, f"the machine has ended: {came[-4000:]!r}"
            came += part
            if end is not None and end.search(came):
                return came.decode(errors="replace")
        if end is not None:
            raise AssertionError(f"expected {end.pattern!r} within {timeout_s:g} s, found {came[-4000:]!r}")
        return came.decode(errors="replace")


def checkout_with_wheels(repository: Path, folder: Path) -> Path:
    """What the runbook's installation begins with: unit, wheel, and, for want of a network, all that the wheel needs."""
    checkout = folder / "checkout"
    shutil.copytree(repository / "systemd", checkout / "systemd")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    _run(*pip, "wheel", "--no-deps", "-w", checkout, repository)
    (wheel,) = checkout.glob("*.whl")
    only = ("--only-binary=:all:", "--python-version", PYTHON)
    _run(*pip, "download", *only, "-d", checkout / "wheels", wheel)
    return checkout


def objects_in(text: str) -> list[dict[str, Any]]:
    """The whole JSON objects among the lines."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def _run(*words: str | Path) -> None:
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{words[0]}: {ran.stderr[-4000:]}"
