"""What the feed asks of a source of raw records."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from strategy_runner.model.stream import Stream

# symbol, kind, event_ns, v0, v1, v2, v3, v4; kind is that of a trade, a quote, a bar of the base series, or a gap
Raw = tuple[str, int, int, float, float, float, float, float]

# sleeps so many seconds; less if the descriptor given can be read, or if other work has come for the feed
Sleep = Callable[[float, int | None], None]


class Source(Protocol):
    """Raw records in an order of its own.

    One that `rewinds` gives them in one total order that depends on nothing but its settings and state, and gives them again
    after `restore`; they are sound, made so or checked when they were read. One that does not is live: what the feed misses
    is lost, and becomes a gap on the tape. Its rows may be anything (feed/screen.py judges them), it never ends, and it keeps
    only so many rows for a feed that does not take them: what it drops it reports as a row of kind GAP, whose event_ns is the
    end of the gap, v0 its seconds and v1 its GapCause.
    """

    @property
    def rewinds(self) -> bool: ...

    def base(self, symbol: str) -> Stream:
        """The series that drives a symbol's clock, bars and predictions. Raises UsageError for an unknown symbol."""
        ...

    def known_ns(self, symbol: str) -> int | None:
        """Since when all records of that series are known, where it is a moment before the first that is given; else None."""
        ...

    def add(self, symbols: Iterable[str]) -> None:
        """Carries more symbols, from the present event time on (from the beginning before the first `take`)."""
        ...

    def next_ns(self) -> int | None:
        """Event time of the next record, or None when there is none: for a source that rewinds there will be no more.

        May read a file, never waits.
        """
        ...

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        """Sleeps until a live record may have come, at most for so long."""
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
        """Goes on from `state`, with the same settings; if it rewinds, exactly as if there had been no interruption."""
        ...
