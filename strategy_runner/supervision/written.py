"""Written: what processes were told last, as it lies on the disk. A command reads it once and passes it on: a fleet has many."""

import contextlib
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import (
    FeedSpec,
    PaperOmsSpec,
    RouterSpec,
    Spec,
    WatchdogSpec,
    WorkerSpec,
    read_specs,
    write_spec,
)
from strategy_runner.model.names import FEED_NAME, OMS_NAME, RESERVED_CLIENTS, WATCHDOG_NAME
from strategy_runner.small_files import paths_below
from strategy_runner.supervision.plan import NOT_PLANNED, Plan, make_plan
from strategy_runner.supervision.plan_oms import asking, only_clients
from strategy_runner.supervision.process import Process, program_of
from strategy_runner.supervision.programs import Kind, Program, digests, write_configuration
from strategy_runner.supervision.wishes import Wishes, read_wishes

WRITERS = 16  # that wait for the disk together: a thousand files take less than a second, one by one it is five
# in the order of a plan; the first three serve all clients
_KINDS: dict[type[Spec], Kind] = {
    FeedSpec: "feed",
    WatchdogSpec: "watchdog",
    PaperOmsSpec: "oms",
    RouterSpec: "router",
    WorkerSpec: "worker",
}
_SHARED = 3
_SHARED_KINDS: Mapping[str, Kind] = {FEED_NAME: "feed", OMS_NAME: "oms", WATCHDOG_NAME: "watchdog"}


class Written(msgspec.Struct, frozen=True):
    """Specifications by the names of their processes; of each that is `damaged` why it cannot be read."""

    specs: dict[str, Spec]
    damaged: dict[str, str]

    @property
    def names(self) -> set[str]:
        """Of all processes that were told something, be it legible or not."""
        return {*self.specs, *self.damaged}


def read_written(home: Home) -> Written:
    return Written(*read_specs(_folder(home)))


def write_plan(home: Home, plan: Plan, written: Written, spared: Mapping[str, Program]) -> None:
    """Brings what is written, and the daemon's configuration, to the plan, but for what is spared. Raises ConfigurationError,
    OSError."""
    planned = [process for process in plan.processes if process.name not in spared]
    changed = [process for process in planned if written.specs.get(process.name) != process.spec]
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda process: write_spec(process.path, process.spec), changed))
    write_configuration(home, [*(program_of(home, process) for process in planned), *spared.values()])
    kept = {*(process.path for process in planned), *(program.spec for program in spared.values())}
    for path in paths_below(_folder(home), "*/*.json"):
        if path not in kept:
            path.unlink()


def as_written(home: Home) -> Plan:
    """The processes as they run, whatever has been edited since."""
    return still_wished(home, read_wishes(home), read_written(home))


def still_wished(home: Home, after: Wishes, written: Written) -> Plan:
    """The processes as they were written, less those that are no longer wished for; files edited since stay unread."""
    processes = _wished_for(home, after, written.specs)
    if written.damaged:
        processes = _with_damaged(home, after, processes, written.damaged)
    followers = [p for p in processes if isinstance(p.spec, WorkerSpec) and not p.spec.history]
    if not followers:
        processes = [process for process in processes if process.kind != "feed"]
    processes = _without_idle_oms(processes)
    if all(process.kind == "watchdog" for process in processes):
        processes = []
    return Plan(processes=tuple(sorted(processes, key=_place)))


def spared(home: Home, wishes: Wishes, plan: Plan, written: Written, applied: Collection[str]) -> dict[str, Program]:
    """The programs, as they run, that the plan would end or begin anew for no more than a specification that nobody can read.

    `applied` are the groups that are to be as the files say."""
    running, planned = digests(home), {process.name: process for process in plan.processes}
    found = {}
    for name in written.damaged:
        group, _, rest = name.partition(":")
        process = planned.get(name)
        is_meant = group in applied and (process is not None or group not in RESERVED_CLIENTS)
        if is_meant or name not in running or not _is_needed(name, wishes, plan):
            continue
        if process is None or process.digest != running[name]:
            found[name] = Program(
                group=group,
                name=rest,
                kind=_SHARED_KINDS.get(name) or ("router" if rest == "router" else "worker"),
                spec=_folder(home) / group / f"{rest}.json",
                digest=running[name],
                log=home.log(name),
            )
    return found


# -- inside ------------------------------------------------------------------------------------------------------------


def _is_needed(name: str, wishes: Wishes, plan: Plan) -> bool:
    """Whether a process is wished for, or those that are need it."""
    group, _, rest = name.partition(":")
    if name == FEED_NAME:
        return any(isinstance(one.spec, WorkerSpec) and not one.spec.history for one in plan.processes)
    if name == OMS_NAME:
        return bool(asking(plan.processes))
    if name == WATCHDOG_NAME:
        return bool(plan.processes)
    wish = wishes.clients.get(group)
    return wish is not None and rest not in wish.stopped


def _wished_for(home: Home, after: Wishes, written: Mapping[str, Spec]) -> list[Process]:
    processes: list[Process] = []
    for name, spec in sorted(written.items()):
        group, _, rest = name.partition(":")
        kind = _KINDS[type(spec)]
        if kind in ("router", "worker"):
            wish = after.clients.get(group)
            if wish is None or (kind == "worker" and rest in wish.stopped):
                continue
        path = _folder(home) / group / f"{rest}.json"
        processes.append(Process(name=name, kind=kind, spec=_less_stopped(spec, after), path=path))
    return processes


def _less_stopped(spec: Spec, after: Wishes) -> Spec:
    """A router without the workers that are stopped; any other as it is."""
    if not isinstance(spec, RouterSpec):
        return spec
    stopped = after.clients[spec.client].stopped
    return msgspec.structs.replace(spec, workers=tuple(worker for worker in spec.workers if worker not in stopped))


def _with_damaged(home: Home, after: Wishes, readable: list[Process], damaged: Collection[str]) -> list[Process]:
    """With the processes whose specifications are damaged, as the files say; those of a client whose files are broken too are
    left out, since nothing says what they do."""
    whole = []
    for client in after.clients:
        with contextlib.suppress(*NOT_PLANNED):
            make_plan(home, after, environ=os.environ, clients=[client])
            whole.append(client)
    with contextlib.suppress(*NOT_PLANNED):
        planned = make_plan(home, after, environ=os.environ, clients=whole).processes
        kept = [*readable, *(process for process in planned if process.name in damaged)]
        if FEED_NAME not in damaged or any(process.name == FEED_NAME for process in kept):
            # once more, so that a shared one serves those too whom the files do not name
            return list(make_plan(home, after, environ=os.environ, clients=[], kept=kept).processes)
    return readable


def _without_idle_oms(processes: list[Process]) -> list[Process]:
    """The paper OMS serves the clients that run, and nobody else."""
    served = asking(processes)
    return [
        msgspec.structs.replace(process, spec=only_clients(process.spec, served))
        if isinstance(process.spec, PaperOmsSpec)
        else process
        for process in processes
        if served or process.kind != "oms"
    ]


def _place(process: Process) -> tuple[int, str, int, str]:
    """The feed first, then the watchdog, then the paper OMS, then by client the router and its workers."""
    rank = list(_KINDS.values()).index(process.kind)
    return min(rank, _SHARED), process.name.partition(":")[0], rank, process.name


def _folder(home: Home) -> Path:
    return home.daemon / "specs"
