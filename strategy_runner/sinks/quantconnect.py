"""The QuantConnect sink: accepted signals as CSV files that LEAN reads, one for each symbol, with our reader beside them.

    FOLDER/signal_data.py                     the reader, for any client and symbol
    FOLDER/signals/<client>/<SYMBOL>.csv      whole lines in strictly increasing time
    FOLDER/signals/<client>/.cursor           the next decision, and length and last time of each file

A batch is: append to each file and fdatasync, then replace the cursor. Whatever dies in between, the files are cut to
the cursor's lengths and the same bytes are written again, so a reader that polls sees every row once.
"""

import contextlib
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from strategy_runner.model.decision import Decision
from strategy_runner.sinks.interface import DeadLetter, DeadLetterBox, SinkUnavailable, assert_follows
from strategy_runner.sinks.quantconnect_file import cut_file, damage_of, extend_file
from strategy_runner.sinks.quantconnect_progress import (
    START,
    Progress,
    UnreadableProgress,
    load_progress,
    save_progress,
)
from strategy_runner.sinks.quantconnect_row import CsvRow, csv_row, file_name, goes_to_market
from strategy_runner.sinks.received_body import BodyRefused, read_body
from strategy_runner.small_files import replace_file

READER_NAME = "signal_data.py"

_log = logging.getLogger(__name__)


class QuantConnectSink:
    """A `Sink` over one client's folder of CSV files."""

    name = "quantconnect"

    def __init__(self, folder: Path, client: str, dead_letters: DeadLetterBox) -> None:
        self._reader = folder / READER_NAME
        self._folder = folder / "signals" / client
        self._cursor_path = self._folder / ".cursor"
        self._client = client
        self._dead_letters = dead_letters
        self._progress: Progress | None = None

    def cursor(self) -> int:
        return self._opened().next_number

    def write(self, decisions: Sequence[Decision]) -> None:
        progress = self._opened()
        assert_follows(decisions, progress.next_number)
        batches = self._rows_by_file(decisions, progress)
        marks = dict(progress.files)
        following = Progress(decisions[-1].number + 1, marks)
        try:
            for name, rows in batches.items():
                marks[name] = extend_file(self._folder / name, marks.get(name), rows)
            save_progress(self._cursor_path, following)
        except OSError as error:
            self._take_back(progress, batches)
            raise SinkUnavailable(f"{self._folder}: cannot write: {error}") from error
        self._progress = following

    def close(self) -> None:
        """Nothing is held open between writes; what was read from the disk is read again."""
        self._progress = None

    def _opened(self) -> Progress:
        if self._progress is None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                _ship_reader(self._reader)
                self._progress = self._recovered()
            except OSError as error:
                raise SinkUnavailable(f"{self._folder}: cannot open: {error}") from error
        return self._progress

    def _recovered(self) -> Progress:
        """The recorded progress with the files cut to it, or a new start if they do not hold what was recorded."""
        try:
            progress = load_progress(self._cursor_path)
        except UnreadableProgress as problem:
            return self._restarted(str(problem))
        for name, mark in progress.files.items():
            if problem_found := damage_of(self._folder / name, mark):
                return self._restarted(problem_found)
        for name, mark in progress.files.items():
            cut_file(self._folder / name, mark.length)
        return progress

    def _restarted(self, problem: str) -> Progress:
        """Each file stays for its readers until its first batch replaces it."""
        _log.warning("%s; rebuilding %s from decision 0", problem, self._folder)
        save_progress(self._cursor_path, START)
        return START

    def _take_back(self, progress: Progress, batches: dict[str, list[CsvRow]]) -> None:
        """No half a line may stay visible while we wait; what fails here is done when the sink opens again."""
        self._progress = None
        for name in batches.keys() & progress.files.keys():
            with contextlib.suppress(OSError):
                cut_file(self._folder / name, progress.files[name].length)

    def _rows_by_file(self, decisions: Sequence[Decision], progress: Progress) -> dict[str, list[CsvRow]]:
        batches: dict[str, list[CsvRow]] = {}
        owners = {name: mark.symbol for name, mark in progress.files.items()}
        for decision in decisions:
            if decision.verdict != "accepted" or decision.is_observed:
                continue
            try:
                body = read_body(decision, self._client)
                if not goes_to_market(body):
                    continue
                row = csv_row(decision, body)
                name = file_name(row.symbol)
                owner = owners.setdefault(name, row.symbol)
                if owner != row.symbol:
                    raise BodyRefused(f"symbol: expected {owner!r}, to which {name} belongs, found {row.symbol!r}")
            except BodyRefused as refused:
                letter = DeadLetter(
                    sink=self.name, number=decision.number, signal_id=decision.signal_id, problem=str(refused)
                )
                self._dead_letters(letter)
            else:
                batches.setdefault(name, []).append(row)
        return batches


def _ship_reader(path: Path) -> None:
    """Put the reader of this version at `path`. Raises OSError."""
    source = files("strategy_runner.sinks").joinpath("quantconnect_reader.py.txt").read_bytes()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == source:
            return
    replace_file(path, source, synced="name")
