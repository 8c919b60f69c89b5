"""What the feed asks of a source of raw records."""

from collections.abc import Iterable
from typing import Any, Protocol

from strategy_runner.model.stream import Stream

# symbol, kind, event_ns, v0, v1, v2, v3, v4
Raw = tuple[str, int, int, float, float, float, float, float]


class Source(Protocol):
    """Raw records in one total order that depends on nothing but the source's own settings and state."""

    def base(self, symbol: str) -> Stream:
        """The series that drives a symbol's clock, bars and predictions. Raises UsageError for an unknown symbol."""
        ...

    def add(self, symbols: Iterable[str]) -> None:
        """Carries more symbols, from the present event time on (from the beginning before the first `take`)."""
        ...

    def next_ns(self) -> int | None:
        """Event time of the next record, or None when there will be no more. May read a file, never waits."""
        ...

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        """At most `limit` records with an event time of at most `until_ns`."""
        ...

    def findings(self) -> list[str]:
        """What is wrong in what was read so far: a line for each series, for the feed's log."""
        ...

    def state(self) -> Any:
        """Where the source stands, as plain numbers, strings, lists and dicts."""
        ...

    def restore(self, state: Any) -> None:
        """Goes on from `state`, with the same settings, exactly as if there had been no interruption."""
        ...
