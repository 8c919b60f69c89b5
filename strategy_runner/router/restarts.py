"""Restarts: what becomes of a position that is there when a router or a worker comes back after it was down.

Nobody watched the position meanwhile. What the strategy's `on_restart` says is written into the operator log as if a person had
said it: it holds until a person resumes, and no later restart forgets it.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from strategy_runner.risk.book import Book
from strategy_runner.risk.state import Latch
from strategy_runner.router.operator_log import Action, Request, record
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.router.stops import stops_after
from strategy_runner.tape.status import State, read_status

LOOK_INTERVAL_S = 0.5
GO_ON = "resume"
WHO = "on_restart"


class Restarts:
    """`policies` by strategy: `resume` goes on, `hold` and `ask` let no entries through until a person resumes, `flatten` makes
    flat and goes on."""

    def __init__(
        self, folder: Path, workers: Path, client: str, policies: Mapping[str, str], record: RiskRecord
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._client = client
        self._policies = dict(policies)
        self._record = record
        self._pids: dict[str, int] = {}
        self._is_begun = False
        self._next_look = 0.0

    def reload(self, policies: Mapping[str, str]) -> None:
        self._policies = dict(policies)

    def turn(self) -> None:
        """The first time all positions were unwatched, later those of workers that are other processes now. To be asked once it
        is known what was filled meanwhile."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL_S
        watched = [book for book in self._held() if self._policies.get(book.strategy, GO_ON) != GO_ON]
        came_back = {f"{book.strategy}.{book.symbol}" for book in watched if self._came_back(book)}
        if not self._is_begun:
            self._is_begun = True
            self._rule(watched, "the router")
        elif came_back:
            self._rule([book for book in watched if f"{book.strategy}.{book.symbol}" in came_back], "its worker")

    def _held(self) -> list[Book]:
        return [book for book in self._record.state.books.values() if book.quantity]

    def _came_back(self, book: Book) -> bool:
        """Whether a worker is another process than it was. One that was not there when the router began is not counted: its
        position was unwatched for both."""
        worker = f"{book.strategy}.{book.symbol}"
        status = read_status(self._workers / worker / "status")
        pid = status.pid if status is not None and status.state is not State.STOPPED and _is_there(status.pid) else 0
        known = self._pids.get(worker, 0)
        if pid:
            self._pids[worker] = pid
        return bool(known and pid and pid != known)

    def _rule(self, books: list[Book], what: str) -> None:
        requests: list[Request] = []
        for strategy in dict.fromkeys(book.strategy for book in books):
            policy = self._policies[strategy]
            held = ", ".join(f"{one.quantity} {one.symbol}" for one in books if one.strategy == strategy)
            reason = f"on_restart = {policy}: {what} came back, {strategy} holds {held}"
            if policy == "flatten":
                requests.append(Request(verb="flatten", strategy=strategy, reason=reason))
            else:
                requests.append(
                    Request(verb="halt", strategy=strategy, reason=reason + self._way_out(policy, strategy))
                )
        record(self._folder, requests, who=WHO, at_ns=time.time_ns(), is_wanted=_is_wanted)

    def _way_out(self, policy: str, strategy: str) -> str:
        if policy != "ask":
            return ""
        return f"; `strategy-runner flatten {self._client}:{strategy} --reason TEXT` gets out"


def _is_wanted(request: Request, known: Sequence[Action]) -> bool:
    """What a person has stopped stays as that person said it, which may be harder."""
    latches: list[Latch] = []
    for action in known:
        latches = stops_after(latches, action)
    scope = request.strategy, request.symbol
    return request.verb != "halt" or all((one.strategy, one.symbol) != scope for one in latches)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
