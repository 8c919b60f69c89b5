"""The operator's word in the router: it follows the operator log, and what was asked holds from the next decision on.

A halt or resume changes the risk state, which survives crashes; what concerns orders is handed to the desk, which carries it out
once, whatever dies. Without a route to an OMS nothing is ordered, and the log itself says what is stopped.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from strategy_runner.risk import events
from strategy_runner.risk.breakers import BREAKERS, strictest
from strategy_runner.risk.state import Latch, Posture
from strategy_runner.router.acknowledgement import Acknowledgement, read_acknowledgement, write_acknowledgement
from strategy_runner.router.breaker_log import BreakerLog
from strategy_runner.router.lost_stops import LostStops
from strategy_runner.router.operator_log import Action, ActionReader, refuse_loss
from strategy_runner.router.order_entry import Scope
from strategy_runner.router.restarts import Restarts
from strategy_runner.router.stops import stops_after
from strategy_runner.router.trading import Trading
from strategy_runner.tape.files import is_full

log = logging.getLogger(__name__)


class Operator:
    """`folder` is the router's, and the operator log lies beside it. `on_restart` says by strategy what becomes of a position
    that is there when trading comes back; `workers` is where their folders are."""

    def __init__(
        self, folder: Path, workers: Path, *, client: str, trading: Trading | None, on_restart: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._trading = trading
        self._reader = ActionReader(folder.parent)
        self._breakers = BreakerLog(folder)
        self._restarts = (
            Restarts(folder.parent, workers, client, on_restart, trading.record) if trading is not None else None
        )
        self._lost_stops = LostStops(folder.parent, trading.desk) if trading is not None else None
        self._latches: list[Latch] = []
        before = read_acknowledgement(folder)
        self._known = before.taken if before is not None else 0
        self._word = Acknowledgement(pid=os.getpid())
        self._is_told = False
        self._taken = 0
        self._under_way: deque[int] = deque()

    def turn(self) -> None:
        """Takes what is new. Raises OSError, StateError: who cannot read what people ask must not trade."""
        if self._restarts is not None and self._trading is not None and self._trading.is_heard:
            self._restarts.turn()
        if self._lost_stops is not None:
            self._lost_stops.turn()
        actions = self._reader.read()
        if actions:
            self._reader.sync()
        for action in actions:
            self._take(action)
        if not actions and self._taken < self._known:
            refuse_loss(self._folder.parent, self._taken)
        if actions and self._trading is not None:
            self._trading.record.note(force=True)
        self._breakers.note(self._trading.record.state.latches if self._trading is not None else self._latches)
        self._acknowledge()

    def reload(self, on_restart: Mapping[str, str]) -> None:
        if self._restarts is not None:
            self._restarts.reload(on_restart)

    def refusal(self, strategy: str, symbol: str, *, is_exit: bool) -> str:
        """Why a worker's signal may not pass where there is no risk state, "" if it may."""
        latch = strictest(self._latches, strategy, symbol) if self._latches else None
        if latch is None or (is_exit and latch.posture is Posture.REDUCING):
            return ""
        return BREAKERS[latch.breaker].refusal

    def _take(self, action: Action) -> None:
        self._taken = action.number
        if self._trading is None:
            self._latches = stops_after(self._latches, action)
        else:
            self._limit(action, self._trading)
            self._order(action, self._trading)
        asked = action.request
        if asked.verb != "configure" and action.number > self._known:
            log.warning("operator: action %d: %s%s: %s", action.number, asked.verb, asked.scope, asked.reason)

    def _limit(self, action: Action, trading: Trading) -> None:
        if action.number <= trading.record.state.acted:
            return
        asked, at_ns = action.request, time.time_ns()
        if asked.verb == "halt":
            trading.record.take(
                events.Stopped(
                    at_ns=at_ns,
                    authority="operator",
                    posture="halted" if asked.is_hard else "reducing",
                    strategy=asked.strategy,
                    symbol=asked.symbol,
                    reason=asked.reason,
                    action=action.number,
                )
            )
        elif asked.verb == "resume":
            trading.record.take(
                events.Resumed(
                    at_ns=at_ns,
                    authority="operator",
                    strategy=asked.strategy,
                    symbol=asked.symbol,
                    reason=asked.reason,
                    action=action.number,
                )
            )

    def _order(self, action: Action, trading: Trading) -> None:
        """The desk knows which actions it has carried out, and passes over those."""
        asked, desk = action.request, trading.desk
        scope = Scope(asked.strategy, asked.symbol)
        if asked.verb == "halt":
            desk.cancel_entries(action.number, scope)
        elif asked.verb == "flatten":
            desk.flatten(action.number, scope)
        elif asked.verb == "reconcile":
            desk.reconcile(action.number, accept=asked.accepts)
        else:
            return
        self._under_way.append(action.number)

    def _acknowledge(self) -> None:
        """A full disk keeps the word back, and nothing else."""
        while self._trading is not None and self._under_way and self._trading.desk.acted >= self._under_way[0]:
            self._under_way.popleft()
        if self._taken < self._known:
            return  # it begins, and reads again what it has acted on
        acted = self._under_way[0] - 1 if self._under_way else self._taken
        word = Acknowledgement(pid=self._word.pid, taken=self._taken, acted=acted)
        if word == self._word and self._is_told:
            return
        try:
            write_acknowledgement(self._folder, word)
            self._word, self._is_told = word, True
        except OSError as error:
            if not is_full(error):
                raise
