"""Operating: what a person asks of clients' trading, written down for each of them, and seen to that it holds.

A router that does not answer in time is ended: it decides nothing any more, and the one that supervisord starts in its place
reads what was asked before it decides anything.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import unknown_client
from strategy_runner.errors import StateError, StrategyRunnerError, UsageError, sparing
from strategy_runner.model.names import router_name
from strategy_runner.risk.state import Latch
from strategy_runner.router.acknowledgement import read_acknowledgement
from strategy_runner.router.operator_log import Action, Request, record
from strategy_runner.router.order_journal import order_log
from strategy_runner.router.stops import read_stops
from strategy_runner.supervision.control import Daemon
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import known_clients, operated_mode, operator_name
from strategy_runner.tape.lock import holder

ANSWER_S = 1.0
END_S = 1.0
COME_BACK_S = 10.0
ORDERS_S = 10.0
_COMING = ("STARTING", "RUNNING", "BACKOFF", "EXITED")
LOOK_INTERVAL_S = 0.01

Outcome = Literal[
    "in force",
    "at the next start",
    "taken, its orders not yet",
    "router ended, nothing trades",
    "its router does not run, the next one begins with it",
    "its router neither answers nor ends",
    "not recorded",
]


class Operated(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one client's part. `ended_router` is the process that was ended because it did not answer, 0 for none.
    Of what could not be recorded, `problem` says why; it has no number, and no mode where not even that could be read."""

    client: str
    mode: str
    scope: str
    number: int
    outcome: Outcome
    ended_router: int
    took_s: float
    problem: str = ""


def operate(home: Home, targets: list[Target], request: Request, *, but: Collection[str] = ()) -> list[Operated]:
    """Records a request for every client that a target names, `but` some, on the disk, and waits until it is in force there.

    Where it cannot be recorded for one client, it is for all others. Raises UsageError for a target that is none of the run's, or
    a client that never ran; then nothing is recorded.
    """
    found = [(target, *_found(home, target)) for target in targets]
    began = time.monotonic()
    recorded, failed = [], []
    for target, runs, unread in found:
        asked = msgspec.structs.replace(request, strategy=target.strategy or "", symbol=target.symbol or "")
        failed += [_not_recorded(client, "", asked, error) for client, error in unread.items()]
        for client, mode in runs:
            if client in but:
                continue
            try:
                (action,) = record(home.client_state(client, mode), [asked], who=operator_name(), at_ns=time.time_ns())
                recorded.append((client, mode, action))
            except (StrategyRunnerError, OSError) as error:
                failed.append(_not_recorded(client, mode, asked, error))
    ended = _end_hung(home, recorded, began + ANSWER_S)
    return failed + [
        _operated(home, client, mode, action, ended.get(client), began) for client, mode, action in recorded
    ]


def clients_of(home: Home, target: Target) -> list[str]:
    """The clients that have run and that a target names. Raises UsageError for a target that names nothing."""
    runs, unread = _found(home, target)
    return sorted([*(client for client, _ in runs), *unread])


def stops(home: Home, target: Target, faults: list[StrategyRunnerError]) -> dict[str, tuple[Latch, ...]]:
    """What stops the run of each client that a target names; `faults` gets why it cannot be read of one. Raises UsageError."""
    runs, unread = _found(home, target)
    for error in unread.values():
        with sparing(faults):
            raise error
    found: dict[str, tuple[Latch, ...]] = {}
    for client, mode in runs:
        with sparing(faults):
            found[client] = read_stops(home.client_state(client, mode), client, mode)
    return found


def concerns(target: Target, latch: Latch) -> bool:
    """Whether a stop and a target have a worker in common."""
    both = ((target.strategy, latch.strategy), (target.symbol, latch.symbol))
    return all(asked is None or not stopped or asked == stopped for asked, stopped in both)


def has_orders(home: Home, client: str) -> bool:
    """Whether the orders of a client's run go to an OMS; of one that cannot be told which it is, they may."""
    try:
        mode = operated_mode(home, client)
    except (StateError, OSError):
        return True
    return mode is not None and order_log(home.router(client, mode)).exists()


# -- inside ------------------------------------------------------------------------------------------------------------


def _found(home: Home, target: Target) -> tuple[list[tuple[str, str]], dict[str, StateError | OSError]]:
    """(client, mode) of the run of each client that a target names: the one under way, else the latest that the next one goes on
    with; and why it cannot be read which that is, by client. Raises UsageError."""
    known = known_clients(home)
    if target.program is not None:
        raise UsageError(f"{target}: expected CLIENT, CLIENT:STRATEGY, CLIENT:STRATEGY:SYMBOL, CLIENT:*:SYMBOL or all")
    if target.client is not None and target.client not in known:
        raise unknown_client(home, target.client, known)
    runs: list[tuple[str, str]] = []
    unread: dict[str, StateError | OSError] = {}
    for client in known if target.client is None else [target.client]:
        try:
            mode = operated_mode(home, client)
        except (StateError, OSError) as error:
            unread[client] = error
            continue
        if mode is not None:
            _check_worker(home, client, mode, target)
            runs.append((client, mode))
    if not runs and not unread:
        raise UsageError(
            f"{target}: expected a client that runs, or has a run that its next start goes on with, found none; start it first"
        )
    return runs, unread


def _check_worker(home: Home, client: str, mode: str, target: Target) -> None:
    """A word with a typing error in it must not be taken for a stop."""
    if target.client is None:
        return
    folder = home.client_state(client, mode) / "workers"
    workers = {path.stem for path in (home.daemon / "specs" / client).glob("*.json")} - {"router"}
    workers |= {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    if workers and not any(target.matches(f"{client}:{worker}") for worker in workers):
        raise UsageError(f"{target}: expected a worker of {client}, one of {', '.join(sorted(workers))}")


def _not_recorded(client: str, mode: str, asked: Request, error: Exception) -> Operated:
    return Operated(
        client=client,
        mode=mode,
        scope=asked.scope,
        number=0,
        outcome="not recorded",
        ended_router=0,
        took_s=0.0,
        problem=str(error),
    )


class _Ended(msgspec.Struct, frozen=True):
    pid: int
    at: float


def _end_hung(home: Home, recorded: list[tuple[str, str, Action]], deadline: float) -> dict[str, _Ended]:
    """Ends the routers that have not taken their action by the deadline, by client."""
    ended = {}
    for client, mode, action in recorded:
        folder = home.router(client, mode)
        if _await(partial(_has_taken_or_ended, folder, action), deadline):
            continue
        pid = holder(folder)
        if pid and _end(folder, pid):
            ended[client] = _Ended(pid, time.monotonic())
    return ended


def _end(folder: Path, pid: int) -> bool:
    """Whether a process holds its folder no longer. One that waits for its disk may outlive this, and so may another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    return _await(lambda: holder(folder) != pid, time.monotonic() + END_S)


def _operated(home: Home, client: str, mode: str, action: Action, ended: _Ended | None, began: float) -> Operated:
    """What is asked of a router that was ended is in force when it is: nothing trades then."""
    folder = home.router(client, mode)
    outcome: Outcome = "in force"
    if ended is None and not holder(folder) and not _is_to_run(home, client):
        outcome = "at the next start"
    elif not _await(partial(_has_taken, folder, action), time.monotonic() + COME_BACK_S):
        outcome = _untaken(folder, ended)
    took_s = (ended.at if ended else time.monotonic()) - began
    if outcome == "in force" and not _await(partial(_has_acted, folder, action), time.monotonic() + ORDERS_S):
        outcome = "taken, its orders not yet"
    return Operated(
        client=client,
        mode=mode,
        scope=action.request.scope,
        number=action.number,
        outcome=outcome,
        ended_router=ended.pid if ended else 0,
        took_s=round(took_s, 3),
    )


def _untaken(folder: Path, ended: _Ended | None) -> Outcome:
    """Why nobody took an action: whoever comes reads it before it decides anything."""
    if ended is not None:
        return "router ended, nothing trades"
    return (
        "its router neither answers nor ends"
        if holder(folder)
        else "its router does not run, the next one begins with it"
    )


def _is_to_run(home: Home, client: str) -> bool:
    """Whether a daemon is about to start the client's router again."""
    try:
        daemon = Daemon(home)
        reports = daemon.processes() if daemon.is_running() else ()
    except StrategyRunnerError:
        return False  # who cannot be asked starts nothing
    return any(one.full_name == router_name(client) and one.state in _COMING for one in reports)


def _has_taken(folder: Path, action: Action) -> bool:
    word = read_acknowledgement(folder)
    return word is not None and word.taken >= action.number and word.pid == holder(folder)


def _has_taken_or_ended(folder: Path, action: Action) -> bool:
    return _has_taken(folder, action) or not holder(folder)


def _has_acted(folder: Path, action: Action) -> bool:
    word = read_acknowledgement(folder)
    return word is not None and word.acted >= action.number


def _await(holds: Callable[[], object], deadline: float) -> bool:
    while not holds():
        if time.monotonic() >= deadline:
            return False
        select.select([], [], [], LOOK_INTERVAL_S)
    return True
