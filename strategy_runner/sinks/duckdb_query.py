"""Answering one analyst's question on a cursor of its own: only reading, never longer than its time, beside the writer."""

import threading
from typing import Any

import duckdb

from strategy_runner.errors import TimeoutExpiredError, UsageError
from strategy_runner.sinks.interface import SinkUnavailable

QUERY_TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 128_000_000  # of values: a router holds an answer several times over until it is sent
_PART_ROWS = 64

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_FILE_TROUBLE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException)


def run_query(
    database: duckdb.DuckDBPyConnection, sql: str, limit: int, timeout_s: float
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and at most `limit` rows. Raises UsageError, TimeoutExpiredError, SinkUnavailable."""
    assert limit > 0
    assert timeout_s > 0
    try:
        with database.cursor() as cursor:
            statement = _single_read(cursor, sql)
            # The transaction is what keeps writing out: WITH ... INSERT and EXPLAIN ANALYZE INSERT look like reading.
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            timer = threading.Timer(timeout_s, cursor.interrupt)
            timer.start()
            try:
                cursor.execute(statement)
                names = [str(column[0]) for column in cursor.description or ()]
                return names, _rows(cursor, limit)
            finally:
                timer.cancel()
                timer.join()  # an interrupt must not meet a closed cursor
    except duckdb.InterruptException as error:
        raise TimeoutExpiredError(f"sql: expected an answer within {timeout_s:g} s, found none: {sql}") from error
    except _FILE_TROUBLE as error:
        raise SinkUnavailable(f"sql: {error}") from error
    except duckdb.Error as error:
        raise UsageError(f"sql: {error}") from error


def _rows(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[tuple[Any, ...]]:
    """Part by part: DuckDB keeps to its own limit meanwhile, and its rows become Python's only as far as they are wanted."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while len(rows) < limit and (part := cursor.fetchmany(min(_PART_ROWS, limit - len(rows)))):
        size += _size(part)
        if size > ANSWER_BYTES_MAX:
            raise UsageError(
                f"sql: expected an answer of at most {ANSWER_BYTES_MAX // 1_000_000} MB, found more; "
                "ask for fewer rows or columns, or for parts of values"
            )
        rows += part
    return rows


def _size(value: Any) -> int:
    """Bytes of a value as it is sent, about."""
    match value:
        case str() | bytes():
            return len(value)
        case list() | tuple():
            return sum(map(_size, value))
        case dict():
            return sum(map(_size, value.items()))
    return 8


def _single_read(cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError(f"sql: expected one statement, found {len(statements)}")
    kind = statements[0].type
    if kind not in _READING:
        raise UsageError(f"sql: expected a statement that only reads (SELECT, EXPLAIN), found {kind.name}")
    return statements[0]
