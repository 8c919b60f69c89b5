"""Delivery: one thread per sink takes the decisions that are durable, from the sink's own cursor on.

A sink that is down is tried again and holds nobody up; the router never waits for one.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from strategy_runner.errors import StateError, StrategyRunnerError
from strategy_runner.model.counted import counted
from strategy_runner.model.decision import Decision
from strategy_runner.router.journal import DecisionReader
from strategy_runner.router.right_of_way import GiveWay, no_way_given
from strategy_runner.sinks.interface import Sink

RETRY_S_MIN = 0.2
RETRY_S_MAX = 30.0
# of a quarter of a megabyte each: a database asks for as much work to begin a statement as for thousands of rows
BATCH_READS = 8

log = logging.getLogger(__name__)


class Delivery:
    """Opens the sink in its own thread, since opening may be slow, and feeds it until `stop`."""

    def __init__(self, name: str, open_sink: Callable[[], Sink], journal: Path, *, pause_s: float) -> None:
        """`pause_s` is the least time between two writes, but for a sink that is behind: many small commits cost a database more
        than they give."""
        self.name = name
        self.cursor = 0
        self.fault = ""
        self._open_sink = open_sink
        self._journal = journal
        self._pause_s = pause_s
        self._retry_s = RETRY_S_MIN
        self._below = 0
        self._give_way: GiveWay = no_way_given
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self, give_way: GiveWay = no_way_given) -> None:
        self._give_way = give_way
        self._thread.start()

    def advance(self, below: int) -> None:
        """Decisions below this offset of the log are durable and may be delivered."""
        if below > self._below:
            self._below = below
            self._news.set()

    def finish(self) -> None:
        """Whatever is durable by now is the last that comes."""
        self._stopping.set()
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Lets the sink finish what is durable, at most for the time given."""
        self.finish()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                sink = self._open_sink()
                try:
                    self._deliver(sink)
                finally:
                    sink.close()
                return
            except StrategyRunnerError as error:
                self.fault = str(error)
                log.warning("sink %s: %s; next try in %.1f s", self.name, error, self._retry_s)
            except Exception as error:
                self.fault = f"{type(error).__name__}: {error}"
                log.exception("sink %s failed; next try in %.1f s", self.name, self._retry_s)
            if self._stopping.wait(self._retry_s):
                return
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)

    def _deliver(self, sink: Sink) -> None:
        self.cursor = sink.cursor()
        reader = DecisionReader(self._journal, self.cursor)
        try:
            while True:
                self._news.clear()
                stopping = self._stopping.is_set()
                reads = self._hand_over(sink, reader)
                if reads:
                    self.fault, self._retry_s = "", RETRY_S_MIN
                    is_behind = reads == BATCH_READS
                    self._stopping.wait(0 if stopping or is_behind else self._pause_s)
                elif self._below and reader.number < self.cursor:
                    raise StateError(
                        f"{self._journal}: expected the {counted(self.cursor, 'decision')} that the sink has, "
                        f"found {reader.number}"
                    )
                elif stopping:
                    return
                else:
                    self._news.wait()
        finally:
            reader.close()

    def _hand_over(self, sink: Sink, reader: DecisionReader) -> int:
        """Gives the sink what is durable, and returns how many reads that took: BATCH_READS if there may be more."""
        decisions: list[Decision] = []
        reads, below = 0, self._below
        while reads < BATCH_READS and (found := reader.read(below=below)):
            decisions += found
            reads += 1
            self._give_way()
        if decisions:
            sink.write(decisions)
            self.cursor = decisions[-1].number + 1
        return reads
