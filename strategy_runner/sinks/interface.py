"""The Sink interface: what the router asks of every destination, and what a destination may answer.

A sink owns its cursor and moves it together with its data, so a `kill -9` at any moment loses nothing and repeats
nothing: the router asks where to go on and hands over the decisions from there.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from strategy_runner.errors import StrategyRunnerError
from strategy_runner.model.decision import Decision


class SinkUnavailable(StrategyRunnerError):  # noqa: N818  a state of the world to wait out, not a fault of ours
    """The destination cannot take decisions now: disk full, file locked, service down. Try again later.

    The batch may or may not have arrived: ask `cursor()` again before the next `write`.
    """


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A decision one sink will never take, and why. The same one may be reported again after a crash."""

    sink: str
    number: int
    signal_id: str
    problem: str


DeadLetterBox = Callable[[DeadLetter], None]
"""Takes a dead letter and keeps it durably before it returns; (sink, number) tells a repeated one.

A sink calls it before its cursor passes the decision, so a crash between the two repeats a dead letter, never loses it.
"""


class Sink(Protocol):
    """One destination of one client's decisions. Used from a single thread; every method may block on the disk."""

    @property
    def name(self) -> str:
        """Stable name of the destination: `duckdb`, `quantconnect`."""
        ...

    def cursor(self) -> int:
        """Number of the next decision this sink needs; 0 at first, and again when its data must be rebuilt.

        Raises SinkUnavailable.
        """
        ...

    def write(self, decisions: Sequence[Decision]) -> None:
        """Keep `decisions`: not empty, dense, in order, the first one's number equal to `cursor()`.

        When it returns, they and the cursor are durable together. Raises SinkUnavailable; then nothing half-written is
        visible, and `cursor()` says where to go on.
        """
        ...

    def close(self) -> None:
        """Release files. A closed sink opens itself again when it is used."""
        ...


class SqlSession(Protocol):
    """Answers questions about what a sink holds; may be called from any thread, beside the writer."""

    def query(self, sql: str, limit: int, timeout_s: float) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names, and at most `limit` rows, of one statement that only reads.

        Raises UsageError if it does more than read or is no SQL, TimeoutExpiredError, SinkUnavailable.
        """
        ...


def assert_follows(decisions: Sequence[Decision], cursor: int) -> None:
    """What `Sink.write` may trust its caller with: dense numbers from the cursor on."""
    assert decisions, "expected at least one decision"
    assert decisions[0].number == cursor, f"expected decision {cursor}, found {decisions[0].number}"
    assert decisions[-1].number == cursor + len(decisions) - 1, "expected dense decision numbers"
