"""What a symbol cost last in a run over history, which leaves no tape to ask: each worker keeps it beside its log."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from strategy_runner.small_files import paths_in

_FILE = "last_price.json"


class LastPrice(msgspec.Struct, frozen=True):
    """`event_ns` is how far the worker's history had come."""

    event_ns: int
    price: float


def keep_last_price(folder: Path, last: LastPrice) -> None:
    """`folder` is a worker's."""
    (folder / _FILE).write_bytes(msgspec.json.encode(last))


def last_prices(workers: Path) -> Callable[[str], float | None]:
    """Says the last price of a symbol, or None. Of several workers of it, the one whose history went furthest knows."""

    def look(symbol: str) -> float | None:
        found: list[LastPrice] = []
        for folder in paths_in(workers):
            if folder.name.partition(".")[2] == symbol:
                with suppress(FileNotFoundError):  # it is still under way, or has met no price
                    found.append(msgspec.json.decode((folder / _FILE).read_bytes(), type=LastPrice))
        return max(found, key=lambda last: last.event_ns).price if found else None

    return look
