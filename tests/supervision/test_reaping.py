"""How the daemon takes its dead children: at once, and without a walk along all of them while many end."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor.options import ServerOptions

from strategy_runner.supervision import loop
from strategy_runner.supervision.loop import ENDING_MANY, FleetSupervisor
from strategy_runner.supervision.notify import ServiceNotifier


class Program:
    """What supervisord tells of an end."""

    status: int | None = None

    def finish(self, pid: int, status: int) -> None:
        self.status = os.waitstatus_to_exitcode(status)


def spawn(command: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", command], {})


def await_end(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def supervisor() -> FleetSupervisor:
    options: Any = SimpleNamespace(ending=0, pidhistory={}, logger=SimpleNamespace(info=lambda text: None))
    options.waitpid = lambda: ServerOptions.waitpid(options)
    return FleetSupervisor(options, ServiceNotifier("", watchdog_s=0.0))


def test_while_many_end_the_dead_are_taken_one_by_one_and_strangers_afterwards(
    supervisor: FleetSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now_s))
    history, programs = supervisor.options.pidhistory, [Program(), Program(), Program()]
    pids = [spawn("exit 3"), spawn("kill -9 $$"), spawn("sleep 600")]
    history.update(zip(pids, programs, strict=True))
    stranger = spawn("exit 0")
    for pid in (pids[0], pids[1], stranger):
        await_end(pid)
    supervisor.options.ending = ENDING_MANY
    supervisor.reap()
    assert [program.status for program in programs] == [3, -signal.SIGKILL, None]
    assert list(history) == [pids[2]]
    os.kill(pids[2], signal.SIGTERM)
    await_end(pids[2])
    now_s += 0.9 * loop.ENDING_LOOK_S
    supervisor.reap()
    assert programs[2].status is None, "nobody looks at all of them twice within so short a time"
    now_s += 0.2 * loop.ENDING_LOOK_S
    supervisor.reap()
    assert programs[2].status == -signal.SIGTERM
    await_end(stranger)  # as nobody has taken it
    supervisor.options.ending = ENDING_MANY - 1
    supervisor.reap()
    with pytest.raises(ChildProcessError):
        await_end(stranger)


def test_a_program_that_somebody_else_has_waited_for_keeps_nobody_from_the_others(supervisor: FleetSupervisor) -> None:
    gone, ended = spawn("exit 0"), spawn("exit 1")
    os.waitpid(gone, 0)
    await_end(ended)
    lost, found = Program(), Program()
    supervisor.options.pidhistory.update({gone: lost, ended: found})
    supervisor.options.ending = ENDING_MANY
    supervisor.reap()
    assert (lost.status, found.status) == (None, 1)
