"""A zygote that dies or stands still between a birth and its answer: nobody is born whom the daemon does not know."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fleet_home import ENTRY, FleetHome
from worker.processes import is_alive

from strategy_runner.supervision import zygote as module
from strategy_runner.supervision.watchdog.process import ENDED, read_stat
from strategy_runner.supervision.zygote import Birth, Zygote


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """This process is its daemon."""
    made = Zygote(ENTRY, (ENTRY,))
    yield made
    made.close()


@pytest.fixture
def known() -> Iterator[set[int]]:
    born: set[int] = set()
    yield born
    for pid in born:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def birth(fleet: FleetHome, name: str) -> Birth:
    program = fleet.program(name)
    program.log.parent.mkdir(parents=True, exist_ok=True)
    return Birth(
        name=name, entry=ENTRY, arguments=[str(program.spec)], environment={}, log=str(program.log), directory=None
    )


def test_one_whose_birth_was_not_answered_is_ended_before_another_is_born_in_its_place(
    fleet: FleetHome, zygote: Zygote, known: set[int]
) -> None:
    known.add(zygote.bear(birth(fleet, "a"), known))
    (first,) = fleet.await_started("a").values()
    assert known == {first}
    assert zygote._socket is not None
    zygote._socket.shutdown(socket.SHUT_RD)  # it forks, and dies of its answer
    known.add(zygote.bear(birth(fleet, "b"), known))
    while not fleet.await_started("b").items() <= {("b", pid) for pid in known}:
        pass  # the one that was ended may have spoken before
    assert all(map(is_alive, known))
    assert born_here() == known


def test_a_zygote_that_does_not_answer_in_time_is_replaced_and_its_late_answer_is_nobodys(
    fleet: FleetHome, zygote: Zygote, known: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known.add(zygote.bear(birth(fleet, "a"), known))
    fleet.await_started("a")
    stopped = zygote_pid(zygote)
    assert zygote._socket is not None
    zygote._socket.settimeout(0.1)
    monkeypatch.setattr(module, "END_TIMEOUT_S", 0.1)
    os.kill(stopped, signal.SIGSTOP)
    for name in ("b", "c"):
        pid = zygote.bear(birth(fleet, name), known)
        known.add(pid)
        assert fleet.await_started(name) == {name: pid}
    assert not is_alive(stopped)


def zygote_pid(zygote: Zygote) -> int:
    assert zygote._process is not None
    return zygote._process.pid


def born_here() -> set[int]:
    """All living children of this process that a zygote has borne; they lead groups of their own."""
    found = set()
    for pid in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
        stat = read_stat(pid)
        is_born = stat is not None and stat.parent == os.getpid() and stat.group == pid and stat.state not in ENDED
        if is_born and b"supervision.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.add(pid)
    return found
