"""An interruption of a live source: which symbols may miss records, and since when.

Nobody knows how long a gap is before the next row of its symbol comes. Until then the interruption is kept in mind; a feed
that is killed meanwhile begins another one, which starts at the same last row.
"""

from collections.abc import Iterable, Mapping

from strategy_runner.feed.sources.interface import Raw
from strategy_runner.model.record import GapCause, Kind

NAN = float("nan")


class Interruption:
    """Symbols whose next row ends a gap."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, GapCause]] = {}

    def begin(self, last_ns: Mapping[tuple[str, int], int], cause: GapCause) -> None:
        """Rows may be missing of every symbol that had one; `last_ns` is by symbol and kind, the last that was kept."""
        for (symbol, _), event_ns in last_ns.items():
            since_ns, first_cause = self._since.get(symbol, (event_ns, cause))
            self._since[symbol] = max(since_ns, event_ns), first_cause

    def mark(self, rows: Iterable[Raw]) -> Iterable[Raw]:
        """The rows, before the first of each symbol concerned the gap that it ends."""
        if not self._since:
            return rows
        marked: list[Raw] = []
        for row in rows:
            since = self._since.pop(row[0], None)
            if since is not None:
                since_ns, cause = since
                seconds = max(0, row[2] - since_ns) / 1e9
                marked.append((row[0], int(Kind.GAP), row[2], seconds, float(cause), NAN, NAN, NAN))
            marked.append(row)
        return marked
