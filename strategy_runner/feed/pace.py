"""The pace of a feed: how much event time is due, counted from its first record by the monotonic clock.

A step of the wall clock therefore neither floods the tape nor stalls it.
"""

FOREVER_NS = 1 << 62


class Pace:
    """`speed` is x real time, 0 as fast as it goes."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._anchor: tuple[int, int] | None = None

    def begin(self) -> None:
        """Counts anew from the next record: what was due meanwhile does not come at once."""
        self._anchor = None

    def until_ns(self, next_ns: int | None, monotonic_ns: int) -> int:
        """Event time up to which records are due; `next_ns` is that of the source's next record."""
        if not self._speed:
            return FOREVER_NS
        if self._anchor is None:
            if next_ns is None:
                return 0
            self._anchor = next_ns, monotonic_ns
        event_ns, began_ns = self._anchor
        return event_ns + int(min((monotonic_ns - began_ns) * self._speed, FOREVER_NS))

    def wait_s(self, next_ns: int | None, monotonic_ns: int) -> float | None:
        """How long the next record is not due yet; None if no time is known at which one will be."""
        if next_ns is None:
            return None
        if not self._speed:
            return 0.0
        if self._anchor is None:
            return None
        event_ns, began_ns = self._anchor
        return max(0.0, (began_ns + (next_ns - event_ns) / self._speed - monotonic_ns) / 1e9)
