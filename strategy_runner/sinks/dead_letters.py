"""Dead letters on the disk: what a sink refused for good, kept beside the decisions."""

import logging
import threading
from pathlib import Path

import msgspec

from strategy_runner.sinks.interface import DeadLetter, SinkUnavailable
from strategy_runner.tape.logs import AppendLog

log = logging.getLogger(__name__)


class DeadLetterLog:
    """Keeps what a sink refused for good, durably, before the sink goes on. Several sinks share it, each in its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: AppendLog | None = None
        self._writing = threading.Lock()

    def __call__(self, letter: DeadLetter) -> None:
        """Raises SinkUnavailable while the disk does not take it: the sink waits, and nothing is passed over."""
        log.warning("sink %s refused signal %s for good: %s", letter.sink, letter.signal_id, letter.problem)
        with self._writing:
            try:
                if self._log is None:
                    self._log = AppendLog(self._path)
                self._log.append(msgspec.msgpack.encode(letter))
                self._log.sync()
            except OSError as error:
                if self._log is not None:
                    self._log.close()  # what a failed sync dropped is written again, not synced again
                    self._log = None
                raise SinkUnavailable(f"{self._path}: cannot keep a dead letter: {error}") from error
