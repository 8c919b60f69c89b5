"""The DuckDB sink: every decision of one client as rows for analysts, and the cursor in the same transaction.

DuckDB lets one process open a file, so the router shares this object: it writes from one thread and answers SQL from
another. (Not named duckdb.py: run from this folder, such a file would hide the library.)
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from strategy_runner.model.decision import Decision
from strategy_runner.sinks.duckdb_file import is_damage, open_database, set_aside
from strategy_runner.sinks.duckdb_query import QUERY_TIMEOUT_S, run_query
from strategy_runner.sinks.duckdb_rows import check_storable, columns
from strategy_runner.sinks.duckdb_schema import INSERT_MODELS, INSERT_SIGNALS
from strategy_runner.sinks.interface import DeadLetter, DeadLetterBox, SinkUnavailable, assert_follows
from strategy_runner.sinks.received_body import BodyRefused, read_body

# What an INSERT says of a body that it cannot read, or of a row that the table does not take.
_REFUSALS = (
    OverflowError,
    UnicodeDecodeError,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.ConstraintException,
)


class DuckDbSink:
    """A `Sink` and a `SqlSession` over one file."""

    name = "duckdb"

    def __init__(self, path: Path, client: str, dead_letters: DeadLetterBox) -> None:
        self._path = path
        self._client = client
        self._dead_letters = dead_letters
        self._opening = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._next: int | None = None
        self._damage = ""

    def cursor(self) -> int:
        if self._next is None:
            try:
                self._next = _watermark(self._opened())
            except duckdb.Error as error:
                raise self._failed("cannot read the watermark", error) from error
        return self._next

    def write(self, decisions: Sequence[Decision]) -> None:
        assert_follows(decisions, self.cursor())
        following = decisions[-1].number + 1
        try:
            with self._opened().cursor() as cursor:
                cursor.execute("BEGIN")
                self._insert(cursor, decisions)
                cursor.execute("INSERT INTO watermark VALUES (?)", [following])
                cursor.execute("COMMIT")
        except duckdb.Error as error:
            # The commit may have landed all the same (DuckDB says so when only its checkpoint failed): read it again.
            problem = f"cannot write decisions {decisions[0].number} to {following - 1}"
            raise self._failed(problem, error) from error
        self._next = following

    def query(
        self, sql: str, limit: int, timeout_s: float = QUERY_TIMEOUT_S
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """See `SqlSession.query`. TIMESTAMPTZ values come as datetimes in UTC."""
        return run_query(self._opened(), sql, limit, timeout_s)

    def close(self) -> None:
        with self._opening:
            if self._database is not None:
                self._database.close()
            self._database = None
            self._next = None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._database is None:
                if self._damage:
                    self._set_damage_aside()
                self._database = open_database(self._path, self._client)
            return self._database

    def _failed(self, problem: str, error: duckdb.Error) -> SinkUnavailable:
        """Forget the connection: after some errors DuckDB serves nothing until the file is opened again."""
        self.close()
        if is_damage(error):
            self._damage = str(error)
        return SinkUnavailable(f"{self._path}: {problem}: {error}")

    def _set_damage_aside(self) -> None:
        try:
            set_aside(self._path, self._damage)
        except OSError as error:
            raise SinkUnavailable(f"{self._path}: cannot set the damaged file aside: {error}") from error
        self._damage = ""

    def _insert(self, cursor: duckdb.DuckDBPyConnection, decisions: Sequence[Decision]) -> None:
        """All, or without those that can never be kept. These are looked for only where the database refuses some."""
        try:
            self._insert_all(cursor, decisions)
        except _REFUSALS:
            storable = self._storable(decisions)
            if len(storable) == len(decisions):
                raise
            cursor.execute("ROLLBACK")
            cursor.execute("BEGIN")
            self._insert_all(cursor, storable)

    def _insert_all(self, cursor: duckdb.DuckDBPyConnection, decisions: Sequence[Decision]) -> None:
        if not decisions:
            return
        batch = columns(decisions)
        cursor.register("decisions", batch)  # the cursor's own, and gone with it
        cursor.execute(INSERT_SIGNALS, [self._client])
        if batch["has_models"].any():
            cursor.execute(INSERT_MODELS)

    def _storable(self, decisions: Sequence[Decision]) -> list[Decision]:
        storable: list[Decision] = []
        for decision in decisions:
            try:
                check_storable(decision, read_body(decision, self._client))
            except BodyRefused as refused:
                letter = DeadLetter(
                    sink=self.name, number=decision.number, signal_id=decision.signal_id, problem=str(refused)
                )
                self._dead_letters(letter)
            else:
                storable.append(decision)
        return storable


def _watermark(database: duckdb.DuckDBPyConnection) -> int:
    with database.cursor() as cursor:
        row = cursor.execute("SELECT coalesce(max(next_number), 0) FROM watermark").fetchone()
    assert row is not None
    return int(row[0])
