"""The end of a run: the market ends, and all that follows from its records comes to rest before the oracle looks.

First the feed goes on without a market, for fills become records; then it ends, and workers, routers and sinks catch up.
"""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.entry import CLOSED
from faults.home import PATIENCE_S, FaultyHome, Stuck, is_done, position_of, send, signals_of, until
from faults.order_oracle import Books, decisions_of, unsettled

from strategy_runner.config.spec import RouterSpec, WorkerSpec
from strategy_runner.model.names import FEED_NAME
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.status import read_status

LOOK_S = 0.1  # it reads every book from its beginning


def close_market(home: FaultyHome) -> None:
    (home.watched / CLOSED).touch()


def settle(home: FaultyHome, patience_s: float = PATIENCE_S) -> None:
    """Raises Stuck, with the first thing that did not come to rest."""
    until(lambda: home.published() is not None, "a feed that runs")
    close_market(home)
    come_to_rest(lambda: restless(home.workers, home.routers, home.tape, home.books), patience_s)
    pid = until(lambda: home.pids().get(FEED_NAME), "a feed that runs")
    send(pid, signal.SIGTERM)
    until(lambda: not home.pids().get(FEED_NAME), "the feed's clean end")
    come_to_rest(lambda: restless(home.workers, home.routers, home.tape, home.books), patience_s)


def come_to_rest(moving: Callable[[], str], patience_s: float) -> None:
    """`moving` names what is not at rest yet. Twice, since what rests may have been set going by what was looked at before."""
    deadline = time.monotonic() + patience_s
    times = 0
    while times < 2:
        what = moving()
        times = 0 if what else times + 1
        if time.monotonic() > deadline:
            raise Stuck(f"expected rest within {patience_s:g} s, found {what}")
        time.sleep(LOOK_S)


def restless(workers: Sequence[WorkerSpec], routers: Sequence[RouterSpec], tape: Path, books: Path) -> str:
    """What has not read, decided, delivered or traded all there is; "" if everything has."""
    head = Head(head_path(tape))
    if head.durable < head.count:
        return "the durable mark"
    for worker in workers:
        if position_of(worker) != head.count:
            return f"{worker.key.name} at {position_of(worker)} of {head.count}"
    for router in routers:
        signals = sum(1 for worker in workers if worker.client == router.client for _ in signals_of(worker))
        if not is_done(router, signals):
            return f"{router.client}:router, with {signals} signals to decide and deliver"
        if router.oms is not None:
            oms = read_status(books / "status")
            if oms is None or oms.position < head.count:
                return f"the OMS at {oms.position if oms else 'no place'} of {head.count}"
            if what := unsettled(Books(router, books / router.client, decisions_of(router))):
                return f"{router.client}: {what}"
    return ""
