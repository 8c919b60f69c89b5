"""A live source for tests: rows as lines of JSON from a UNIX socket. What nobody takes in time is lost.

python line_source.py SPEC SOCKET [CHECKPOINT_RECORDS]      runs a feed of that spec on it, until it is stopped or killed
"""

import json
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from strategy_runner import assembly
from strategy_runner.config.spec import FeedSpec
from strategy_runner.feed import feed
from strategy_runner.feed.sources.interface import Raw, Sleep, Source
from strategy_runner.model.stream import Stream, trades


class LineSource:
    """It cannot be rewound."""

    rewinds = False

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._rest = b""
        self._is_over = False

    def base(self, symbol: str) -> Stream:
        return trades(symbol)

    def known_ns(self, symbol: str) -> None:
        return None

    def add(self, symbols: Iterable[str]) -> None:
        """The other end sends what it likes."""

    def next_ns(self) -> int | None:
        return None

    def wait(self, timeout_s: float, sleep: Sleep) -> None:
        sleep(timeout_s, None if self._is_over else self._socket.fileno())

    def take(self, limit: int, until_ns: int) -> list[Raw]:
        try:
            received = self._socket.recv(1 << 16)
        except BlockingIOError:
            return []
        self._is_over = not received  # the other end is gone: its socket can be read for ever
        self._rest += received
        *lines, self._rest = self._rest.split(b"\n")
        return [tuple(json.loads(line)) for line in lines]  # type: ignore[misc]

    def findings(self) -> list[str]:
        return []

    def state(self) -> Any:
        return {}

    def restore(self, state: Any) -> None:
        """Nothing can be had again."""


def main() -> int:
    def source(spec: FeedSpec) -> tuple[Source, float]:
        return LineSource(sys.argv[2]), 0.0

    assembly._source = source
    if len(sys.argv) > 3:
        feed.CHECKPOINT_RECORDS = int(sys.argv[3])
    return assembly.run([str(Path(sys.argv[1]))])


if __name__ == "__main__":
    sys.exit(main())
