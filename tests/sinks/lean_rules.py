"""How LEAN reads a custom CSV file, in a backtest and while polling live (from its source; LEAN itself cannot run here)."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

TODAY = datetime(2023, 11, 14)


def backtest(data_type: type[Any], config: Any, object_store: Path) -> list[Any]:
    """The file is read once; a row whose end_time goes back is dropped, equal times are kept."""
    source = data_type().get_source(config, TODAY, False)
    assert source.medium.name == "OBJECT_STORE"
    delivered: list[Any] = []
    for row in _rows(data_type, config, object_store / source.source, is_live=False):
        if not delivered or row.end_time >= delivered[-1].end_time:
            delivered.append(row)
    return delivered


class RemoteFilePolling:
    """Each poll downloads the whole file again; a row later than everything emitted by earlier polls is emitted."""

    def __init__(self, data_type: type[Any], config: Any, served: Path) -> None:
        assert data_type().get_source(config, TODAY, True).medium.name == "REMOTE_FILE"
        self._data_type = data_type
        self._config = config
        self._served = served
        self._frontier = datetime.min
        self.delivered: list[Any] = []

    def poll(self) -> None:
        last = self._frontier
        for row in _rows(self._data_type, self._config, self._served, is_live=True):
            if row.end_time > self._frontier and row.end_time >= last:
                self.delivered.append(row)
                last = row.end_time
        self._frontier = last


class ObjectStorePolling:
    """The frontier moves row by row, and the first row that is not later ends the pass."""

    def __init__(self, data_type: type[Any], config: Any, stored: Path) -> None:
        self._data_type = data_type
        self._config = config
        self._stored = stored
        self._frontier = datetime.min
        self.delivered: list[Any] = []

    def poll(self) -> None:
        for row in _rows(self._data_type, self._config, self._stored, is_live=True):
            if row.end_time <= self._frontier:
                return
            self.delivered.append(row)
            self._frontier = row.end_time


def _rows(data_type: type[Any], config: Any, path: Path, *, is_live: bool) -> Iterator[Any]:
    """One fresh reader for all lines, as LEAN does; what it returns None for is skipped."""
    reader = data_type()
    for line in path.read_text().splitlines():
        row = reader.reader(config, line, TODAY, is_live)
        if row is not None:
            yield row
