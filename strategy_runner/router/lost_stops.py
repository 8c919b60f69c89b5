"""Lost stops: a worker whose stop loss the OMS rejected, or which ended before what it was to protect, is made flat, since nobody
watches what it holds.

What it is entering is cancelled, and what it holds exits to the market: by an action in the operator log, as if a person had said
it, so that it is carried out once, whatever dies, and can be read.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from strategy_runner.router.desk import Desk
from strategy_runner.router.operator_log import Action, Request, record
from strategy_runner.router.order_book import LostStop
from strategy_runner.tape.files import is_full

WHO = "lost_stop"
TRY_AGAIN_S = 0.5

log = logging.getLogger(__name__)


class LostStops:
    """`folder` is that of the client's run. `turn` asks for each lost stop once; until the desk has taken it in, it is told of it
    still."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self._folder = folder
        self._desk = desk
        self._asked: tuple[LostStop, ...] = ()
        self._next_try = 0.0

    def turn(self) -> None:
        lost = self._desk.lost_stops
        if lost == self._asked or time.monotonic() < self._next_try:
            return
        acted, new = self._desk.acted, [one for one in lost if one not in self._asked]

        def is_wanted(request: Request, known: Sequence[Action]) -> bool:
            """A process before this one may have asked."""
            scope = request.strategy, request.symbol
            asked = [one.request for one in known if one.number > acted and one.request.verb == "flatten"]
            return all((one.strategy, one.symbol) != scope for one in asked)

        try:
            record(self._folder, [_flattening(one) for one in new], who=WHO, at_ns=time.time_ns(), is_wanted=is_wanted)
        except OSError as error:
            if not is_full(error):
                raise
            log.error("operator log: %s; a lost stop is exited when there is space", error.strerror)
            self._next_try = time.monotonic() + TRY_AGAIN_S
            return
        self._asked = lost


def _flattening(lost: LostStop) -> Request:
    reason = f"its stop loss is lost: {lost.reason}"
    return Request(verb="flatten", strategy=lost.scope.strategy, symbol=lost.scope.symbol, reason=reason)
